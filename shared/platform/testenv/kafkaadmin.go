package testenv

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// patience is how long the broker may take for anything but starting.
const patience = 30 * time.Second

// Topic makes a topic and waits until it can be written to. Settings are those of
// the topic, for example "max.message.bytes=1000".
func (k *KafkaServer) Topic(t testing.TB, name string, partitions int32, settings ...string) {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for _, s := range settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		key, value, _ := strings.Cut(s, "=")
		c.Name, c.Value = key, &value
		topic.Configs = append(topic.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = int32(patience.Milliseconds()), append(req.Topics, topic)
	k.ask(t, "make topic "+name, func(ctx context.Context, cl *kgo.Client) error {
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	})
	// The controller answers; the broker learns of it a moment later.
	k.ask(t, "find topic "+name, func(ctx context.Context, cl *kgo.Client) error {
		return until(ctx, func(ctx context.Context) error { return hasLeaders(ctx, cl, name) })
	})
}

func hasLeaders(ctx context.Context, cl *kgo.Client, name string) error {
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return err
	}
	for _, p := range resp.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return err
		}
	}
	return nil
}

// SetPassword gives a user another password, for both kinds of SCRAM; a user that
// is not there is made. PLAIN knows User and Password alone.
func (k *KafkaServer) SetPassword(t testing.TB, user, password string) {
	t.Helper()
	auth := scram.Auth{User: user, Pass: password}
	k.setPassword(t, auth, 1, sha256.New, kgo.SASL(auth.AsSha256Mechanism()))
	k.setPassword(t, auth, 2, sha512.New, kgo.SASL(auth.AsSha512Mechanism()))
}

func (k *KafkaServer) setPassword(t testing.TB, auth scram.Auth, mechanism int8, sum func() hash.Hash, login kgo.Opt) {
	t.Helper()
	u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	u.Name, u.Mechanism, u.Iterations, u.Salt = auth.User, mechanism, 4096, make([]byte, 16)
	_, _ = rand.Read(u.Salt) // never fails
	var err error
	if u.SaltedPassword, err = pbkdf2.Key(sum, auth.Pass, u.Salt, int(u.Iterations), sum().Size()); err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	req.Upsertions = append(req.Upsertions, u)
	k.ask(t, "set a password", func(ctx context.Context, cl *kgo.Client) error {
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.Results[0].ErrorCode)
	})
	// The controller answers; the broker learns of it a moment later.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = until(ctx, func(ctx context.Context) error {
		return k.with(k.SASL, func(cl *kgo.Client) error { return cl.Ping(ctx) }, login)
	})
	if err != nil {
		t.Fatalf("kafka: a new password is not taken over: %v", err)
	}
}

// answers waits until the broker counts itself among those that work.
func (k *KafkaServer) answers(ctx context.Context) error {
	return k.with(k.Plaintext, func(cl *kgo.Client) error {
		return until(ctx, func(ctx context.Context) error {
			resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
			if err == nil && len(resp.Brokers) == 0 {
				err = errors.New("the broker is not let in yet")
			}
			return err
		})
	})
}

func (k *KafkaServer) ask(t testing.TB, what string, f func(context.Context, *kgo.Client) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := k.with(k.Plaintext, func(cl *kgo.Client) error { return f(ctx, cl) }); err != nil {
		t.Fatalf("kafka: %s: %v", what, err)
	}
}

func (k *KafkaServer) with(address string, f func(*kgo.Client) error, more ...kgo.Opt) error {
	cl, err := kgo.NewClient(append(more, kgo.SeedBrokers(address), kgo.RequestRetries(0))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return f(cl)
}

// until tries again till it works or ctx ends.
func until(ctx context.Context, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
