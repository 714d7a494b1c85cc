package watcher

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// formation is one formation being watched. Its goroutine alone touches its
// documents and writes its log, so what it settles has one order.
type formation struct {
	*Function
	key   tenant.Key
	lease store.Lease

	inbox chan *incoming
	ctx   context.Context
	stop  context.CancelFunc

	mu       sync.Mutex
	sessions map[string]*session // by peer id
	users    int                 // requests that hold on to the formation
	idle     time.Time           // since when there are none
	closed   bool

	// Owned by the goroutine:
	docs        map[automerge.DocumentID]*document
	dirty       []*document // hold changes that are not committed
	stored      int         // documents in the log
	maxStored   int
	quotaSeenAt time.Time
	recorded    int // sessions, as they are in the store
	ring        *bell
}

// incoming is one decoded sync message on its way to the log.
type incoming struct {
	session  *session
	document automerge.DocumentID
	request  bool // the peer has nothing of it yet
	sync     *automerge.SyncMessage
	changes  []*automerge.Change
	held     int64 // of the frame budget
	gone     bool  // the session is detached: forget its documents

	span    trace.Span // from its first byte decoded to its changes stored; nil if gone
	settled int        // changes that this message let into the log
}

// How much goes into one transaction: enough to share the cost of a commit,
// little enough to keep the first of it from waiting.
const (
	maxBatchMessages = 256
	maxBatchChanges  = 2_000
	inboxSize        = 64
	quotaFreshFor    = 10 * time.Second
)

// run is the life of the formation's goroutine.
func (f *formation) run() {
	tick := time.NewTicker(f.Settings.LeaseLife / 3)
	defer tick.Stop()
	for {
		select {
		case <-f.ctx.Done():
			f.endAll(reasonUnwatched)
			f.drain()
			return
		case in := <-f.inbox:
			f.survive(f.gather(in))
		case <-tick.C:
			f.housekeep()
		}
	}
}

// gather takes what else is waiting into the batch.
func (f *formation) gather(first *incoming) []*incoming {
	batch, changes := []*incoming{first}, len(first.changes)
	for len(batch) < maxBatchMessages && changes < maxBatchChanges {
		select {
		case in := <-f.inbox:
			batch = append(batch, in)
			changes += len(in.changes)
		default:
			return batch
		}
	}
	return batch
}

// survive processes a batch. A mistake of ours that some input brings out costs
// the sessions of one formation, not the process and everybody else's.
func (f *formation) survive(batch []*incoming) {
	defer func() {
		if p := recover(); p != nil {
			f.Metrics.Refused("panic")
			f.Log.Error("panic while settling; the formation starts over", "formation", f.key.String(), "panic", p, "stack", string(debug.Stack()))
			f.stop()
		}
	}()
	f.process(batch)
}

// process settles a batch, commits it, and only then answers. "Synced" means
// stored: no peer hears of a head that a crash could take back.
func (f *formation) process(batch []*incoming) {
	var settled []change.Settled
	var answer []*incoming
	now := store.Precise(f.Now())
	stored := f.stored
	err := errUnfinished // until it is committed
	defer func() { finish(batch, err) }()
	for _, in := range batch {
		f.budget.Release(in.held)
		in.held = 0
		if in.gone {
			f.forget(in.session)
			continue
		}
		d, err := f.find(in.document)
		if err != nil {
			f.Log.Error("document not loaded", "formation", f.key.String(), "document", string(in.document), "err", err)
			in.session.end("the document cannot be loaded now")
			in.finish(err)
			continue
		}
		d.lastUsed = now
		if d.broken {
			in.session.end("the document is being loaded again; try again")
			in.finish(errUnfinished)
			continue
		}
		if !f.follow(d, in) {
			continue
		}
		isNew := d.seq == 0
		if isNew && len(in.changes) > 0 && !f.room(stored) {
			f.Metrics.Refused("quota")
			f.unavailable(d, in.session)
			in.finish(&refusedError{"quota", errUnfinished})
			continue
		}
		out, refused := f.settleAll(d, in, now)
		if isNew && d.seq > 0 {
			stored++
		}
		settled = append(settled, out...)
		if refused != nil {
			f.refuse(in, refused)
			continue
		}
		answer = append(answer, in)
	}
	err = f.commit(settled)
	if errors.Is(err, fault.Exhausted) {
		f.refuseAll(batch, err)
		return
	}
	if err != nil {
		f.undo(batch, err)
		return
	}
	f.stored = stored
	f.dropBroken(batch)
	f.answer(answer)
}

// dropBroken lets go of documents that have got ahead of the log, before anybody
// is told heads that are not stored. Who follows one has to start afresh.
func (f *formation) dropBroken(batch []*incoming) {
	for _, in := range batch {
		if d := f.docs[in.document]; d != nil && d.broken {
			for s := range d.sessions {
				s.end("the document is being loaded again; try again")
			}
			clear(d.sessions)
			f.drop(in.document)
		}
	}
}

// settleAll settles what one message brought. Nothing of a later change is taken
// once one is refused.
func (f *formation) settleAll(d *document, in *incoming, now time.Time) ([]change.Settled, error) {
	var settled []change.Settled
	for _, c := range in.changes {
		out, err := d.settle(c, now, f.Settings.MaxPatchesBytes)
		if len(out) > 0 && !d.dirty {
			d.dirty = true
			f.dirty = append(f.dirty, d)
		}
		settled = append(settled, out...)
		if err != nil {
			in.mark(settled)
			return settled, err
		}
	}
	in.mark(settled)
	return settled, nil
}

// refuse ends the session that brought what cannot be taken. Its peer believes
// the rest of the message to have been taken too, so it has to start afresh.
func (f *formation) refuse(in *incoming, err error) {
	var refused *refusedError
	if errors.As(err, &refused) {
		f.Metrics.Refused(refused.what)
	}
	f.Log.WarnContext(in.within(f.ctx), "session ended: refused", "formation", f.key.String(), "peer", in.session.peer, "document", string(in.document), "err", err)
	in.session.end(err.Error())
	in.finish(err)
}

// refuseAll turns away what a batch brought, since there is no room for it, and goes on
// with what brought nothing: peers that only read are not disturbed.
func (f *formation) refuseAll(batch []*incoming, err error) {
	f.Log.Warn("changes refused", "formation", f.key.String(), "err", err)
	f.Metrics.Refused("quota")
	for _, d := range f.dirty {
		f.drop(d.id)
	}
	f.dirty = f.dirty[:0]
	var others []*incoming
	for _, in := range batch {
		switch {
		case in.gone:
		case len(in.changes) > 0:
			// Its peer believes them to have arrived, so it has to start afresh.
			in.session.end(fault.Of(err).Message)
		default:
			others = append(others, in)
		}
	}
	if len(others) > 0 {
		f.process(others)
	}
}

// commit appends what was settled in one transaction, under the lease.
func (f *formation) commit(settled []change.Settled) error {
	if len(settled) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.Settings.CommitTimeout)
	defer cancel()
	// Organizations take turns, so that one with many busy formations does not
	// keep the database to itself.
	if err := f.turns.Take(ctx, string(f.key.Org)); err != nil {
		return fmt.Errorf("wait for a turn: %w", err)
	}
	defer f.turns.Leave()
	weight := 0
	for _, c := range settled {
		weight += len(c.Raw) + len(c.Patches)
	}
	var position uint64
	err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		err := tx.Guard(ctx, f.lease)
		if err != nil {
			return err
		}
		if err := tx.TakeBytes(ctx, f.key.Org, weight); err != nil {
			return err
		}
		position, err = tx.AppendChanges(ctx, f.key, settled)
		return err
	})
	if err != nil {
		return fmt.Errorf("append to the log: %w", err)
	}
	f.Metrics.Captured(len(settled))
	f.ring.ring(ring{position, settled[len(settled)-1].Trace})
	return nil
}

// undo forgets what was not committed: the documents are loaded again from the
// log, and the sessions that sent something have to start afresh, since their
// peers believe it to have arrived.
func (f *formation) undo(batch []*incoming, err error) {
	f.Log.Error("changes not stored", "formation", f.key.String(), "err", err)
	for _, d := range f.dirty {
		f.drop(d.id)
	}
	f.dirty = f.dirty[:0]
	reason := "changes cannot be stored now; try again"
	// Another replica watches, or the formation is gone or suspended.
	over := errors.Is(err, fault.Stale) || errors.Is(err, fault.NotFound)
	if errors.Is(err, fault.NotFound) {
		reason = f.whyGone()
	}
	for _, in := range batch {
		if !in.gone {
			in.session.end(reason)
		}
	}
	if over {
		f.stopFor(reason)
	}
}

// whyGone is what peers are told when there is no active formation to write to.
func (f *formation) whyGone() string {
	ctx, cancel := context.WithTimeout(f.ctx, f.Settings.CommitTimeout)
	defer cancel()
	now, stateErr := f.Store.Formation(ctx, f.key)
	switch {
	case errors.Is(stateErr, fault.NotFound):
		return reasonDestroyed
	case stateErr == nil && now.State != tenant.Active:
		return reasonSuspended
	}
	return reasonUnwatched
}

// answer tells the peers what is stored now: those that wrote, and those that
// follow a document that has changed.
func (f *formation) answer(batch []*incoming) {
	type pair struct {
		d *document
		s *session
	}
	told := map[pair]bool{}
	var order []pair
	add := func(p pair) {
		if !told[p] {
			told[p] = true
			order = append(order, p)
		}
	}
	for _, in := range batch {
		d := f.docs[in.document]
		if d == nil || d.sessions[in.session] == nil {
			continue // forgotten later in the same batch
		}
		d.engine.ReceiveSync(d.sessions[in.session], in.sync)
		if in.request && d.seq == 0 && d.waiting.Len() == 0 && len(in.sync.Heads) == 0 {
			f.unavailable(d, in.session)
			continue
		}
		add(pair{d, in.session})
	}
	for _, d := range f.dirty {
		d.dirty = false
		for s := range d.sessions {
			add(pair{d, s})
		}
	}
	f.dirty = f.dirty[:0]
	for _, p := range order {
		f.tell(p.d, p.s)
	}
}

// tell sends a peer what it does not know of a document, if there is anything.
func (f *formation) tell(d *document, s *session) {
	m := d.engine.GenerateSync(d.sessions[s], d.missing())
	if m == nil {
		return
	}
	f.send(s, message{Type: typeSync, SenderID: s.name, TargetID: s.peer, DocumentID: string(d.id), Data: m.Encode()})
}

// unavailable says that nobody here has the document.
func (f *formation) unavailable(d *document, s *session) {
	f.send(s, message{Type: typeUnavailable, SenderID: s.name, TargetID: s.peer, DocumentID: string(d.id)})
}

func (f *formation) send(s *session, m message) {
	if err := s.send(f.codec, m); err != nil {
		f.Log.Error("message not sent", "formation", f.key.String(), "err", err)
		s.end("internal error")
	}
}
