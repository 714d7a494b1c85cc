package watcher

import (
	"context"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// This file is when things are taken up and let go: formations with their lease,
// sessions, documents.

// attach makes the session one of the formation's. An older one of the same peer
// ends: the peer has connected anew and may not know yet that the old connection
// is dead.
//
// It returns why it cannot be, if it cannot.
func (f *formation) attach(s *session) (refused string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.sessions[s.peer]
	switch {
	case f.closed:
		return reasonUnwatched
	case old != nil:
		old.end("the peer has connected again")
	case len(f.sessions) >= s.maxPeers:
		f.Metrics.Refused("quota")
		return tenant.Exceeded(tenant.MaxPeersPerFormation, s.maxPeers).Error()
	}
	f.sessions[s.peer] = s
	return ""
}

// full reports whether the formation has no room for a peer's session. The answer may
// change until the session is attached; it lets most peers hear it in plain HTTP.
func (f *formation) full(peer string, most int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions[peer] == nil && len(f.sessions) >= most
}

// stopFor tells the peers why the formation is let go, and lets it go.
func (f *formation) stopFor(reason string) {
	f.endAll(reason)
	f.stop()
}

// detach takes the session off the formation. Its goroutine hears of it too, and
// after all that the session has sent.
func (f *formation) detach(s *session) {
	f.mu.Lock()
	if f.sessions[s.peer] == s {
		delete(f.sessions, s.peer)
	}
	f.mu.Unlock()
	f.submit(f.ctx, &incoming{session: s, gone: true})
}

// submit hands a message to the formation, waiting for room; false if it has
// stopped, or ctx ends first.
func (f *formation) submit(ctx context.Context, in *incoming) bool {
	select {
	case f.inbox <- in:
		if f.ctx.Err() != nil {
			f.drain() // nobody else will
		}
		return true
	case <-ctx.Done():
	case <-f.ctx.Done():
	}
	return false
}

// drain gives back the memory set aside for messages that nobody will work on.
func (f *formation) drain() {
	for {
		select {
		case in := <-f.inbox:
			f.budget.Release(in.held)
			in.finish(errUnwatched)
		default:
			return
		}
	}
}

// release is for who called Function.open: one user less.
func (f *formation) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users--; f.users == 0 {
		f.idle = f.Now()
	}
}

// endAll ends every session of a formation that will not be watched any more.
func (f *formation) endAll(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, s := range f.sessions {
		s.end(reason)
	}
}

// follow makes the session hear of the document from now on; false if it may not.
func (f *formation) follow(d *document, in *incoming) bool {
	s := in.session
	if d.sessions[s] != nil {
		return true
	}
	if s.ending.Err() != nil {
		return false // it may have been forgotten already
	}
	if d.seq == 0 && len(in.changes) == 0 {
		if s.unstored++; s.unstored > maxDocsUnstored {
			s.end("too many documents that nobody has")
			return false
		}
	}
	state := s.docs[d.id]
	if state == nil {
		state = automerge.NewSyncState()
		s.docs[d.id] = state
	}
	d.sessions[s] = state
	return true
}

// forget takes a session off all documents it followed.
func (f *formation) forget(s *session) {
	for id := range s.docs {
		if d := f.docs[id]; d != nil {
			delete(d.sessions, s)
			// One with changes of this very batch has to stay until they are committed.
			if len(d.sessions) == 0 && !d.dirty && (d.seq == 0 || d.waiting.Len() > 0) {
				f.drop(id) // nothing of it is stored, or what waits will come again
			}
		}
	}
	s.docs = nil
}

// find returns a document, from memory or from the log.
func (f *formation) find(id automerge.DocumentID) (*document, error) {
	if d := f.docs[id]; d != nil {
		return d, nil
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.Settings.LoadTimeout)
	defer cancel()
	d, err := f.load(ctx, id)
	if err != nil {
		return nil, err
	}
	// A document that was let go while idle has its followers still.
	f.mu.Lock()
	for _, s := range f.sessions {
		if state := s.docs[id]; state != nil {
			d.sessions[s] = state
		}
	}
	f.mu.Unlock()
	f.docs[id] = d
	return d, nil
}

func (f *formation) drop(id automerge.DocumentID) { delete(f.docs, id) }

// room reports whether the organization's quota allows another document. The
// quota is read now and then, the count is ours: nobody else writes this log.
func (f *formation) room(stored int) bool {
	if now := f.Now(); now.Sub(f.quotaSeenAt) > quotaFreshFor {
		org, err := f.Store.Org(f.ctx, f.key.Org)
		if err != nil {
			f.Log.Error("quota not read", "formation", f.key.String(), "err", err)
			return false
		}
		f.maxStored, f.quotaSeenAt = org.Quotas.MaxDocumentsPerFormation, now
	}
	return stored < f.maxStored
}

// housekeep renews the lease, lets idle documents go, and ends the formation
// itself when nobody has used it for a while.
func (f *formation) housekeep() {
	now := f.Now()
	ctx, cancel := context.WithTimeout(f.ctx, f.Settings.LeaseLife/3)
	lease, err := f.Store.RenewLease(ctx, f.lease, now, f.Settings.LeaseLife)
	cancel()
	switch {
	case err == nil:
		f.lease = lease
	case errors.Is(err, fault.Stale):
		f.Log.Warn("formation lost to another replica", "formation", f.key.String())
		f.stop()
		return
	default:
		// Not fatal: every append is guarded by the lease's epoch.
		f.Log.Error("lease not renewed", "formation", f.key.String(), "err", err)
	}
	if err := f.look(); err != nil {
		// The next look is soon, and nothing is appended to a formation that is not active.
		f.Log.Error("formation not looked at", "formation", f.key.String(), "err", err)
	}
	for id, d := range f.docs {
		if d.waiting.Len() == 0 && now.Sub(d.lastUsed) > f.Settings.DocumentIdle {
			f.drop(id)
		}
	}
	f.mu.Lock()
	idle := f.users == 0 && now.Sub(f.idle) > f.Settings.FormationIdle
	f.closed = f.closed || idle
	f.mu.Unlock()
	if idle {
		f.stop()
	}
}

// look lets the formation go if it was suspended or destroyed: the event that says so
// may have gone to another replica. It also records how many sessions there are, for
// the organization's administrators.
func (f *formation) look() error {
	ctx, cancel := context.WithTimeout(f.ctx, f.Settings.LeaseLife/3)
	defer cancel()
	now, err := f.Store.Formation(ctx, f.key)
	switch {
	case errors.Is(err, fault.NotFound):
		f.stopFor(reasonDestroyed)
		return nil
	case err != nil:
		return err
	case now.State != tenant.Active:
		f.stopFor(reasonSuspended)
		return nil
	}
	f.mu.Lock()
	sessions := len(f.sessions)
	f.mu.Unlock()
	if sessions == f.recorded && now.Documents == f.stored {
		return nil
	}
	err = f.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.Guard(ctx, f.lease); err != nil {
			return err
		}
		return tx.SetWatched(ctx, f.key, f.stored, sessions)
	})
	if err == nil {
		f.recorded = sessions
	}
	return err
}

// bell rings for a formation's sinks, in a goroutine of its own: a broker may
// take its time. Positions that come meanwhile are rung for together.
type bell struct {
	rings chan ring
}

// ring is for a log that reaches position now, because of a message of this trace.
type ring struct {
	position uint64
	trace    string
}

func (b *bell) ring(r ring) {
	for {
		select {
		case b.rings <- r:
			return
		default:
		}
		select {
		case <-b.rings: // an older one: the newer says more
		default:
		}
	}
}

func (b *bell) run(ctx context.Context, publish func(ctx context.Context, r ring)) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-b.rings:
			publish(ctx, r)
			// A moment's pause lets a busy formation ring once for many commits.
			select {
			case <-ctx.Done():
				return
			case <-time.After(bellPause):
			}
		}
	}
}

// bellPause bounds how often one formation rings; it adds to the latency of a
// sink only while changes come faster than this.
const bellPause = 5 * time.Millisecond
