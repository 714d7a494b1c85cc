package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ensureStream makes the stream if it is not there, and otherwise looks whether our
// events go into it and stay there. What is there is never changed: others may
// live by it.
func (d *natsStream) ensureStream(ctx context.Context, js jetstream.JetStream) (*jetstream.StreamInfo, error) {
	stream, err := js.Stream(ctx, d.config.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, d.streamConfig())
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = js.Stream(ctx, d.config.Stream) // made by another replica a moment ago
		}
	}
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if why := unfit(info.Config, d.ours()); why != "" {
		return nil, fmt.Errorf("stream %s is there and %s", d.config.Stream, why)
	}
	return info, nil
}

// ours is every subject that the sink may write to.
func (d *natsStream) ours() string { return string(d.org) + "." + d.config.SubjectPrefix + ".>" }

// streamConfig is the stream that the sink makes. Its options were checked by Parse.
func (d *natsStream) streamConfig() jetstream.StreamConfig {
	c := d.config
	age, _ := duration(c.MaxAge, 0, minAge, maxAge)
	window, _ := duration(c.Duplicate, 0, minWindow, maxWindow)
	if window == 0 {
		if window = defaultWindow; age > 0 {
			window = min(window, age) // the server wants that
		}
	}
	out := jetstream.StreamConfig{
		Name: c.Stream, Subjects: []string{d.ours()}, Storage: jetstream.FileStorage, Replicas: max(c.Replicas, 1),
		MaxAge: age, Duplicates: window, MaxBytes: -1,
	}
	if c.Storage == "memory" {
		out.Storage = jetstream.MemoryStorage
	}
	if c.MaxBytes > 0 {
		out.MaxBytes = c.MaxBytes
	}
	return out
}

// unfit says why events must not be given to a stream; empty if they may.
func unfit(c jetstream.StreamConfig, ours string) string {
	switch {
	case c.Mirror != nil:
		return "is a mirror of another one"
	case c.Sealed:
		return "is sealed"
	case c.NoAck:
		return "acknowledges nothing"
	case c.Retention == jetstream.InterestPolicy:
		return "drops what no consumer waits for (retention by interest)"
	case c.AllowMsgCounter:
		return "counts instead of keeping events"
	}
	for _, subject := range c.Subjects {
		if covers(subject, ours) {
			return ""
		}
	}
	return "does not take the subjects " + ours
}

// ladderStep is the longest pause of the usual retry ladder: what comes again after
// it should still be known as a repeat.
const ladderStep = time.Hour
