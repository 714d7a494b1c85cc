package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// ids lists the events of a topic by document, in order, each as often as it is there.
func ids(t testing.TB, address, topic string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, r := range records(t, address, topic) {
		e := receivedOf(r, drivertest.Key)
		out[e.Document] = append(out[e.Document], e.ID)
	}
	return out
}

// Every way in, each with what must not be let in.
func TestBrokerDoors(t *testing.T) {
	k := broker.Get(t)
	topic := topicFor(t, k, 3)
	ca := string(k.Authority.PEM)
	cert, key := k.Authority.Issue(t, "sink")
	strange, strangeKey := testenv.NewAuthority(t).Issue(t, "stranger")
	login := func(mechanism, password string) fields {
		return fields{"mechanism": mechanism, "username": k.User, "password": password}
	}
	cases := map[string]struct {
		address string
		tls     any
		sasl    fields
		denied  string // what is said; empty: it works
	}{
		"in the open":                  {k.Plaintext, nil, nil, ""},
		"a private authority":          {k.TLS, fields{"ca_pem": ca}, nil, ""},
		"an authority of the system's": {k.TLS, true, nil, "signed by nobody who is trusted"},
		"another name":                 {k.TLS, fields{"ca_pem": ca, "server_name": "kafka.example.com"}, nil, "for another name"},
		"its other name":               {k.TLS, fields{"ca_pem": ca, "server_name": "localhost"}, nil, ""},
		"our certificate":              {k.MutualTLS, fields{"ca_pem": ca, "client_cert_pem": string(cert), "client_key_pem": string(key)}, nil, ""},
		"no certificate of ours":       {k.MutualTLS, fields{"ca_pem": ca}, nil, "tls: "},
		"a stranger's certificate":     {k.MutualTLS, fields{"ca_pem": ca, "client_cert_pem": string(strange), "client_key_pem": string(strangeKey)}, nil, "tls: "},
		"no password":                  {k.SASL, nil, nil, "closed the connection"},
	}
	for _, m := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		cases[m] = struct {
			address string
			tls     any
			sasl    fields
			denied  string
		}{k.SASL, nil, login(m, k.Password), ""}
		cases[m+" in tls"] = struct {
			address string
			tls     any
			sasl    fields
			denied  string
		}{k.SASLTLS, fields{"ca_pem": ca}, login(m, k.Password), ""}
		cases[m+", a wrong password"] = struct {
			address string
			tls     any
			sasl    fields
			denied  string
		}{k.SASLTLS, fields{"ca_pem": ca}, login(m, "wrong"), "authentication failed"}
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			tc := cases[name]
			config := fields{"brokers": []string{tc.address}, "topic": topic}
			if tc.tls != nil {
				config["tls"] = tc.tls
			}
			if tc.sasl != nil {
				config["sasl"] = tc.sasl
			}
			d := openByConfig(t, config, driver.Settings{})
			outs := d.Deliver(t.Context(), drivertest.Events(name+"/1", name+"/2"), drivertest.Soon())
			if tc.denied == "" {
				drivertest.WantDelivered(t, outs)
				return
			}
			if drivertest.Verdicts(outs) != "ru" || !outs[0].Unreachable || !strings.Contains(outs[0].Reason, tc.denied) {
				t.Errorf("%+v", outs)
			}
		})
	}
	got := ids(t, k.Plaintext, topic)
	for name, tc := range cases {
		want := []string{"id-" + name + "/1", "id-" + name + "/2"}
		if tc.denied != "" {
			want = nil
		}
		if !slices.Equal(got[name], want) {
			t.Errorf("%s: %q", name, got[name])
		}
	}
}

// Who is in stays in when the password changes; the old one lets nobody in.
func TestBrokerPasswordChanges(t *testing.T) {
	k := broker.Get(t)
	topic := topicFor(t, k, 1)
	k.SetPassword(t, "rotating", "one")
	with := func(password string) *kafkaTopic {
		return openByConfig(t, fields{
			"brokers": []string{k.SASL}, "topic": topic,
			"sasl": fields{"mechanism": "scram-sha-512", "username": "rotating", "password": password},
		}, driver.Settings{})
	}
	open := with("one")
	drivertest.DeliverAll(t, open, "a/1")
	k.SetPassword(t, "rotating", "two")
	drivertest.DeliverAll(t, open, "a/2")
	if outs := with("one").Deliver(t.Context(), drivertest.Events("a/3"), drivertest.Soon()); drivertest.Verdicts(outs) != "r" || !strings.Contains(outs[0].Reason, "authentication failed") {
		t.Errorf("%+v", outs)
	}
	drivertest.DeliverAll(t, with("two"), "a/3")
	if got := ids(t, k.Plaintext, topic)["a"]; !slices.Equal(got, []string{"id-a/1", "id-a/2", "id-a/3"}) {
		t.Errorf("%q", got)
	}
}

// A topic that the cluster makes when it is asked for takes the first batch.
func TestBrokerMakesTheTopic(t *testing.T) {
	k := broker.Get(t)
	d := openByConfig(t, plainly(k, "made.{org}.{app}"), driver.Settings{})
	drivertest.DeliverAll(t, d, "a/1", "b/1", "a/2")
	if got := ids(t, k.Plaintext, "made.acme.logistics"); len(got["a"]) != 2 || len(got["b"]) != 1 {
		t.Errorf("%q", got)
	}
}

func TestBrokerTopicIsDeletedUnderneath(t *testing.T) {
	k := broker.Get(t)
	topic := topicFor(t, k, 1)
	d := openByConfig(t, plainly(k, topic), driver.Settings{})
	drivertest.DeliverAll(t, d, "a/1", "b/1")
	deleteTopic(t, k, topic)
	drivertest.DeliverAll(t, d, "a/2", "b/2", "a/3") // to one that the cluster has made
	if got := ids(t, k.Plaintext, topic); !slices.Equal(got["a"], []string{"id-a/2", "id-a/3"}) || !slices.Equal(got["b"], []string{"id-b/2"}) {
		t.Errorf("%q", got)
	}
}

func deleteTopic(t testing.TB, k *testenv.KafkaServer, topic string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Plaintext))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrDeleteTopicsRequest()
	named := kmsg.NewDeleteTopicsRequestTopic()
	named.Topic = &topic
	req.Topics, req.TopicNames, req.TimeoutMillis = append(req.Topics, named), []string{topic}, 30_000
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestBrokerRefusesWhatIsTooLarge(t *testing.T) {
	k := broker.Get(t)
	topic := topicFor(t, k, 2, "max.message.bytes=5000")
	d := openByConfig(t, plainly(k, topic), driver.Settings{})
	var names []string
	for n := range 64 {
		names = append(names, fmt.Sprintf("d%d/%d", n%8, n))
	}
	batch := drivertest.Events(names...)
	batch[20] = drivertest.Swell(batch[20], 6000)
	outs := d.Deliver(t.Context(), batch, drivertest.Soon())
	want := []byte(strings.Repeat("d", 64))
	want[20] = 'R'
	for n := 28; n < 64; n += 8 {
		want[n] = 'u'
	}
	if got := drivertest.Verdicts(outs); got != string(want) || !strings.Contains(outs[20].Reason, "too large") {
		t.Errorf("%s, not %s: %+v", got, want, outs[20])
	}
	if n := len(records(t, k.Plaintext, topic)); n != strings.Count(string(want), "d") {
		t.Errorf("%d records", n)
	}
}

// Answers are lost again and again; the broker tells what it has already, so that
// nothing is there twice.
func TestBrokerDropsWhatIsSentAgain(t *testing.T) {
	proxy := drivertest.NewProxy(t, "127.0.0.1:1")
	k := testenv.KafkaBehind(t, proxy.Addr())
	proxy.Target(k.Behind)
	const topic = "again"
	k.Topic(t, topic, 3)
	d := openByConfig(t, fields{
		"brokers": []string{proxy.Addr()}, "topic": topic,
		"sasl": fields{"mechanism": "plain", "username": k.User, "password": k.Password},
	}, driver.Settings{AttemptTimeout: 5 * time.Second})
	sent := map[string][]string{}
	n := 0
	batch := func() (out []driver.Event) {
		for i := range 30 {
			n++
			e := drivertest.Events(fmt.Sprintf("d%d/%d", i%5, n))[0]
			sent[e.Document] = append(sent[e.Document], e.ID)
			out = append(out, e)
		}
		return out
	}
	drivertest.WantDelivered(t, d.Deliver(t.Context(), batch(), drivertest.Soon()))
	// In one delivery.
	proxy.CutAnswers(0)
	drivertest.WantDelivered(t, d.Deliver(t.Context(), batch(), drivertest.Soon()))
	if proxy.Cuts() == 0 {
		t.Error("no answer was lost")
	}
	// From one delivery to the next: the first is called off when its request is under
	// way, which reaches the broker later.
	for range 3 {
		proxy.Hang()
		b := batch()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { <-proxy.Held(); cancel() })
		if outs := d.Deliver(ctx, b, drivertest.Soon()); strings.Trim(drivertest.Verdicts(outs), "u") != "" {
			t.Errorf("%s", drivertest.Verdicts(outs))
		}
		wg.Wait()
		cancel()
		proxy.Heal()
		drivertest.WantDelivered(t, d.Deliver(t.Context(), append(b, batch()...), drivertest.Soon()))
	}
	// Killed after it had the batch, and back with what it remembers.
	b := batch()
	proxy.OnRequests(2000, k.Kill)
	outs := d.Deliver(t.Context(), b, drivertest.Soon())
	k.Restart(t)
	proxy.Heal()
	var rest []driver.Event
	for i, o := range outs {
		if o.Verdict != driver.Delivered {
			rest = append(rest, b[i])
		}
	}
	for len(rest) > 0 && t.Context().Err() == nil {
		outs := d.Deliver(t.Context(), rest, drivertest.Soon())
		var left []driver.Event
		for i, o := range outs {
			if o.Verdict != driver.Delivered {
				left = append(left, rest[i])
			}
		}
		rest = left
	}
	got := ids(t, k.Plaintext, topic)
	for document, want := range sent {
		if !slices.Equal(got[document], want) {
			t.Errorf("%s has %q, not %q", document, got[document], want)
		}
	}
}
