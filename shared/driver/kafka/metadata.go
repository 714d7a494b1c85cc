package kafka

import (
	"net"
	"strconv"

	"github.com/segmentio/kafka-go"
)

// cluster is what a broker says of topics and of who is there.
type cluster struct {
	brokers    map[int32]string // address by id
	controller int32
	topics     map[string]topic
}

type topic struct {
	code       int16
	internal   bool
	partitions map[int32]leadership
}

type leadership struct {
	leader         int32
	replicas, sync int // how many there are, and how many of them are up to date
}

func readMetadata(a *answer, version int16) (*cluster, error) {
	a.int32() // throttle
	m := &cluster{brokers: map[int32]string{}, topics: map[string]topic{}}
	for range a.count() {
		id, host, port := a.int32(), a.string(), a.int32()
		a.string() // rack
		m.brokers[id] = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	a.string() // cluster
	m.controller = a.int32()
	for range a.count() {
		t := topic{code: a.int16(), partitions: map[int32]leadership{}}
		name := a.string()
		if internal := a.bytes(1); internal != nil {
			t.internal = internal[0] != 0
		}
		for range a.count() {
			a.int16() // without a leader, which shows below
			n, p := a.int32(), leadership{leader: a.int32()}
			if version >= 7 {
				a.int32() // epoch
			}
			p.replicas = len(a.bytes(4*a.count())) / 4
			p.sync = len(a.bytes(4*a.count())) / 4
			if version >= 5 {
				a.bytes(4 * a.count()) // offline
			}
			t.partitions[n] = p
		}
		if version >= 8 {
			a.int32() // what we may do with it
		}
		m.topics[name] = t
		if a.err != nil {
			break
		}
	}
	return m, a.err
}

// only is what is wrong with an answer on one topic alone.
func (m *cluster) only(name string) error {
	t, ok := m.topics[name]
	switch {
	case !ok || len(m.topics) != 1:
		return errAnswer
	case t.code != 0:
		return kafka.Error(t.code)
	case len(t.partitions) == 0:
		return kafka.LeaderNotAvailable
	}
	for n := range int32(len(t.partitions)) { //nolint:gosec // as many as there is room for in an answer
		if _, ok := t.partitions[n]; !ok {
			return errAnswer
		}
	}
	return nil
}

// leaders lists the addresses of a topic's leaders by partition; empty where there
// is none.
func (m *cluster) leaders(name string) []string {
	partitions := m.topics[name].partitions
	out := make([]string, len(partitions))
	for n := range out {
		out[n] = m.brokers[partitions[int32(n)].leader] //nolint:gosec // as above
	}
	return out
}

// readProduced reads what became of each partition's records.
func readProduced(a *answer, version int16) (map[place]int16, error) {
	out := map[place]int16{}
	for range a.count() {
		name := a.string()
		for range a.count() {
			at := place{name, a.int32()}
			code := a.int16()
			a.bytes(16) // offset and time
			if version >= 5 {
				a.bytes(8) // where the log begins
			}
			if version >= 8 {
				for range a.count() {
					a.int32()
					a.string()
				}
				a.string()
			}
			if a.err != nil {
				return nil, a.err
			}
			out[at] = code
		}
	}
	a.int32() // throttle
	return out, a.err
}
