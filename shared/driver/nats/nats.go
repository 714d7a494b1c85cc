// Package nats is the sink that publishes to a NATS JetStream stream.
package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// natsConfig is what a NATS sink shows.
type natsConfig struct {
	URL           string `json:"url,omitempty"` // empty: the operator's server
	SubjectPrefix string `json:"subject_prefix"`
	Stream        string `json:"stream,omitempty"`
	Username      string `json:"username,omitempty"`
}

// natsSecrets is what it keeps sealed.
type natsSecrets struct {
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"`
}

// Parse checks the configuration of a NATS sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var all struct {
		natsConfig
		natsSecrets
	}
	if err := driver.Prior(prior, &all.natsSecrets); err != nil {
		return driver.Config{}, err
	}
	if err := driver.DecodeConfig(in, &all); err != nil {
		return driver.Config{}, err
	}
	c, secrets := all.natsConfig, all.natsSecrets
	if c.URL == "" && s.NATSURL == "" {
		return driver.Config{}, driver.Invalid("config/url", "is missing")
	}
	if c.URL != "" {
		u, err := netguard.New(s.AllowPrivate).URL(c.URL, "nats", "tls")
		if err != nil {
			return driver.Config{}, driver.Invalid("config/url", err.Error())
		}
		// The client would take what follows a comma for another server.
		if strings.Trim(u.Path, "/")+u.RawQuery != "" || strings.Contains(c.URL, ",") {
			return driver.Config{}, driver.Invalid("config/url", "must be one server's host and port")
		}
	}
	switch {
	case !isPrefix(c.SubjectPrefix) || len(c.SubjectPrefix) > 128:
		return driver.Config{}, driver.Invalid("config/subject_prefix", "must be letters, digits, '-' and '_', at most 128, with single dots between them")
	case c.Stream != "" && (len(c.Stream) > 128 || EscapeToken(c.Stream) != c.Stream):
		return driver.Config{}, driver.Invalid("config/stream", "may hold only letters, digits, '-' and '_', at most 128")
	case secrets.Token != "" && c.Username+secrets.Password != "":
		return driver.Config{}, driver.Invalid("config/token", "cannot go with a username and password")
	case (c.Username == "") != (secrets.Password == ""):
		return driver.Config{}, driver.Invalid("config/username", "and password go together")
	}
	out := driver.Config{Public: c}
	if secrets != (natsSecrets{}) {
		out.Secrets = secrets
	}
	return out, nil
}

// natsStream publishes events to a JetStream stream and waits for its acknowledgements.
type natsStream struct {
	org     tenant.OrgID
	config  natsConfig
	options []nats.Option
	url     string
	limit   time.Duration // of one attempt

	mu     sync.Mutex // over connecting; publishing needs none
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
	d := &natsStream{org: o.Org, config: c, url: c.URL, limit: o.AttemptTimeout}
	d.options = []nats.Option{
		nats.Name("peat-gateway sink " + o.Sink), nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
		nats.Timeout(min(d.limit, 5*time.Second)),
	}
	if c.URL == "" {
		d.url = o.NATSURL // the operator's choice needs no guard
	} else {
		d.options = append(d.options, nats.SetCustomDialer(natsDialer{netguard.New(o.AllowPrivate)}))
	}
	switch {
	case s.Token != "":
		d.options = append(d.options, nats.Token(s.Token))
	case c.Username != "":
		d.options = append(d.options, nats.UserInfo(c.Username, s.Password))
	}
	if d.config.Stream == "" {
		// '=' is in no organization's name and in no prefix, so two sinks that
		// differ in either never share a stream by accident.
		d.config.Stream = "peat=" + string(d.org) + "=" + EscapeToken(c.SubjectPrefix)
	}
	return d, nil
}

// Deliver publishes in waves: the first event of every document, then the second
// of those whose first was acknowledged, and so on.
func (d *natsStream) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	link, err := d.connect(ctx)
	if err != nil {
		return driver.None(batch, describeNATS(err))
	}
	groups := driver.ByDocument(batch)
	for len(groups) > 0 && ctx.Err() == nil && time.Now().Before(until) {
		d.wave(ctx, link, batch, groups, outs)
		next := groups[:0]
		for _, g := range groups {
			if outs[g[0]].Verdict == driver.Delivered && len(g) > 1 {
				next = append(next, g[1:])
			}
		}
		groups = next
	}
	return outs
}

// wave publishes the first event of each group and waits for all answers.
func (d *natsStream) wave(ctx context.Context, link *natsLink, batch []driver.Event, groups [][]int, outs []driver.Outcome) {
	futures := make([]jetstream.PubAckFuture, len(groups))
	for n, g := range groups {
		it := batch[g[0]]
		body := it.Structured()
		if size := len(body) + headerRoom; int64(size) > link.conn.MaxPayload() {
			outs[g[0]] = driver.Outcome{Verdict: driver.Refused, Reason: fmt.Sprintf("the event has %d bytes, the server takes at most %d", len(body), link.conn.MaxPayload())}
			continue
		}
		msg := nats.NewMsg(d.subject(it))
		msg.Data = body
		msg.Header.Set("Content-Type", "application/cloudevents+json")
		future, err := link.js.PublishMsgAsync(msg, jetstream.WithMsgID(it.ID), jetstream.WithExpectStream(d.config.Stream),
			jetstream.WithRetryAttempts(0), jetstream.WithStallWait(d.limit))
		if err != nil {
			outs[g[0]] = d.judge(err)
			continue
		}
		futures[n] = future
	}
	timer := time.NewTimer(d.limit)
	defer timer.Stop()
	for n, g := range groups {
		if futures[n] == nil {
			continue
		}
		select {
		case <-futures[n].Ok():
			outs[g[0]] = driver.Outcome{Verdict: driver.Delivered}
		case err := <-futures[n].Err():
			outs[g[0]] = d.judge(err)
		case <-link.lost:
			outs[g[0]] = d.judge(nats.ErrConnectionClosed)
		case <-ctx.Done():
			outs[g[0]] = driver.Outcome{}
		case <-timer.C:
			outs[g[0]] = driver.Outcome{Verdict: driver.Retry, Reason: fmt.Sprintf("no acknowledgement within %s", d.limit)}
			timer.Reset(0) // the limit is for the wave, not for each of its events
		}
	}
}

// headerRoom is more than our headers take; the server counts them in.
const headerRoom = 512

func (d *natsStream) subject(it driver.Event) string {
	return string(d.org) + "." + d.config.SubjectPrefix + "." + string(it.Key.App) + "." + EscapeToken(it.Document)
}

// judge tells what is wrong with one event from what is wrong with the sink.
func (d *natsStream) judge(err error) driver.Outcome {
	o := driver.Outcome{Verdict: driver.Retry, Reason: describeNATS(err)}
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		o.Verdict = driver.Refused
	case errors.As(err, &api) && api.ErrorCode == messageTooLarge:
		o.Verdict = driver.Refused
	case errors.As(err, &api), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		// A stream that is full, gone or another one: whatever it is, it is so for all.
		o.Unreachable = true
		d.drop()
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting):
		o.Unreachable = true
		d.drop()
	}
	return o
}

// messageTooLarge is JSStreamMessageExceedsMaximumErr of the server.
const messageTooLarge jetstream.ErrorCode = 10054
