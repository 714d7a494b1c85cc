package enroll

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// How many denials of one token or identity, or of those of a formation who show
// neither, a process writes into the audit trail in a time. Whoever is not let in could
// otherwise fill the trail.
const (
	maxDenials   = 20
	denialWindow = time.Minute
)

// maxWindows is how many are counted before those of the past are forgotten.
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

// What is written down of a node that was not let in.
const (
	denied    = "enrollment.deny"
	tooOften  = "enrollment.limit"
	malformed = "enrollment.malformed"
)

// shownBy names what was shown, in the audit trail and for counting.
func (o order) shownBy() string {
	switch {
	case o.shown != nil:
		return o.shown.token.ID
	case o.claimed != nil:
		return o.claimed.voucher.AdmittedBy()
	}
	return ""
}

// denied writes down that a node was not let in, and returns why. What is no decision
// is passed on.
func (f *Function) denied(ctx context.Context, o order, why error) error {
	if !isDecision(why) {
		return why
	}
	action := denied
	if errors.Is(why, fault.Exhausted) {
		action = tooOften
	}
	by := o.shownBy()
	record, missing := f.denials.take(window{org: o.key.Org, app: o.key.App, of: by}, f.Now())
	if !record {
		f.Log.WarnContext(ctx, "enrollment denied; the audit trail has enough of this", "org", o.key.Org, "app", o.key.App, "token_id", by, "request_id", o.request)
		return why
	}
	detail := said(o)
	detail["reason"] = reasonOf(why)
	if missing > 0 {
		detail["not_recorded"] = missing
	}
	if o.claimed != nil {
		o.actor = by
	}
	target := string(o.key.App)
	if by != "" {
		target += "/" + by
	}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.AppendAudit(ctx, f.audit(o.act, o.key, action, target, detail)); err != nil {
			return err
		}
		faultpoint.Hit("denied/audited")
		if err := o.record(ctx, tx, f.Now()); err != nil {
			return err
		}
		return tx.Enqueue(ctx, event.EnrollmentDecided(decidedBy(o, event.EnrollmentDenied), f.Now()))
	}); err != nil {
		return err
	}
	f.Notify()
	return why
}

// reasonOf is why a node is not let in, for the audit trail: what it is told itself may
// be less.
func reasonOf(why error) string {
	reason := fault.Of(why)
	if reason.Cause != nil && (errors.Is(why, fault.Unauthenticated) || errors.Is(why, fault.Forbidden)) {
		return reason.Cause.Error()
	}
	return reason.Message
}

// unheard writes down that somebody was turned away of whom nothing is known but the
// address, and returns why. Of a formation that is not there nothing is written: who
// knows whose name that is.
func (f *Function) unheard(ctx context.Context, key tenant.Key, from netip.Addr, action string, why error) error {
	if !isDecision(why) && !errors.Is(why, fault.Malformed) && !errors.Is(why, fault.TooLarge) && !errors.Is(why, fault.UnsupportedMedia) {
		return why
	}
	if _, err := f.Store.Formation(ctx, key); err != nil {
		return err
	}
	record, missing := f.denials.take(window{org: key.Org, app: key.App, of: action}, f.Now())
	if !record {
		f.Log.WarnContext(ctx, "an enrollment that was not heard; the audit trail has enough of these", "org", key.Org, "app", key.App, "request_id", web.RequestID(ctx))
		return why
	}
	detail := map[string]any{"reason": reasonOf(why)}
	if from.IsValid() {
		detail["address"] = from.String()
	}
	if missing > 0 {
		detail["not_recorded"] = missing
	}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.AppendAudit(ctx, f.audit(act{"device", web.RequestID(ctx)}, key, action, string(key.App), detail))
	}); err != nil {
		return err
	}
	return why
}

// window is of what a minute's denials are counted together: of one token, of one
// identity, or, of those who showed neither, of a formation.
type window struct {
	org tenant.OrgID
	app tenant.AppID
	of  string
}

// denials counts what was denied of late.
type denials struct {
	mu      sync.Mutex
	windows map[window]*count
}

type count struct {
	since   time.Time
	taken   int
	dropped int // that were not recorded
}

// take tells whether one more denial is to be recorded, and how many before it were
// not.
func (d *denials) take(id window, now time.Time) (record bool, missing int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	past := func(w *count) bool { return now.Sub(w.since).Abs() >= denialWindow }
	w := d.windows[id]
	if w == nil {
		if d.windows == nil || len(d.windows) >= maxWindows {
			kept := map[window]*count{}
			for other, w := range d.windows {
				if !past(w) {
					kept[other] = w
				}
			}
			d.windows = kept
		}
		if len(d.windows) >= maxWindows {
			id = window{} // all that there is no room for
		}
	}
	if w = d.windows[id]; w == nil {
		w = &count{since: now}
		d.windows[id] = w
	}
	if past(w) {
		missing = w.dropped
		*w = count{since: now}
	}
	if w.taken++; w.taken > maxDenials {
		w.dropped++
		return false, 0
	}
	return true, missing
}
