package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Assess looks at the topics that the sink's template stands for, up to ten, or, if
// there is none yet, at what the cluster gives to a new one.
func (d *kafkaTopic) Assess(ctx context.Context) (driver.Durability, error) {
	out, err := d.assessOn(ctx)
	if err != nil && isBroken(err) { // it may have been idle for long
		out, err = d.assessOn(ctx)
	}
	if err != nil {
		return driver.Durability{}, errors.New(describeKafka(err))
	}
	return out, nil
}

func (d *kafkaTopic) assessOn(ctx context.Context) (driver.Durability, error) {
	link, err := d.connect()
	if err != nil {
		return driver.Durability{}, err
	}
	defer d.release(link)
	out, err := d.assess(ctx, link)
	if err != nil {
		d.drop(link)
	}
	return out, err
}

const maxAssessed = 10

func (d *kafkaTopic) assess(ctx context.Context, link *kafkaLink) (driver.Durability, error) {
	var out driver.Durability
	conn, m, err := d.survey(ctx, link)
	if err != nil {
		return out, err
	}
	d.noteSecurity(&out, conn)
	names := d.mine(m)
	for _, t := range m.topics {
		if kafka.Error(t.code) == kafka.TopicAuthorizationFailed {
			out.Worst("F", "the topic may not be looked at ("+describeKafka(kafka.Error(t.code))+")")
			return out, nil
		}
	}
	if len(names) == 0 {
		return out, d.assessDefaults(ctx, link, m, &out)
	}
	if len(names) > maxAssessed {
		out.Reasons = append(out.Reasons, fmt.Sprintf("only %d of the %d topics were looked at", maxAssessed, len(names)))
		names = names[:maxAssessed]
	}
	var asked []describeconfigs.RequestResource
	for _, n := range names {
		asked = append(asked, describeconfigs.RequestResource{ResourceType: aTopic, ResourceName: n})
	}
	settings, err := describe(ctx, conn, asked)
	if err != nil {
		return out, err
	}
	for _, n := range names {
		about := ""
		if len(names) > 1 {
			about = "topic " + n + ": "
		}
		gradeTopic(&out, about, m.topics[n], settings[n])
	}
	out.Grade = cmp.Or(out.Grade, "A")
	return out, nil
}

// survey asks a broker which topics there are. A name without {app} is asked for
// by itself, since not everybody may see all.
func (d *kafkaTopic) survey(ctx context.Context, link *kafkaLink) (conn *kafkaConn, m *cluster, err error) {
	req := &metadata.Request{} // all, and none is made
	if one := expandTopic(d.config.Topic, string(d.org), "{app}"); isTopic(one) {
		req.TopicNames = []string{one}
	}
	err = link.any(ctx, func(c *kafkaConn) error {
		conn = c
		a, version, err := c.exchange(ctx, time.Time{}, message{req})
		if err == nil {
			m, err = readMetadata(a, version)
		}
		return err
	})
	return conn, m, err
}

// mine lists the topics that the template stands for, in order.
func (d *kafkaTopic) mine(m *cluster) []string {
	template := expandTopic(d.config.Topic, string(d.org), "{app}")
	var out []string
	for name, t := range m.topics {
		if t.code == 0 && !t.internal && matches(template, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	if test := expandTopic(template, "", driver.TestApp); len(out) > 1 {
		out = slices.DeleteFunc(out, func(name string) bool { return name == test }) // no change goes there
	}
	return out
}

// matches reports whether a template makes a name out of some formation's.
func matches(template, name string) bool {
	before, after, found := strings.Cut(template, "{app}")
	if !found {
		return name == template
	}
	app, ok := strings.CutPrefix(name, before)
	if !ok {
		return false
	}
	// With {app} in it several times, what is between must agree.
	for end := len(app); end > 0; end-- {
		if strings.ReplaceAll(after, "{app}", app[:end]) == app[end:] && !strings.Contains(app[:end], ".") {
			return true
		}
	}
	return false
}

// The kinds of things that have settings, by Kafka's numbers.
const (
	aTopic  = 2
	aBroker = 4
)

// described is what a broker tells of a thing's settings.
type described struct {
	code     int16
	settings map[string]string
}

// describe asks for settings. What may not be asked for, or cannot be, has a code.
func describe(ctx context.Context, c *kafkaConn, asked []describeconfigs.RequestResource) (map[string]described, error) {
	a, version, err := c.exchange(ctx, time.Time{}, message{&describeconfigs.Request{Resources: asked}})
	if errors.Is(err, errNotOffered) {
		out := map[string]described{}
		for _, r := range asked {
			out[r.ResourceName] = described{code: int16(kafka.UnsupportedVersion)}
		}
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	return readConfigs(a, version)
}

func readConfigs(a *answer, _ int16) (map[string]described, error) {
	out := map[string]described{}
	a.int32() // throttle
	for range a.count() {
		d := described{code: a.int16(), settings: map[string]string{}}
		a.string() // what is wrong
		a.bytes(1) // which kind of thing
		name := a.string()
		for range a.count() {
			key := a.string()
			d.settings[key] = a.string()
			a.bytes(3) // read-only, from where, secret
			for range a.count() {
				a.string() // name, value and source of what it overrides
				a.string()
				a.bytes(1)
				if a.err != nil {
					break
				}
			}
			if a.err != nil {
				return nil, a.err
			}
		}
		if a.err != nil {
			return nil, a.err
		}
		out[name] = d
	}
	return out, a.err
}

// gradeTopic lowers the grade by what is known of one topic.
func gradeTopic(out *driver.Durability, about string, t topic, d described) {
	replicas, sync := 1<<30, 1<<30
	for _, p := range t.partitions {
		replicas, sync = min(replicas, p.replicas), min(sync, p.sync)
	}
	gradeSettings(out, about, replicas, d)
	if sync < replicas {
		out.Reasons = append(out.Reasons, fmt.Sprintf("%sonly %d of %d replicas are up to date now", about, sync, replicas))
	}
	if replicas == 1<<30 {
		out.Worst("F", about+"it has no partitions")
	}
}

// gradeSettings grades what acks=all means with these settings. Flushing to the
// disk counts for one replica alone: with more, another machine has the event.
func gradeSettings(out *driver.Durability, about string, replicas int, d described) {
	worst := func(g driver.Grade, format string, args ...any) { out.Worst(g, about+fmt.Sprintf(format, args...)) }
	if d.code != 0 {
		out.Reasons = append(out.Reasons, about+"the settings may not be asked for, so min.insync.replicas is taken for 1, and what is deleted when is not known ("+
			describeKafka(kafka.Error(d.code))+")")
	}
	number := func(name string, otherwise int64) int64 {
		if n, err := strconv.ParseInt(d.settings[name], 10, 64); err == nil {
			return n
		}
		return otherwise
	}
	// A broker asks for no more than there are.
	least := min(int(number("min.insync.replicas", 1)), replicas)
	switch {
	case replicas == 1 && number("flush.messages", 1<<62) == 1:
		worst("C", "one machine has each event, on its disk; if that is lost, so are the events")
	case replicas == 1:
		worst("D", "one machine has each event, and not yet on its disk; if it loses power, so are the last events, and with the machine all of them")
	case least <= 1:
		worst("C", "min.insync.replicas is 1, so an event counts as delivered when one machine has it and the others lag behind")
	case replicas == 2:
		worst("B", "there are two replicas; while one is away nothing is taken")
	}
	if replicas > 1 && d.settings["unclean.leader.election.enable"] == "true" {
		worst("D", "unclean.leader.election.enable: a replica that lags behind may become the leader, and what it lacks is lost")
	}
	gradeRetention(worst, d, number)
}

// gradeRetention looks at what is deleted whether or not anybody has read it.
func gradeRetention(worst func(driver.Grade, string, ...any), d described, number func(string, int64) int64) {
	policy := d.settings["cleanup.policy"]
	if strings.Contains(policy, "compact") {
		worst("E", "cleanup.policy is %s: of each document only the last event is kept", policy)
	}
	if policy != "" && !strings.Contains(policy, "delete") {
		return
	}
	const centuries = 1 << 43 // more does not fit into a time.Duration
	switch keeps := time.Duration(min(number("retention.ms", -1), centuries)) * time.Millisecond; {
	case keeps < 0:
	case keeps < time.Hour:
		worst("E", "retention.ms: an event is deleted after %s, read or not", keeps)
	case keeps < 24*time.Hour:
		worst("D", "retention.ms: an event is deleted after %s; a consumer may be away for longer", keeps)
	case keeps < 72*time.Hour:
		worst("B", "retention.ms: an event is deleted after %s; a consumer may be away for a weekend", keeps)
	}
	if bytes := number("retention.bytes", -1); bytes >= 0 {
		worst("C", "retention.bytes: the oldest events of a partition are deleted from %d bytes on, read or not", bytes)
	}
}

// assessDefaults grades what a topic would be like that the cluster makes.
func (d *kafkaTopic) assessDefaults(ctx context.Context, link *kafkaLink, m *cluster, out *driver.Durability) error {
	id, ok := firstBroker(m)
	if !ok {
		return errAnswer
	}
	name := strconv.Itoa(int(id))
	settings, err := describe(ctx, link.conn(m.brokers[id]), []describeconfigs.RequestResource{{ResourceType: aBroker, ResourceName: name}})
	if err != nil {
		return err
	}
	broker := settings[name]
	if broker.code != 0 {
		out.Worst("F", "there is no topic of that name yet, and what a new one would be like may not be asked for ("+describeKafka(kafka.Error(broker.code))+")")
		return nil
	}
	if broker.settings["auto.create.topics.enable"] == "false" {
		out.Worst("F", "there is no topic of that name, and the cluster makes none by itself")
		return nil
	}
	replicas, err := strconv.Atoi(broker.settings["default.replication.factor"])
	if err != nil {
		replicas = 1
	}
	gradeSettings(out, "", max(1, replicas), asTopic(broker))
	out.Reasons = append(out.Reasons, "there is no topic of that name yet; this is what the cluster makes")
	out.Grade = cmp.Or(out.Grade, "A")
	return nil
}

func firstBroker(m *cluster) (int32, bool) {
	ids := slices.Sorted(maps.Keys(m.brokers))
	if len(ids) == 0 {
		return 0, false
	}
	return ids[0], true
}

// asTopic renames a broker's settings to those of a topic that takes them over.
func asTopic(broker described) described {
	s := maps.Clone(broker.settings)
	s["flush.messages"], s["retention.bytes"], s["cleanup.policy"] = s["log.flush.interval.messages"], s["log.retention.bytes"], s["log.cleanup.policy"]
	s["retention.ms"] = s["log.retention.ms"]
	if minutes, err := strconv.ParseInt(s["log.retention.minutes"], 10, 64); err == nil && s["retention.ms"] == "" {
		s["retention.ms"] = strconv.FormatInt(minutes*60_000, 10)
	}
	if hours, err := strconv.ParseInt(s["log.retention.hours"], 10, 64); err == nil && s["retention.ms"] == "" {
		s["retention.ms"] = strconv.FormatInt(hours*3_600_000, 10)
	}
	return described{settings: s}
}

// noteSecurity says what is to be said of the way there. No grade follows from it.
func (d *kafkaTopic) noteSecurity(out *driver.Durability, conn *kafkaConn) {
	if d.dialer.tls == nil {
		said := "the connection is not encrypted"
		if d.config.SASL != nil && d.config.SASL.Mechanism == "plain" {
			said += ", and the password travels readable"
		}
		out.Reasons = append(out.Reasons, said)
		return
	}
	conn.state.Lock()
	defer conn.state.Unlock()
	if secured, ok := conn.conn.(*tls.Conn); ok {
		d.config.TLS.Options.Note(out, secured.ConnectionState(), d.now())
	}
}
