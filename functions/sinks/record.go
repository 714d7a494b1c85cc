package sinks

import (
	"context"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// saveLimit bounds the recording of what was delivered, which goes on after a
// shutdown has begun: what is delivered and not recorded is delivered twice.
const saveLimit = 10 * time.Second

// save records a settlement and makes it what this pass goes on from.
func (r *run) save(ctx context.Context, s settlement) error {
	state, reason := s.health(r.sink)
	moves := r.moves(state, reason)
	if !moves && s.cursor == r.cursor && len(s.hold)+len(s.release)+len(s.receipts)+len(s.omitted) == 0 && s.replay == nil {
		return nil
	}
	if err := r.commit(ctx, s, state, reason, moves); err != nil {
		return err
	}
	r.adopt(s, state, reason)
	return nil
}

// moves reports whether the sink's state would become another one.
func (r *run) moves(state delivery.State, reason string) bool {
	return state != r.sink.State || reason != r.sink.Reason
}

// commit records a settlement in one transaction, under the lease.
func (r *run) commit(ctx context.Context, s settlement, state delivery.State, reason string, moves bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseLife)
	defer cancel()
	if err := r.turns.Take(ctx, string(r.key.Org)); err != nil {
		r.forget(r.pair)
		return err
	}
	defer r.turns.Leave()
	ctx, cancel = context.WithTimeout(ctx, saveLimit)
	defer cancel()
	now := r.clock()
	rings := false
	err := r.Store.InTx(ctx, func(tx *store.Tx) error {
		rings = false
		if err := r.still(ctx, tx); err != nil {
			return err
		}
		if err := tx.SaveCursor(ctx, s.cursor); err != nil {
			return err
		}
		if err := r.keep(ctx, tx, s); err != nil {
			return err
		}
		for _, h := range s.hold {
			if h.State != delivery.Parked {
				continue
			}
			rings = true
			if err := tx.Enqueue(ctx, event.DeadLetter(event.DeadLetterParkedType, deadLetterData(r.sink.Kind, h), now)); err != nil {
				return err
			}
		}
		if !moves {
			return nil
		}
		if err := tx.MarkSink(ctx, r.key.Org, r.sink.ID, state, reason); err != nil || state != delivery.Disabled {
			return err
		}
		rings = true
		return tx.Enqueue(ctx, event.Sink(event.SinkChangedType, sinkData(r.sink), now))
	})
	if err != nil {
		r.forget(r.pair)
		r.leases.drop(r.pair, err)
		return err
	}
	if rings {
		r.Notify()
	}
	return nil
}

// keep writes what became of documents.
func (r *run) keep(ctx context.Context, tx *store.Tx, s settlement) error {
	if err := tx.SaveReceipts(ctx, r.key, r.sink.ID, s.receipts); err != nil {
		return err
	}
	for _, o := range s.omitted {
		if err := tx.AddOmission(ctx, r.key, r.sink.ID, o); err != nil {
			return err
		}
	}
	if s.replay != nil {
		// One that was cancelled meanwhile stays as it was then.
		if err := tx.SaveReplay(ctx, *s.replay); err != nil && !errors.Is(err, fault.Stale) {
			return err
		}
	}
	for _, h := range s.release {
		if err := tx.ReleaseHeld(ctx, h); err != nil {
			return err
		}
	}
	for _, h := range s.hold {
		if err := tx.SaveHeld(ctx, h); err != nil {
			return err
		}
	}
	for _, a := range s.attempts {
		if err := tx.AddAttempt(ctx, r.key.Org, r.sink.ID, a); err != nil {
			return err
		}
	}
	return nil
}

// still fails unless the pass may write: the lease is ours, the sink has not been
// changed, and the formation is the one whose log was read, not a later one of the
// same name.
func (r *run) still(ctx context.Context, tx *store.Tx) error {
	if err := tx.Guard(ctx, r.lease); err != nil {
		return err
	}
	sink, err := tx.Sink(ctx, r.key.Org, r.sink.ID)
	if err != nil {
		return err
	}
	if sink.Revision != r.sink.Revision {
		return fault.Stale.New("sink %q was changed", sink.ID)
	}
	f, err := tx.Formation(ctx, r.key)
	if err == nil && (f.MeshID != r.formation.MeshID || !f.CreatedAt.Equal(r.formation.CreatedAt)) {
		return fault.Stale.New("formation %q was made anew", r.key)
	}
	if err == nil && f.State != tenant.Active {
		r.halted = true // what went out is recorded, and no more goes out
	}
	return err
}

// health is the state that a settlement means for the sink.
func (s settlement) health(sink delivery.Sink) (delivery.State, string) {
	switch {
	case s.trouble != nil && s.trouble.Gone:
		return delivery.Disabled, s.trouble.Reason
	case s.trouble != nil:
		return delivery.Failing, s.trouble.Reason
	case len(s.delivered) > 0:
		return delivery.Active, ""
	}
	return sink.State, sink.Reason
}

// adopt goes on from what was saved.
func (r *run) adopt(s settlement, state delivery.State, reason string) {
	r.cursor, r.sink.State, r.sink.Reason = s.cursor, state, reason
	for _, h := range s.release {
		delete(r.held, h.Document)
	}
	for _, h := range s.hold {
		r.held[h.Document] = h
		if h.State == delivery.Parked {
			r.Metrics.Parked(string(r.sink.Kind))
		}
	}
	if len(s.delivered) > 0 {
		r.Metrics.Delivered(string(r.sink.Kind), len(s.delivered))
	}
	for range s.retried {
		r.Metrics.Retried(string(r.sink.Kind))
	}
}

func sinkData(s delivery.Sink) event.SinkData {
	return event.SinkData{Org: s.Org, Sink: s.ID, Kind: string(s.Kind)}
}

func deadLetterData(kind delivery.Kind, h delivery.Held) event.DeadLetterData {
	return event.DeadLetterData{Org: h.Org, App: h.App, Sink: h.Sink, Kind: string(kind), ID: h.ID,
		Document: h.Document, Seq: h.FromSeq, Hash: change.Hash(h.Hash).String()}
}
