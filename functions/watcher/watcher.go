// Package watcher turns what peers do to documents into the change log. Peers
// connect as to any automerge-repo sync server; what they send is decoded,
// checked, put in causal order, stored, and only then acknowledged.
//
//	watcher.go    doors, settings, and which formations are watched here
//	ticket.go     sync tickets: what a peer shows at the door
//	session.go    one peer's connection
//	message.go    the frames of automerge-repo's protocol
//	formation.go  one formation: settle, append, answer
//	document.go   one document, as far as it is in memory
//	span.go       a message as a span of a trace
//	lifecycle.go  when formations, sessions and documents are let go
//
// DESIGN.md tells what is promised and what happens when something breaks.
package watcher

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
	"github.com/defenseunicorns/peat-gateway/shared/platform/turn"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Deps is everything this function needs, and nothing it does not.
type Deps struct {
	Store    *store.Store
	Bus      bus.Publisher
	Notify   func() // the outbox has something in it
	Metrics  Metrics
	Tracer   trace.Tracer // default: none
	Log      *slog.Logger
	Now      func() time.Time
	Random   io.Reader
	Settings Settings
}

// Metrics is what is counted here.
type Metrics interface {
	Captured(changes int)
	Refused(what string)
	SessionOpened()
	SessionClosed()
}

// Settings are the limits and times of the watcher. The zero value of a field is
// replaced by its default.
type Settings struct {
	Holder          string           // who we are in leases; required
	Address         string           // where this replica can be reached; may be empty
	PublicURL       *url.URL         // what peers are told to connect to; default: as the caller called us
	Limits          automerge.Limits // of changes and sync messages; default automerge.DefaultLimits
	MaxMessageBytes int              // of one WebSocket frame; default 64 MiB
	MaxPatchesBytes int              // of one change, written as JSON: paths repeat, so few operations can say much; default 32 MiB
	FrameBudget     int64            // bytes of frames being worked on, all together; default 512 MiB
	Writers         int              // transactions at once; default 4
	MaxSessions     int              // at once, in this process; default 2,000
	LeaseLife       time.Duration    // default 9 s: a dead replica's formations move within 10 s
	DocumentIdle    time.Duration    // before an untouched document leaves memory; default 1 min
	FormationIdle   time.Duration    // before a formation without sessions is let go; default 30 s
	CommitTimeout   time.Duration    // default 30 s
	LoadTimeout     time.Duration    // default 1 min
}

func (s Settings) withDefaults() Settings {
	if s.Limits == (automerge.Limits{}) {
		s.Limits = automerge.DefaultLimits()
	}
	setDefault(&s.MaxMessageBytes, 64<<20)
	setDefault(&s.MaxPatchesBytes, 32<<20)
	setDefault(&s.FrameBudget, 512<<20)
	setDefault(&s.Writers, 4)
	setDefault(&s.MaxSessions, 2_000)
	setDefault(&s.LeaseLife, 9*time.Second)
	setDefault(&s.DocumentIdle, time.Minute)
	setDefault(&s.FormationIdle, 30*time.Second)
	setDefault(&s.CommitTimeout, 30*time.Second)
	setDefault(&s.LoadTimeout, time.Minute)
	return s
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Function is the watcher. Close it to let all formations go.
type Function struct {
	Deps
	codec  codec
	budget *semaphore.Weighted
	turns  *turn.Queue // of organizations, to write
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	sessions   int
	formations map[tenant.Key]*formation
	opening    map[tenant.Key]*sync.Mutex
}

// New returns a watcher that watches nothing yet: a formation is taken up when
// its first peer connects.
func New(d Deps) (*Function, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	d.Settings = d.Settings.withDefaults()
	if d.Tracer == nil {
		d.Tracer = tracing.Off()
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Function{
		Deps: d, codec: c, budget: semaphore.NewWeighted(d.Settings.FrameBudget), turns: turn.New(d.Settings.Writers), ctx: ctx, stop: stop,
		formations: map[tenant.Key]*formation{}, opening: map[tenant.Key]*sync.Mutex{},
	}, nil
}

// Routes are the doors for administrators and peers.
func (f *Function) Routes() []web.Route {
	const tickets = "/orgs/{org}/formations/{app}/sync-tickets"
	return []web.Route{
		{Pattern: "POST " + tickets, Need: web.OrgAdmin, Once: true, Handle: f.postTicket},
		{Pattern: "GET " + tickets, Need: web.Viewer, Handle: f.listTickets},
		{Pattern: "DELETE " + tickets + "/{ticket}", Need: web.OrgAdmin, Handle: f.deleteTicket},
		// The ticket in the URL is judged by the handler.
		// A node asks for its own; the proof is in the request.
		{Pattern: "POST " + tickets + "/node", Need: web.Anyone, Handle: f.postNodeTicket},
		{Pattern: "GET /orgs/{org}/formations/{app}/sync", Need: web.Anyone, Handle: f.getSync, Stream: true},
	}
}

// Events is what the watcher hears.
func (f *Function) Events() []bus.Subscription {
	return []bus.Subscription{
		{Type: event.FormationDeletedType, Handle: f.onFormationStopped(reasonDestroyed)},
		{Type: event.FormationSuspendedType, Handle: f.onFormationStopped(reasonSuspended)},
		{Type: event.TicketRevokedType, Handle: f.onTicketRevoked},
	}
}

// onFormationStopped lets a formation go that nothing may be written to any more, and
// tells its peers why.
func (f *Function) onFormationStopped(reason string) func(context.Context, cloudevents.Event) error {
	return func(_ context.Context, e cloudevents.Event) error {
		var data event.FormationData
		if err := json.Unmarshal(e.Data(), &data); err != nil {
			return fault.Malformed.New("event data: %v", err)
		}
		f.mu.Lock()
		watched := f.formations[tenant.Key{Org: data.Org, App: data.App}]
		f.mu.Unlock()
		if watched != nil {
			watched.stopFor(reason)
		}
		return nil
	}
}

func (f *Function) onTicketRevoked(_ context.Context, e cloudevents.Event) error {
	var data event.TicketData
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		return fault.Malformed.New("event data: %v", err)
	}
	f.endSessions(tenant.Key{Org: data.Org, App: data.App}, "the ticket was revoked",
		func(s *session) bool { return s.ticket.ID == data.Ticket })
	return nil
}

// endSessions ends those of a formation's sessions that match.
func (f *Function) endSessions(key tenant.Key, reason string, match func(*session) bool) {
	f.mu.Lock()
	watched := f.formations[key]
	f.mu.Unlock()
	if watched == nil {
		return
	}
	watched.mu.Lock()
	defer watched.mu.Unlock()
	for _, s := range watched.sessions {
		if match(s) {
			s.end(reason)
		}
	}
}

// admit counts a session in, if there is room.
func (f *Function) admit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil || f.sessions >= f.Settings.MaxSessions {
		return false
	}
	f.sessions++
	f.wg.Add(1)
	return true
}

func (f *Function) leave() {
	f.mu.Lock()
	f.sessions--
	f.mu.Unlock()
	f.wg.Done()
}

// open returns the formation, taking its lease first if it is not watched here
// yet. The caller releases it.
func (f *Function) open(ctx context.Context, key tenant.Key) (*formation, error) {
	gate := f.gate(key)
	gate.Lock()
	defer gate.Unlock()
	f.mu.Lock()
	watched := f.formations[key]
	f.mu.Unlock()
	if watched != nil && watched.use() {
		return watched, nil
	}
	lease, err := f.Store.TakeLease(ctx, "watch/"+key.String(), f.Settings.Holder, f.Settings.Address, f.Now(), f.Settings.LeaseLife)
	var held *store.HeldError
	if errors.As(err, &held) {
		return nil, fault.RetryIn(fault.Unavailable.New("the formation is watched by another replica"), time.Second)
	}
	if err != nil {
		return nil, err
	}
	stored, err := f.Store.CountDocuments(ctx, key)
	if err != nil {
		return nil, err
	}
	watched = f.start(key, lease, stored)
	f.mu.Lock()
	f.formations[key] = watched
	f.mu.Unlock()
	return watched, nil
}

// gate lets one request at a time open a formation. The gates of formations stay:
// there are as many as formations that were ever watched here, a few bytes each.
func (f *Function) gate(key tenant.Key) *sync.Mutex {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.opening[key]
	if g == nil {
		g = new(sync.Mutex)
		f.opening[key] = g
	}
	return g
}

// start runs a formation until it stops, and cleans up after it.
func (f *Function) start(key tenant.Key, lease store.Lease, stored int) *formation {
	w := &formation{
		Function: f, key: key, lease: lease, users: 1, stored: stored,
		inbox: make(chan *incoming, inboxSize), sessions: map[string]*session{},
		docs: map[automerge.DocumentID]*document{}, ring: &bell{rings: make(chan ring, 1)},
	}
	w.ctx, w.stop = context.WithCancel(f.ctx)
	f.wg.Go(func() { w.ring.run(w.ctx, w.publish) })
	f.wg.Go(func() {
		w.run()
		f.mu.Lock()
		if f.formations[key] == w {
			delete(f.formations, key)
		}
		f.mu.Unlock()
		// The last bell may not have been rung; the sweep would, but that is late.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		select {
		case r := <-w.ring.rings:
			w.publish(ctx, r)
		default:
		}
		if err := f.Store.ReleaseLease(ctx, w.lease); err != nil {
			f.Log.Warn("lease not released; it will expire", "formation", key.String(), "err", err)
		}
	})
	return w
}

func (f *formation) publish(ctx context.Context, r ring) {
	ctx = tracing.With(ctx, r.trace)
	if err := f.Bus.Publish(ctx, event.LogAppended(f.key, r.position, f.Now())); err != nil && ctx.Err() == nil {
		f.Log.Warn("doorbell not rung; the sweep will", "formation", f.key.String(), "err", err)
	}
}

// use counts a user in, unless the formation is being let go.
func (f *formation) use() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.ctx.Err() != nil {
		return false
	}
	f.users++
	return true
}

// Close ends all sessions and returns when everything has been let go.
func (f *Function) Close() error {
	f.stop()
	f.wg.Wait()
	return nil
}
