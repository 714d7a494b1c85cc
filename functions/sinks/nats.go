package sinks

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

func parseNATS(in json.RawMessage, s Settings) (config, error) {
	var all struct {
		natsConfig
		natsSecrets
	}
	if err := decodeConfig(in, &all); err != nil {
		return config{}, err
	}
	c, secrets := all.natsConfig, all.natsSecrets
	if c.URL == "" && s.NATSURL == "" {
		return config{}, invalid("config/url", "is missing")
	}
	if c.URL != "" {
		u, err := newGuard(s.AllowPrivate).target(c.URL, "nats", "tls")
		if err != nil {
			return config{}, err
		}
		// The client would take what follows a comma for another server.
		if strings.Trim(u.Path, "/")+u.RawQuery != "" || strings.Contains(c.URL, ",") {
			return config{}, invalid("config/url", "must be one server's host and port")
		}
	}
	switch {
	case !isPrefix(c.SubjectPrefix) || len(c.SubjectPrefix) > 128:
		return config{}, invalid("config/subject_prefix", "must be letters, digits, '-' and '_', at most 128, with single dots between them")
	case c.Stream != "" && (len(c.Stream) > 128 || escapeToken(c.Stream) != c.Stream):
		return config{}, invalid("config/stream", "may hold only letters, digits, '-' and '_', at most 128")
	case secrets.Token != "" && c.Username+secrets.Password != "":
		return config{}, invalid("config/token", "cannot go with a username and password")
	case (c.Username == "") != (secrets.Password == ""):
		return config{}, invalid("config/username", "and password go together")
	}
	out := config{public: c}
	if secrets != (natsSecrets{}) {
		out.secrets = secrets
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

func openNATS(o opening) (driver, error) {
	var c natsConfig
	var s natsSecrets
	err := json.Unmarshal(o.sink.Config, &c)
	if err == nil && o.secrets != nil {
		err = json.Unmarshal(o.secrets, &s)
	}
	if err != nil {
		return nil, errors.New("the configuration cannot be read")
	}
	d := &natsStream{org: o.sink.Org, config: c, url: c.URL, limit: o.settings.AttemptTimeout}
	d.options = []nats.Option{
		nats.Name("peat-gateway sink " + o.sink.ID), nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
		nats.Timeout(min(d.limit, 5*time.Second)),
	}
	if c.URL == "" {
		d.url = o.settings.NATSURL // the operator's choice needs no guard
	} else {
		d.options = append(d.options, nats.SetCustomDialer(natsDialer{newGuard(o.settings.AllowPrivate)}))
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
		d.config.Stream = "peat=" + string(d.org) + "=" + escapeToken(c.SubjectPrefix)
	}
	return d, nil
}

// Deliver publishes in waves: the first event of every document, then the second
// of those whose first was acknowledged, and so on.
func (d *natsStream) Deliver(ctx context.Context, batch []item, until time.Time) []outcome {
	outs := make([]outcome, len(batch))
	link, err := d.connect(ctx)
	if err != nil {
		for i := range outs {
			outs[i] = outcome{verdict: retry, unreachable: true, reason: describeNATS(err)}
		}
		return firstOfEach(batch, outs)
	}
	groups := byDocument(batch)
	for len(groups) > 0 && ctx.Err() == nil && time.Now().Before(until) {
		d.wave(ctx, link, batch, groups, outs)
		next := groups[:0]
		for _, g := range groups {
			if outs[g[0]].verdict == delivered && len(g) > 1 {
				next = append(next, g[1:])
			}
		}
		groups = next
	}
	return outs
}

// firstOfEach leaves an outcome only to the first event of each document, since
// those behind it were not tried.
func firstOfEach(batch []item, outs []outcome) []outcome {
	for _, g := range byDocument(batch) {
		for _, i := range g[1:] {
			outs[i] = outcome{}
		}
	}
	return outs
}

// wave publishes the first event of each group and waits for all answers.
func (d *natsStream) wave(ctx context.Context, link *natsLink, batch []item, groups [][]int, outs []outcome) {
	futures := make([]jetstream.PubAckFuture, len(groups))
	for n, g := range groups {
		it := batch[g[0]]
		if size := len(it.body) + headerRoom; int64(size) > link.conn.MaxPayload() {
			outs[g[0]] = outcome{verdict: refused, reason: fmt.Sprintf("the event has %d bytes, the server takes at most %d", len(it.body), link.conn.MaxPayload())}
			continue
		}
		msg := nats.NewMsg(d.subject(it))
		msg.Data = it.body
		msg.Header.Set("Content-Type", "application/cloudevents+json")
		future, err := link.js.PublishMsgAsync(msg, jetstream.WithMsgID(it.id), jetstream.WithExpectStream(d.config.Stream),
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
			outs[g[0]] = outcome{verdict: delivered}
		case err := <-futures[n].Err():
			outs[g[0]] = d.judge(err)
		case <-link.lost:
			outs[g[0]] = d.judge(nats.ErrConnectionClosed)
		case <-ctx.Done():
			outs[g[0]] = outcome{}
		case <-timer.C:
			outs[g[0]] = outcome{verdict: retry, reason: fmt.Sprintf("no acknowledgement within %s", d.limit)}
			timer.Reset(0) // the limit is for the wave, not for each of its events
		}
	}
}

// headerRoom is more than our headers take; the server counts them in.
const headerRoom = 512

func (d *natsStream) subject(it item) string {
	return string(d.org) + "." + d.config.SubjectPrefix + "." + string(it.key.App) + "." + escapeToken(it.document)
}

// judge tells what is wrong with one event from what is wrong with the sink.
func (d *natsStream) judge(err error) outcome {
	o := outcome{verdict: retry, reason: describeNATS(err)}
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		o.verdict = refused
	case errors.As(err, &api) && api.ErrorCode == messageTooLarge:
		o.verdict = refused
	case errors.As(err, &api), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		// A stream that is full, gone or another one: whatever it is, it is so for all.
		o.unreachable = true
		d.drop()
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting):
		o.unreachable = true
		d.drop()
	}
	return o
}

// messageTooLarge is JSStreamMessageExceedsMaximumErr of the server.
const messageTooLarge jetstream.ErrorCode = 10054
