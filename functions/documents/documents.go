// Package documents is the log, fetched by whoever wants it: for receivers that
// nothing can connect to. They ask, with a cursor that says how far they have
// come, and are answered with what comes after it, in the order of the log.
//
// A receiver keeps its cursor itself, or has it kept here under a name: then it is
// a consumer, which acknowledges what it has processed. Either way a cursor moves
// only when its owner says so, and what was fetched before a crash is fetched
// again: at least once.
//
//	events.go     a page of events; waits for the first one if asked to
//	stream.go     the same without end, as server-sent events
//	consumers.go  consumers: make, list, get, delete, acknowledge
//	query.go      what may be asked for
//	reader.go     one formation's log, and the certainty that it is still that one
//	cursor.go     the text of a cursor
//	bells.go      how those who wait learn that a log has grown
//	seats.go      how many may wait
//	output.go     writing to readers that may be slow
//	wire.go       the JSON
package documents

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/pace"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Deps is everything this function needs. It reads the log, so it needs no key.
type Deps struct {
	Store    *store.Store
	Log      *slog.Logger
	Now      func() time.Time
	Settings Settings
}

// Settings are the operator's choices, and what tests shorten.
type Settings struct {
	MaxWaiting int           // streams and waiting requests at once
	Lifetime   time.Duration // of a stream
	Heartbeat  time.Duration // how often a silent stream shows that it lives
	Look       time.Duration // how often a log is looked at while somebody waits for it
}

// withDefaults fills in what may be left out.
func (d Deps) withDefaults() Deps {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &d.Settings
	if s.MaxWaiting == 0 {
		s.MaxWaiting = 1000
	}
	if s.Lifetime == 0 {
		s.Lifetime = 10 * time.Minute
	}
	if s.Heartbeat == 0 {
		s.Heartbeat = 10 * time.Second
	}
	if s.Look == 0 {
		s.Look = 500 * time.Millisecond
	}
	return d
}

// Function serves the log.
type Function struct {
	Deps
	bells *bells
	seats *seats
	pace  *pace.Pace
}

// New returns the function. Close ends whoever waits.
func New(d Deps) *Function {
	d = d.withDefaults()
	return &Function{
		Deps:  d,
		bells: newBells(d.Store.Position, d.Settings.Look, d.Log),
		seats: newSeats(d.Settings.MaxWaiting),
		pace:  pace.New(),
	}
}

// pageLimit ends a request for a page: before Knative does (30 s), and long enough
// after the longest wait to answer.
const pageLimit = 29 * time.Second

// Routes are the doors.
//
// To acknowledge takes no more than to read: it changes nothing but where the
// receiver is, and whoever fetches must be able to.
func (f *Function) Routes() []web.Route {
	const cdc = "/orgs/{org}/formations/{app}/cdc"
	const consumer = cdc + "/consumers/{name}"
	return []web.Route{
		{Pattern: "GET " + cdc + "/events", Need: web.Viewer, Timeout: pageLimit, Handle: f.getEvents},
		{Pattern: "GET " + cdc + "/stream", Need: web.Viewer, Stream: true, Handle: f.getStream},
		{Pattern: "GET " + cdc + "/consumers", Need: web.Viewer, Handle: f.listConsumers},
		{Pattern: "PUT " + consumer, Need: web.OrgAdmin, Handle: f.putConsumer},
		{Pattern: "GET " + consumer, Need: web.Viewer, Handle: f.getConsumer},
		{Pattern: "DELETE " + consumer, Need: web.OrgAdmin, Handle: f.deleteConsumer},
		{Pattern: "POST " + consumer + "/ack", Need: web.Viewer, Handle: f.ackConsumer},
		{Pattern: "GET " + consumer + "/events", Need: web.Viewer, Timeout: pageLimit, Handle: f.getConsumerEvents},
		{Pattern: "GET " + consumer + "/stream", Need: web.Viewer, Stream: true, Handle: f.getConsumerStream},
	}
}

// Events is what the function hears. A broker tells one replica only; the others
// find out by looking (bells.go).
func (f *Function) Events() []bus.Subscription {
	return []bus.Subscription{{Type: event.LogAppendedType, Handle: f.onLogAppended}}
}

func (f *Function) onLogAppended(_ context.Context, e cloudevents.Event) error {
	var data event.LogData
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return fault.Invalid.Wrap(err, "the event's data cannot be read")
	}
	f.bells.ring(tenant.Key{Org: data.Org, App: data.App})
	return nil
}

// Drain ends streams and waits, and lets no more begin.
func (f *Function) Drain() {
	f.seats.close()
	f.bells.stop()
}

// Close is Drain, and returns when everybody has left.
func (f *Function) Close() error {
	f.Drain()
	f.seats.wait()
	f.bells.wait()
	return nil
}
