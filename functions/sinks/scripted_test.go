package sinks

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var (
	key   = drivertest.Key
	start = drivertest.Start
)

// clock is a time that moves only when told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// belfry is a bus that only counts.
type belfry struct {
	mu    sync.Mutex
	rings []cloudevents.Event
}

func (b *belfry) Publish(_ context.Context, e cloudevents.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rings = append(b.rings, e)
	return nil
}

// script is a driver that does what a test says.
type script struct {
	mu     sync.Mutex
	answer func(it driver.Event) driver.Outcome // nil delivers
	before func(batch []driver.Event)           // may panic: a crash before anything was sent
	after  func(batch []driver.Event)           // may panic: a crash after everything was
	got    []driver.Event                       // what was delivered, in order
	sizes  []int                                // of the batches
	closed int
}

func (s *script) Deliver(_ context.Context, batch []driver.Event, _ time.Time) []driver.Outcome {
	if s.before != nil {
		s.before(batch)
	}
	s.mu.Lock()
	s.sizes = append(s.sizes, len(batch))
	outs := make([]driver.Outcome, len(batch))
	stuck := map[string]bool{}
	for i, it := range batch {
		if stuck[it.Document] {
			continue
		}
		outs[i] = driver.Outcome{Verdict: driver.Delivered}
		if s.answer != nil {
			outs[i] = s.answer(it)
		}
		if outs[i].Verdict == driver.Delivered {
			s.got = append(s.got, it)
		} else {
			stuck[it.Document] = true
		}
	}
	s.mu.Unlock()
	if s.after != nil {
		s.after(batch)
	}
	return outs
}

func (s *script) Close() error {
	s.closed++
	return nil
}

// take returns what was delivered since the last take, as document/seq; a marker ends in "!".
func (s *script) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for _, it := range s.got {
		out = append(out, name(it))
	}
	s.got = nil
	return out
}

func name(it driver.Event) string {
	var e cloudevents.Event
	var data struct {
		Seq uint64 `json:"seq"`
	}
	if err := errors.Join(e.UnmarshalJSON(it.Structured()), e.DataAs(&data)); err != nil {
		panic(err)
	}
	mark := ""
	if e.Type() == "com.defenseunicorns.peat.gateway.change.skipped.v1" {
		mark = "!"
	}
	return fmt.Sprintf("%s/%d%s", it.Document, data.Seq, mark)
}

// world is one sink in one formation, and time.
type world struct {
	t      testing.TB
	store  *store.Store
	clock  *clock
	bus    *belfry
	driver *script
	d      *Delivery
	pair   pair
	seqs   map[string]uint64
	lost   int // rings of the outbox
}

func sqlite(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") }

func openStore(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newWorld(t testing.TB, url string) *world {
	t.Helper()
	w := &world{t: t, store: openStore(t, url), clock: &clock{at: start}, bus: &belfry{}, driver: &script{}, seqs: map[string]uint64{}}
	w.addFormation(key)
	w.pair = pair{key, w.addSink(delivery.Webhook, `{}`)}
	w.restart()
	t.Cleanup(func() { _ = w.d.Close() })
	return w
}

func (w *world) tx(fn func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.store.InTx(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) addFormation(k tenant.Key) {
	w.t.Helper()
	ctx := context.Background()
	w.tx(func(tx *store.Tx) error {
		if _, err := tx.Org(ctx, k.Org); err != nil {
			if err := tx.CreateOrg(ctx, tenant.Org{ID: k.Org, DisplayName: "x", Quotas: tenant.DefaultQuotas(), CreatedAt: start}); err != nil {
				return err
			}
		}
		return tx.CreateFormation(ctx, tenant.Formation{Org: k.Org, App: k.App, MeshID: "ABCD1234", Policy: tenant.Open,
			State: tenant.Active, AuthorityPublicKey: []byte{1}, CreatedAt: w.clock.now()})
	})
}

func (w *world) addSink(kind delivery.Kind, config string) string {
	w.t.Helper()
	id := newID(time.Now())
	w.tx(func(tx *store.Tx) error {
		return tx.CreateSink(context.Background(), delivery.Sink{ID: id, Org: key.Org, Kind: kind, Formations: []string{"*"},
			Config: []byte(config), Format: delivery.Patches, Start: delivery.Start{Beginning: true}, State: delivery.Active, CreatedAt: start})
	})
	return id
}

// restart is a new process on the same store; the old one is forgotten, not closed.
func (w *world) restart() {
	if w.d != nil {
		w.d.stop()
	}
	w.d = NewDelivery(DeliveryDeps{Kinds: []delivery.Kind{delivery.Webhook}, Deps: Deps{
		Store: w.store, Keys: testKeys(w.t), Bus: w.bus, Now: w.clock.now, Notify: func() { w.lost++ },
		Settings: Settings{Holder: "tester"},
	}})
	w.d.connections.open = func(context.Context, delivery.Sink) (driver.Driver, error) { return w.driver, nil }
}

func testKeys(t testing.TB) *keyring.Keyring {
	t.Helper()
	p, err := envelope.NewLocal(envelope.NewKEK([32]byte{1, 2, 3}))
	if err != nil {
		t.Fatal(err)
	}
	return keyring.Single(p)
}

// write appends one change to each of the documents named.
func (w *world) write(documents ...string) {
	w.t.Helper()
	var batch []change.Settled
	for _, doc := range documents {
		w.seqs[doc]++
		seq := w.seqs[doc]
		c := change.Change{Hash: hashOf(doc, seq), Raw: []byte("raw"), Patches: []byte(`[]`), Actor: "aa", ActorSeq: seq}
		s := change.Follow(c, doc, seq, nil)
		if seq > 1 {
			prev := hashOf(doc, seq-1)
			s.Deps = []change.Hash{prev}
			s = change.Follow(s.Change, doc, seq, &prev)
		}
		s.ReceivedAt, s.Origin = w.clock.now(), change.Sync
		batch = append(batch, s)
	}
	w.tx(func(tx *store.Tx) error {
		_, err := tx.AppendChanges(context.Background(), w.pair.key, batch)
		return err
	})
}

func hashOf(doc string, seq uint64) (h change.Hash) {
	copy(h[:], fmt.Sprint(doc, "#", seq))
	return h
}

// deliver passes until nothing is to be done now.
func (w *world) deliver() progress {
	w.t.Helper()
	for range 1000 {
		p, err := w.d.pass(context.Background(), w.pair, time.Now().Add(time.Minute))
		if err != nil {
			w.t.Fatal(err)
		}
		if !p.more {
			return p
		}
	}
	w.t.Fatal("there is always more to do")
	return progress{}
}

func (w *world) held() map[string]delivery.Held {
	w.t.Helper()
	list, err := w.store.Held(context.Background(), w.pair.key, w.pair.sink)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]delivery.Held{}
	for _, h := range list {
		out[h.Document] = h
	}
	return out
}

func (w *world) sink() delivery.Sink {
	w.t.Helper()
	s, err := w.store.Sink(context.Background(), w.pair.key.Org, w.pair.sink)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) redrive(document string, skip bool) {
	w.t.Helper()
	if skip {
		w.decide(document, delivery.Skip)
	} else {
		w.decide(document, delivery.Redrive)
	}
}

func (w *world) decide(document string, d delivery.Decision) {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error {
		_, err := tx.Decide(context.Background(), w.pair.key.Org, w.pair.sink, w.held()[document].ID, d, w.clock.now())
		return err
	})
}

// setFilter gives the sink a filter, as a PATCH does.
func (w *world) setFilter(f filter.Spec) {
	w.t.Helper()
	if _, err := filter.Compile(f); err != nil {
		w.t.Fatal(err)
	}
	s := w.sink()
	s.Filter = f
	w.tx(func(tx *store.Tx) error {
		if _, err := tx.UpdateSink(context.Background(), s); err != nil {
			return err
		}
		return tx.OweAnew(context.Background(), s.Org, s.ID)
	})
}

// sinkEvent is what rings when the sink was resumed.
func sinkEvent(w *world) cloudevents.Event {
	return event.Sink(event.SinkResumedType, sinkData(w.sink()), w.clock.now())
}
