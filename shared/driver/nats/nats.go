// Package nats is the sink that publishes to a NATS JetStream stream.
//
//	config.go   what a sink is told, and what of it is refused
//	subject.go  names that cannot be taken for others
//	link.go     one connection
//	stream.go   the stream, made or looked at
//	queue.go    what of a batch goes next
//	publish.go  messages and their acknowledgements, and why order holds
//	assess.go   how safe an acknowledged event is
package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var errOutOfRange = errors.New("out of range")

// natsStream publishes events to a JetStream stream and waits for its acknowledgements.
type natsStream struct {
	org     tenant.OrgID
	config  natsConfig
	options []nats.Option
	url     string
	guard   *netguard.Guard // nil: the operator's choice needs none
	limit   time.Duration   // of one attempt
	now     func() time.Time

	// turn is held by who sends. Formations that sent at once would break each other's
	// chains (see publish.go).
	turn chan struct{}
	// others counts down the batches that go without chains because somebody else
	// writes to the stream; every chain they break doubles patience. Of who has the turn.
	others, patience int

	mu     sync.Mutex
	link   *natsLink
	closed bool
}

// Open makes a driver of it.
func Open(o driver.Opening) (driver.Driver, error) {
	var c natsConfig
	var s natsSecrets
	if err := o.Read(&c, &s); err != nil {
		return nil, err
	}
	d := &natsStream{
		org: o.Org, config: c, url: c.URL, limit: o.AttemptTimeout, now: o.Now, turn: make(chan struct{}, 1),
		options: []nats.Option{
			nats.Name("peat-gateway sink " + o.Sink), nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
			nats.Timeout(min(o.AttemptTimeout, connectLimit)), nats.FlusherTimeout(o.AttemptTimeout),
		},
	}
	if d.now == nil {
		d.now = time.Now
	}
	if c.URL == "" {
		d.url = o.NATSURL
	} else {
		d.guard = netguard.New(o.AllowPrivate)
	}
	if c.TLS != nil || c.TLSFirst {
		config, err := c.TLS.Open(s.TLSKey)
		if err != nil {
			return nil, err
		}
		d.options = append(d.options, nats.Secure(config))
		if c.TLSFirst {
			d.options = append(d.options, nats.TLSHandshakeFirst())
		}
	}
	signIn, err := s.option(c.Username)
	if err != nil {
		return nil, err
	}
	if signIn != nil {
		d.options = append(d.options, signIn)
	}
	if d.config.Stream == "" {
		// '=' is in no organization's name and in no prefix, so two sinks that
		// differ in either never share a stream by accident.
		d.config.Stream = "peat=" + string(d.org) + "=" + EscapeToken(c.SubjectPrefix)
	}
	return d, nil
}

// option is how to sign in; nil: not at all.
func (s natsSecrets) option(username string) (nats.Option, error) {
	switch {
	case s.Credentials != "":
		return nats.UserCredentialBytes([]byte(s.Credentials)), nil
	case s.NkeySeed != "":
		pair, err := nkeys.FromSeed([]byte(s.NkeySeed))
		if err != nil {
			return nil, errors.New("the nkey's seed cannot be read")
		}
		public, err := pair.PublicKey()
		if err != nil {
			return nil, errors.New("the nkey's seed cannot be read")
		}
		return nats.Nkey(public, pair.Sign), nil
	case s.Token != "":
		return nats.Token(s.Token), nil
	case username != "":
		return nats.UserInfo(username, s.Password), nil
	}
	return nil, nil
}

// Deliver publishes the batch in windows, each after the answers to the one before.
// publish.go says why that keeps the order of a document.
func (d *natsStream) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	if len(batch) == 0 || ctx.Err() != nil || !time.Now().Before(until) {
		return outs
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return outs
	}
	link, err := d.connect(ctx)
	switch {
	case isOver(ctx): // we broke it off ourselves
		return outs
	case err != nil:
		return driver.None(batch, describe(err))
	}
	todo := newQueue(batch)
	chained := todo.repeats && d.others == 0
	if todo.repeats && d.others > 0 {
		d.others--
	}
	for !todo.empty() && ctx.Err() == nil && time.Now().Before(until) {
		places := todo.window(chained)
		w := d.publish(ctx, link, todo, places, chained)
		for n, i := range places {
			outs[i] = w.outs[n]
		}
		todo.settle(outs)
		if w.dead {
			d.drop(link)
			break
		}
		switch {
		case w.intruded:
			d.patience = min(2*d.patience+1, maxPatience)
			d.others, chained = d.patience, false
		case chained && w.whole:
			d.patience = 0
		}
	}
	return outs
}

// maxPatience is for how many batches chains are not tried again at most.
const maxPatience = 256

// isOver reports whether it is we who end the attempt. A connection may notice a
// deadline an instant before the context does.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// headerRoom is more than our headers take, beside the ids in them; the server
// counts them in.
const headerRoom = 512

// tooLarge is the answer for an event that would be refused; nil if it would not.
func (l *natsLink) tooLarge(body int, it driver.Event) *driver.Outcome {
	size := int64(body + headerRoom + 2*len(it.ID))
	if size <= l.most {
		return nil
	}
	return &driver.Outcome{Verdict: driver.Refused, Reason: fmt.Sprintf("the event has %d bytes, the server takes at most %d", body, l.most)}
}

func (d *natsStream) subject(it driver.Event) string {
	return string(d.org) + "." + d.config.SubjectPrefix + "." + string(it.Key.App) + "." + EscapeToken(it.Document)
}
