package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

func TestGrades(t *testing.T) {
	for name, tc := range map[string]struct {
		replicas, sync int
		settings       string
		code           int16
		grade          driver.Grade
		says           string
	}{
		"as it should be":        {3, 3, "min.insync.replicas=2 retention.ms=604800000 retention.bytes=-1 cleanup.policy=delete", 0, "", ""},
		"kept for ever":          {3, 3, "min.insync.replicas=3 retention.ms=-1", 0, "", ""},
		"kept for millennia":     {3, 3, "min.insync.replicas=2 retention.ms=9223372036854775807", 0, "", ""},
		"one lags":               {3, 2, "min.insync.replicas=2", 0, "", "only 2 of 3 replicas"},
		"two":                    {2, 2, "min.insync.replicas=2", 0, "B", "nothing is taken"},
		"one is enough":          {3, 3, "min.insync.replicas=1", 0, "C", "min.insync.replicas is 1"},
		"one":                    {1, 1, "min.insync.replicas=1", 0, "D", "loses power"},
		"one that should be two": {1, 1, "min.insync.replicas=2", 0, "D", "loses power"},
		"one that flushes":       {1, 1, "flush.messages=1", 0, "C", "on its disk"},
		"flushing, and three":    {3, 3, "min.insync.replicas=1 flush.messages=1", 0, "C", "min.insync.replicas"},
		"an unclean leader":      {3, 3, "min.insync.replicas=2 unclean.leader.election.enable=true", 0, "D", "unclean"},
		"unclean, and alone":     {1, 1, "unclean.leader.election.enable=true flush.messages=1", 0, "C", "on its disk"},
		"for two days":           {3, 3, "min.insync.replicas=2 retention.ms=172800000", 0, "B", "48h0m0s"},
		"for two hours":          {3, 3, "min.insync.replicas=2 retention.ms=7200000", 0, "D", "2h0m0s"},
		"for a minute":           {3, 3, "min.insync.replicas=2 retention.ms=60000", 0, "E", "1m0s"},
		"by size":                {3, 3, "min.insync.replicas=2 retention.bytes=1000", 0, "C", "1000 bytes"},
		"compacted":              {3, 3, "min.insync.replicas=2 cleanup.policy=compact retention.ms=60000", 0, "E", "only the last event"},
		"compacted and deleted":  {3, 3, "min.insync.replicas=2 cleanup.policy=compact,delete", 0, "E", "only the last event"},
		"not told":               {3, 3, "", 29, "C", "may not be asked"},
		"no partitions":          {0, 0, "min.insync.replicas=2", 0, "F", "no partitions"},
	} {
		t.Run(name, func(t *testing.T) {
			d := described{code: tc.code, settings: map[string]string{}}
			for _, s := range strings.Fields(tc.settings) {
				key, value, _ := strings.Cut(s, "=")
				d.settings[key] = value
			}
			about := topic{partitions: map[int32]leadership{}}
			if tc.replicas > 0 {
				about.partitions[0] = leadership{replicas: tc.replicas, sync: tc.sync}
				about.partitions[1] = leadership{replicas: 5, sync: 5}
			}
			var got driver.Durability
			gradeTopic(&got, "", about, d)
			said := strings.Join(got.Reasons, "; ")
			if got.Grade != tc.grade || (tc.says == "") != (said == "") || !strings.Contains(said, tc.says) {
				t.Errorf("%q: %s", got.Grade, said)
			}
		})
	}
}

func TestTemplatesFindTheirTopics(t *testing.T) {
	for name, tc := range map[string]struct {
		template, topic string
		want            bool
	}{
		"by name":           {"peat", "peat", true},
		"another":           {"peat", "peat2", false},
		"of a formation":    {"peat.{app}", "peat.logistics", true},
		"in the middle":     {"peat.{app}.v1", "peat.logistics.v1", true},
		"of nobody":         {"peat.{app}", "peat.", false},
		"longer":            {"peat.{app}", "peat.a.b", false},
		"twice":             {"{app}-{app}", "a-a", true},
		"twice, not agreed": {"{app}-{app}", "a-b", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := matches(tc.template, tc.topic); got != tc.want {
				t.Error(got)
			}
		})
	}
}

func assessed(t *testing.T, d *kafkaTopic) (grade driver.Grade, said string) {
	t.Helper()
	got, err := d.Assess(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got.Grade, strings.Join(got.Reasons, "; ")
}

// A real broker, which is one machine.
func TestAssessTheBroker(t *testing.T) {
	k := broker.Get(t)
	k.Topic(t, "assess.usual", 2)
	k.Topic(t, "assess.flushed", 1, "flush.messages=1", "min.insync.replicas=2")
	k.Topic(t, "assess.brief", 1, "retention.ms=60000")
	tls := fields{"ca_pem": string(k.Authority.PEM)}
	for name, tc := range map[string]struct {
		config fields
		grade  driver.Grade
		says   []string
		not    string
	}{
		"as it comes": {plainly(k, "assess.usual"), "D", []string{"loses power", "not encrypted"}, "readable"},
		"flushed":     {plainly(k, "assess.flushed"), "C", []string{"on its disk"}, "power"},
		"brief":       {plainly(k, "assess.brief"), "E", []string{"1m0s", "loses power"}, ""},
		"all":         {plainly(k, "assess.{app}"), "E", []string{"topic assess.brief: ", "topic assess.flushed: ", "topic assess.usual: "}, "no topic"},
		"none yet":    {plainly(k, "assess.nothing"), "D", []string{"no topic of that name yet", "loses power"}, ""},
		"with a password": {
			fields{"brokers": []string{k.SASL}, "topic": "assess.usual", "sasl": fields{"mechanism": "plain", "username": k.User, "password": k.Password}},
			"D", []string{"readable"}, k.Password,
		},
		"encrypted": {fields{"brokers": []string{k.TLS}, "topic": "assess.usual", "tls": tls}, "D", []string{"certificate expires"}, "encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			grade, said := assessed(t, openByConfig(t, tc.config, driver.Settings{}))
			if grade != tc.grade || tc.not != "" && strings.Contains(said, tc.not) {
				t.Errorf("%s: %s", grade, said)
			}
			for _, s := range tc.says {
				if !strings.Contains(said, s) {
					t.Errorf("nothing of %q: %s", s, said)
				}
			}
		})
	}
	if n := count(t.Context(), t, k.Plaintext, []string{"assess.usual"}); n != 0 {
		t.Errorf("%d records were written", n)
	}
	d := openByConfig(t, fields{"brokers": []string{"127.0.0.1:1"}, "topic": "x"}, driver.Settings{})
	if _, err := d.Assess(t.Context()); err == nil || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("nobody is there: %v", err)
	}
}

// A cluster of three, as far as it is one.
func TestAssessACluster(t *testing.T) {
	const describeConfigs = 32
	denied := func(in kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the fake's order
		resp := in.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range in.(*kmsg.DescribeConfigsRequest).Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode = asked.ResourceType, asked.ResourceName, 29
			resp.Resources = append(resp.Resources, r)
		}
		return resp, nil, true
	}
	for name, tc := range map[string]struct {
		settings map[string]string
		topic    string
		denied   bool
		grade    driver.Grade
		says     string
	}{
		"two must have it":     {map[string]string{"min.insync.replicas": "2"}, "acme.logistics", false, "A", ""},
		"one is enough":        {map[string]string{"min.insync.replicas": "1"}, "acme.logistics", false, "C", "min.insync.replicas is 1"},
		"by the template":      {map[string]string{"min.insync.replicas": "2"}, "{org}.{app}", false, "A", ""},
		"not told":             {nil, "acme.logistics", true, "C", "may not be asked"},
		"not there, none made": {map[string]string{"auto.create.topics.enable": "false"}, "other", false, "F", "makes none"},
		"not there and denied": {nil, "other", true, "F", "may not be asked"},
		"not there, but made":  {map[string]string{"auto.create.topics.enable": "true", "default.replication.factor": "3", "min.insync.replicas": "2"}, "other", false, "A", "no topic of that name yet"},
		"another formation's":  {map[string]string{"auto.create.topics.enable": "false"}, "{org}.other.{app}", false, "F", "makes none"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startKafka(t, kfake.BrokerConfigs(tc.settings))
			if tc.denied {
				c.ControlKey(describeConfigs, denied)
			}
			d := openTestKafka(t, kafkaConfig{Brokers: c.ListenAddrs(), Topic: tc.topic}, "", driver.Settings{AllowPrivate: drivertest.Loopback, Now: time.Now})
			grade, said := assessed(t, d)
			if grade != tc.grade || !strings.Contains(said, tc.says) {
				t.Errorf("%s: %s", grade, said)
			}
		})
	}
}
