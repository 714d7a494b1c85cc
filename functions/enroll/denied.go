package enroll

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// How many denials of one token a process writes into the audit trail in a time.
// Whoever has a token that is of no use any more could otherwise fill the trail.
const (
	maxDenials   = 20
	denialWindow = time.Minute
)

// maxWindows is how many tokens are counted before those of the past are forgotten.
const maxWindows = 1024

// isDecision tells whether an error says that a node is not let in, rather than that
// something did not work.
func isDecision(err error) bool {
	for _, kind := range []fault.Kind{fault.Unauthenticated, fault.Forbidden, fault.Conflict, fault.Exhausted, fault.Invalid} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// denied writes down that a node with a known token was not let in, and returns why.
// What is no decision is passed on.
func (f *Function) denied(ctx context.Context, o order, why error) error {
	if !isDecision(why) {
		return why
	}
	id := o.shown.token.ID
	record, missing := f.denials.take(id, f.Now())
	if !record {
		f.Log.WarnContext(ctx, "enrollment denied; the audit trail has enough of this token", "org", o.key.Org, "app", o.key.App, "token_id", id, "request_id", o.request)
		return why
	}
	detail := claimed(o)
	reason := fault.Of(why)
	if detail["reason"] = reason.Message; reason.Cause != nil && errors.Is(why, fault.Unauthenticated) {
		detail["reason"] = reason.Cause.Error()
	}
	if missing > 0 {
		detail["not_recorded"] = missing
	}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.AppendAudit(ctx, f.audit(o.act, o.key, "enrollment.deny", string(o.key.App)+"/"+id, detail))
	}); err != nil {
		return err
	}
	return why
}

// denials counts, by token, what was denied of late.
type denials struct {
	mu      sync.Mutex
	windows map[string]*window
}

type window struct {
	since   time.Time
	taken   int
	dropped int // that were not recorded
}

// take tells whether one more denial of a token is to be recorded, and how many
// before it were not.
func (d *denials) take(id string, now time.Time) (record bool, missing int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	past := func(w *window) bool { return now.Sub(w.since).Abs() >= denialWindow }
	w := d.windows[id]
	if w == nil {
		if d.windows == nil || len(d.windows) >= maxWindows {
			kept := map[string]*window{}
			for other, w := range d.windows {
				if !past(w) {
					kept[other] = w
				}
			}
			d.windows = kept
		}
		w = &window{since: now}
		d.windows[id] = w
	}
	if past(w) {
		missing = w.dropped
		*w = window{since: now}
	}
	if w.taken++; w.taken > maxDenials {
		w.dropped++
		return false, 0
	}
	return true, missing
}
