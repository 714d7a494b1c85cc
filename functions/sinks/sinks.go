// Package sinks is how changes leave the gateway: what sinks there are, and the
// delivery of the log to each of them, in order, at least once.
//
// An administrator makes a sink (admin.go). It gets a cursor in every formation
// it covers. When a formation's log grows a doorbell rings; a worker (worker.go)
// takes the lease of one sink in one formation, reads the log behind the cursor,
// hands it to the sink's driver and records what became of it (deliver.go). What
// a sink does not take holds only its own document: it is tried again by itself,
// and in the end waits as a dead letter for an administrator (deadletter.go).
//
//	admin.go        create, list, get, delete
//	audit.go        what the audit trail says of a sink
//	change.go       pause, resume, disable, reconfigure
//	secret.go       a new secret for a sink
//	signing.go      the key pairs of an organization
//	probe.go        a test event, now; and a check of the sink
//	compare.go      what was acknowledged against the log; comparisons.go, asked for and by night
//	preview.go      a filter tried on what has happened
//	deadletter.go   list, inspect, redrive, skip, purge; bulk.go, many at once
//	replays.go      ask for a replay, list, cancel
//	wire.go         the JSON of both
//	hear.go         which sinks an event is about
//	worker.go       who works which sink in which formation; the budget
//	deliver.go      one pass: what is held and due, the log behind the cursor, a replay
//	chunk.go        a stretch of the log, read, filtered and encoded
//	memory.go       what the sink has acknowledged, as long as the lease holds
//	outcome.go      what became of a batch, and what follows for cursor and documents
//	record.go       writing that down, in one transaction
//	receipts.go     receipts that wait for those of the chunks after them
//	replay.go       once more, because somebody asked
//	trail.go        the audit trail, for sinks that want that
//	breaker.go      a sink that does not answer is asked once, not for each formation
//	courtesy.go     who goes first
//	span.go         a batch as a span, and how long its events took
//	leases.go       that nobody else does the same
//	connections.go  drivers, kept open between batches
//	driver.go       the table of kinds
//	apart.go        sinks that would write to one place
//
// What a driver promises is in shared/driver, and each kind in a package below it.
// DESIGN.md explains the order of the steps and what a crash costs at each.
package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/file"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Deps is what administration and delivery need both.
type Deps struct {
	Store    *store.Store
	Keys     *keyring.Keyring // what sinks' secrets are sealed with
	Bus      bus.Publisher
	Notify   func() // says that the outbox holds something; it must not wait
	Log      *slog.Logger
	Now      func() time.Time
	Metrics  Metrics
	Tracer   trace.Tracer // default: none
	Settings Settings
}

// Settings are the operator's choices.
type Settings struct {
	driver.Settings
	Ladder delivery.Ladder // of a document that fails
	Budget time.Duration   // of one invocation
	Holder string          // this process, in leases; unique
	// SecretsFor is how long secrets that were opened are used without asking the
	// organization's key again; default: a minute.
	SecretsFor time.Duration
}

// Metrics is told what happens, by kind of sink.
type Metrics interface {
	Delivered(kind string, n int)
	Parked(kind string)
	Retried(kind string)
	Unjudged(kind string)              // a filter failed on an event, which was delivered
	Incomplete(kind string, n int)     // sinks, each in each formation, that lack what they are owed
	Took(kind string, d time.Duration) // from storing a change to its acknowledgement
	Lag(kind string, events, bytes uint64, seconds float64)
}

type noMetrics struct{}

func (noMetrics) Delivered(string, int)               {}
func (noMetrics) Parked(string)                       {}
func (noMetrics) Retried(string)                      {}
func (noMetrics) Unjudged(string)                     {}
func (noMetrics) Incomplete(string, int)              {}
func (noMetrics) Took(string, time.Duration)          {}
func (noMetrics) Lag(string, uint64, uint64, float64) {}

// withDefaults fills in what may be left out.
func (d Deps) withDefaults() Deps {
	if d.Notify == nil {
		d.Notify = func() {}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Metrics == nil {
		d.Metrics = noMetrics{}
	}
	if d.Settings.SecretsFor == 0 {
		d.Settings.SecretsFor = time.Minute
	}
	if d.Tracer == nil {
		d.Tracer = tracing.Off()
	}
	s := &d.Settings
	s.Now = d.Now
	if s.Ladder.Steps == nil {
		s.Ladder = delivery.DefaultLadder()
	}
	if s.Budget == 0 {
		s.Budget = 20 * time.Second
	}
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 15 * time.Second
	}
	if s.Holder == "" {
		s.Holder = newID(d.Now())
	}
	if s.Stdout == nil {
		s.Stdout = os.Stdout
	}
	s.Stdout = file.NewOutput(s.Stdout)
	return d
}

// Admin is the administration of sinks.
type Admin struct {
	Deps
}

// New returns the administration of sinks.
func New(d Deps) *Admin { return &Admin{d.withDefaults()} }

// Events is what the administration hears: the sweep.
func (a *Admin) Events() []bus.Subscription {
	return []bus.Subscription{{Type: event.PingType, Handle: a.onPing}}
}

// onPing rings every bell that should have rung: for what is behind, and for what
// is due again.
func (a *Admin) onPing(ctx context.Context, _ cloudevents.Event) error {
	a.Notify()
	keys, err := a.Store.Behind(ctx, a.Now())
	if err != nil {
		return fmt.Errorf("look for what is behind: %w", err)
	}
	for _, key := range keys {
		position, posErr := a.Store.Position(ctx, key)
		if posErr != nil {
			err = errors.Join(err, posErr)
			continue
		}
		err = errors.Join(err, a.Bus.Publish(ctx, event.LogAppended(key, position, a.Now())))
	}
	return errors.Join(err, a.ringTrails(ctx), a.measure(ctx), a.compareDue(ctx))
}

// measure reports how far each kind of sink is behind, all organizations together.
func (a *Admin) measure(ctx context.Context) error {
	sum := map[delivery.Kind]delivery.Lag{}
	for k := range kinds {
		sum[k] = delivery.Lag{} // a kind that has caught up must come down to zero
	}
	const page = 200
	for after := tenant.OrgID(""); ; {
		orgs, err := a.Store.Orgs(ctx, after, page)
		if err != nil {
			return err
		}
		for _, o := range orgs {
			if err := a.measureOrg(ctx, o.ID, sum); err != nil {
				return err
			}
			after = o.ID
		}
		if len(orgs) < page {
			break
		}
	}
	for k, lag := range sum {
		a.Metrics.Lag(string(k), lag.Events, lag.Bytes, lag.Seconds)
	}
	return nil
}

func (a *Admin) measureOrg(ctx context.Context, org tenant.OrgID, sum map[delivery.Kind]delivery.Lag) error {
	sinks, err := allSinks(ctx, a.Store, org)
	if err != nil {
		return err
	}
	for _, s := range sinks {
		lag, err := a.lag(ctx, s)
		if err != nil {
			return err
		}
		total := sum[s.Kind]
		sum[s.Kind] = delivery.Lag{Events: total.Events + lag.Events, Bytes: total.Bytes + lag.Bytes, Seconds: max(total.Seconds, lag.Seconds)}
	}
	return nil
}

// lag is how far a sink is behind in all formations together.
func (a *Admin) lag(ctx context.Context, s delivery.Sink) (delivery.Lag, error) {
	if s.Source == delivery.AuditTrail {
		return a.Store.TrailLag(ctx, s.Org, s.ID, a.Now())
	}
	lags, err := a.Store.Lag(ctx, s, a.Now())
	var sum delivery.Lag
	for _, l := range lags {
		sum.Events += l.Events
		sum.Bytes += l.Bytes
		sum.Seconds = max(sum.Seconds, l.Seconds)
	}
	return sum, err
}

func (d Deps) seal(ctx context.Context, org tenant.OrgID, sink string, secrets any) ([]byte, error) {
	if secrets == nil {
		return nil, nil
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("encode secrets: %w", err)
	}
	defer clear(plain)
	return d.Keys.Seal(ctx, keyring.OfSink(org, sink), plain)
}

// openSink makes the driver of a sink.
func (d Deps) openSink(ctx context.Context, sink delivery.Sink) (driver.Driver, error) {
	k, ok := kinds[sink.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no kind %q", sink.Kind)
	}
	o := driver.Opening{Org: sink.Org, Sink: sink.ID, Config: sink.Config, Settings: d.Settings.Settings}
	plain, err := d.unseal(ctx, sink)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	o.Secrets = plain
	if k.signs != nil && k.signs(sink.Config) {
		if o.Signing, err = d.openSigningKeys(ctx, sink.Org); err != nil {
			return nil, err
		}
	}
	return k.open(o)
}

// stillOpens fails if the secrets that a driver of the sink has read could not be
// opened now.
func (d Deps) stillOpens(ctx context.Context, sink delivery.Sink) error {
	plain, err := d.unseal(ctx, sink)
	clear(plain)
	if k := kinds[sink.Kind]; err != nil || k.signs == nil || !k.signs(sink.Config) {
		return err
	}
	keys, err := d.openSigningKeys(ctx, sink.Org)
	for _, k := range keys {
		clear(k.Private)
	}
	return err
}
