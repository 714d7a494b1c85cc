package documents

import (
	"context"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// getEvents answers with the events after a cursor that the caller keeps.
func (f *Function) getEvents(w http.ResponseWriter, r *http.Request) error {
	log, err := f.openAsAsked(r)
	if err != nil {
		return err
	}
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	from, err := f.from(r, log)
	if err != nil {
		return err
	}
	return f.page(w, r, log, from, q)
}

// from is the position that the query's cursor means; without one the beginning.
func (f *Function) from(r *http.Request, log *reader) (uint64, error) {
	text := r.URL.Query().Get("cursor")
	if text == "" {
		text = beginning
	}
	return log.place(r.Context(), f.Store, text, "cursor")
}

// page writes the events after a position, waiting for the first one if asked to.
//
// It is written while it is read. What goes wrong once a part has been sent makes
// the page shorter, not false: next says how far it went, and whoever asks on from
// there is told what is the matter.
func (f *Function) page(w http.ResponseWriter, r *http.Request, log *reader, position uint64, q query) error {
	ctx := r.Context()
	perSecond, err := f.afford(ctx, log.key.Org)
	if err != nil {
		return err
	}
	p, err := f.await(ctx, log, position, q)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := newOutput(w)
	out.WriteString(`{"items":[`)
	sent, count, size := false, 0, 0
	for range maxPieces {
		full := false
		for _, c := range p.events {
			b := log.encode(c)
			if full = count > 0 && size+len(b) > maxPageBytes; full {
				break
			}
			if count > 0 {
				out.WriteByte(',')
			}
			out.Write(b)
			count, size, position = count+1, size+len(b), c.Position
		}
		if !full {
			position = p.to
		}
		if full || p.end || count >= q.limit || count == 0 { // nothing at all: await has read enough
			break
		}
		if out.Len() >= pieceBytes {
			sent = true
			if err := out.send(); err != nil {
				return err
			}
		}
		if p, err = log.after(ctx, position, q.limit-count); err != nil {
			if !sent {
				return err
			}
			f.Log.WarnContext(ctx, "a page was cut short", "org", log.key.Org, "app", log.key.App, "err", err)
			break
		}
	}
	f.pace.Pay(string(log.key.Org), size, perSecond, f.Now())
	out.WriteString(`],"next":"` + log.cursor(position) + "\"}\n")
	return out.send()
}

// await reads what comes after a position. If there is nothing it waits until
// there is, but no longer than asked.
func (f *Function) await(ctx context.Context, log *reader, position uint64, q query) (piece, error) {
	p, err := log.search(ctx, position, q.limit)
	if err != nil || len(p.events) > 0 || !p.end || q.wait == 0 {
		return p, err
	}
	leave, err := f.seats.take(log.key.Org)
	if err != nil {
		return piece{}, err
	}
	defer leave()
	bell := f.bells.join(log.key)
	defer f.bells.leave(bell)
	ends := time.NewTimer(q.wait)
	defer ends.Stop()
	for over := false; ; {
		rung := f.bells.next(bell)
		p, err = log.search(ctx, p.to, q.limit)
		if err != nil || len(p.events) > 0 || !p.end || over {
			return p, err
		}
		select {
		case <-rung:
		case <-ends.C:
			over = true // looks once more: is it still this log?
		case <-f.bells.stopped():
			return p, nil
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// afford returns how many bytes per second an organization may fetch, sinks and
// all that it fetches together in this process, and refuses one that is over it.
func (f *Function) afford(ctx context.Context, org tenant.OrgID) (perSecond int, err error) {
	o, err := f.Store.Org(ctx, org)
	if err != nil {
		return 0, err
	}
	perSecond = o.Quotas.MaxCDCBytesPerSecond
	if wait := f.pace.Until(string(org)).Sub(f.Now()); perSecond > 0 && wait > 0 {
		return 0, fault.RetryIn(fault.Exhausted.New("the organization's quota max_cdc_bytes_per_second is %d", perSecond), wait)
	}
	return perSecond, nil
}
