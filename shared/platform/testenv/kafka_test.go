package testenv

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

var shared SharedKafka

func kafkaClient(t testing.TB, address string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append(opts, kgo.SeedBrokers(address), kgo.RequestRetries(0))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func produce(t testing.TB, cl *kgo.Client, topic, value string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		return err // a producer that is turned away would try for long
	}
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr()
}

// consume reads as many values as are wanted.
func consume(t testing.TB, k *KafkaServer, topic string, want int) []string {
	t.Helper()
	cl := kafkaClient(t, k.Plaintext, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []string
	for len(got) < want && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func TestKafkaDoors(t *testing.T) {
	k := shared.Get(t)
	good, bad := scram.Auth{User: k.User, Pass: k.Password}, scram.Auth{User: k.User, Pass: "wrong"}
	trusts := kgo.DialTLSConfig(&tls.Config{RootCAs: k.Authority.Pool(), MinVersion: tls.VersionTLS12})
	stranger := NewAuthority(t).Client(t, "stranger")
	stranger.RootCAs = k.Authority.Pool()

	k.Topic(t, "doors", 1)
	var want []string
	for _, tc := range []struct {
		name    string
		address string
		opts    []kgo.Opt
		in      bool
	}{
		{"in the open", k.Plaintext, nil, true},
		{"PLAIN", k.SASL, []kgo.Opt{kgo.SASL(plain.Auth{User: k.User, Pass: k.Password}.AsMechanism())}, true},
		{"PLAIN with a wrong password", k.SASL, []kgo.Opt{kgo.SASL(plain.Auth{User: k.User, Pass: "wrong"}.AsMechanism())}, false},
		{"SCRAM-SHA-256", k.SASL, []kgo.Opt{kgo.SASL(good.AsSha256Mechanism())}, true},
		{"SCRAM-SHA-512", k.SASL, []kgo.Opt{kgo.SASL(good.AsSha512Mechanism())}, true},
		{"SCRAM with a wrong password", k.SASL, []kgo.Opt{kgo.SASL(bad.AsSha512Mechanism())}, false},
		{"SASL without a password", k.SASL, nil, false},
		{"TLS", k.TLS, []kgo.Opt{trusts}, true},
		{"TLS that does not trust the authority", k.TLS, []kgo.Opt{kgo.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12})}, false},
		{"TLS with a certificate", k.MutualTLS, []kgo.Opt{kgo.DialTLSConfig(k.Authority.Client(t, "sink"))}, true},
		{"TLS that lacks a certificate", k.MutualTLS, []kgo.Opt{trusts}, false},
		{"TLS with a stranger's certificate", k.MutualTLS, []kgo.Opt{kgo.DialTLSConfig(stranger)}, false},
		{"SCRAM in TLS", k.SASLTLS, []kgo.Opt{trusts, kgo.SASL(good.AsSha256Mechanism())}, true},
		{"TLS without a password", k.SASLTLS, []kgo.Opt{trusts}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := produce(t, kafkaClient(t, tc.address, tc.opts...), "doors", tc.name)
			if (err == nil) != tc.in {
				t.Errorf("%v", err)
			}
		})
		if tc.in {
			want = append(want, tc.name)
		}
	}
	if got := consume(t, k, "doors", len(want)); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestKafkaSetPassword(t *testing.T) {
	k := shared.Get(t)
	k.Topic(t, "passwords", 1)
	k.SetPassword(t, "other", "one")
	k.SetPassword(t, "other", "two")
	for password, in := range map[string]bool{"one": false, "two": true} {
		cl := kafkaClient(t, k.SASL, kgo.SASL(scram.Auth{User: "other", Pass: password}.AsSha512Mechanism()))
		if err := produce(t, cl, "passwords", "x"); (err == nil) != in {
			t.Errorf("with password %s: %v", password, err)
		}
	}
}

func TestKafkaTopicSettings(t *testing.T) {
	k := shared.Get(t)
	k.Topic(t, "small", 3, "max.message.bytes=1000")
	cl := kafkaClient(t, k.Plaintext, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for size, in := range map[int]bool{100: true, 2000: false} {
		if err := produce(t, cl, "small", fmt.Sprintf("%0*d", size, 0)); (err == nil) != in {
			t.Errorf("with %d bytes: %v", size, err)
		}
	}
}

func TestSharedKafkaIsStartedOnce(t *testing.T) {
	if a, b := shared.Get(t), shared.Get(t); a != b {
		t.Errorf("%s and %s", a.Plaintext, b.Plaintext)
	}
}

func TestKafkaKeepsItsData(t *testing.T) {
	k := Kafka(t, "auto.create.topics.enable=false", "message.max.bytes=5000")
	address := k.Plaintext
	if err := produce(t, kafkaClient(t, address, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0)), "absent", "x"); err == nil {
		t.Error("a topic was made that nobody may make")
	}
	k.Topic(t, "kept", 1)
	var want []string
	for _, how := range []struct {
		step string
		end  func()
	}{{"killed", k.Kill}, {"stopped", k.Stop}} {
		step := how.step
		if err := produce(t, kafkaClient(t, address), "kept", step); err != nil {
			t.Fatal(err)
		}
		want = append(want, step)
		how.end()
		if err := produce(t, kafkaClient(t, address), "kept", "while away"); err == nil {
			t.Fatalf("%s, and it takes records", step)
		}
		since := time.Now()
		k.Restart(t)
		t.Logf("%s, and back after %s", step, time.Since(since).Round(time.Millisecond))
		if got := consume(t, k, "kept", len(want)); !slices.Equal(got, want) {
			t.Fatalf("%s: %q, not %q", step, got, want)
		}
		if k.Plaintext != address {
			t.Fatalf("it moved from %s to %s", address, k.Plaintext)
		}
		login := kgo.SASL(scram.Auth{User: k.User, Pass: k.Password}.AsSha256Mechanism())
		if err := kafkaClient(t, k.SASL, login).Ping(t.Context()); err != nil {
			t.Fatalf("%s, and the password is forgotten: %v", step, err)
		}
	}
}

func waitGone(t testing.TB, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := until(ctx, func(context.Context) error {
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%s is still there", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
