package documents

import (
	"context"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
)

// getEvents answers with the events after a cursor that the caller keeps.
func (f *Function) getEvents(w http.ResponseWriter, r *http.Request) error {
	log, err := f.open(r)
	if err != nil {
		return err
	}
	if log.format, err = parseFormat(r); err != nil {
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
	changes, err := f.await(ctx, log, position, q)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := newOutput(w)
	out.WriteString(`{"items":[`)
	sent, count, size := false, 0, 0
reading:
	for len(changes) > 0 {
		for _, c := range changes {
			b, err := log.encode(c)
			if err != nil {
				return err
			}
			if count > 0 && size+len(b) > maxPageBytes {
				break reading
			}
			if count > 0 {
				out.WriteByte(',')
			}
			out.Write(b)
			count, size, position = count+1, size+len(b), c.Position
		}
		if count >= q.limit {
			break
		}
		if out.Len() >= pieceBytes {
			sent = true
			if err := out.send(); err != nil {
				return err
			}
		}
		if changes, err = log.after(ctx, position, q.limit-count); err != nil {
			if !sent {
				return err
			}
			f.Log.WarnContext(ctx, "a page was cut short", "org", log.key.Org, "app", log.key.App, "err", err)
			break
		}
	}
	out.WriteString(`],"next":"` + log.cursor(position) + "\"}\n")
	return out.send()
}

// await reads what comes after a position. If there is nothing it waits until
// there is, but no longer than asked, and then returns nothing.
func (f *Function) await(ctx context.Context, log *reader, position uint64, q query) ([]change.Settled, error) {
	changes, err := log.after(ctx, position, q.limit)
	if err != nil || len(changes) > 0 || q.wait == 0 {
		return changes, err
	}
	leave, err := f.seats.take(log.key.Org)
	if err != nil {
		return nil, err
	}
	defer leave()
	bell := f.bells.join(log.key)
	defer f.bells.leave(bell)
	ends := time.NewTimer(q.wait)
	defer ends.Stop()
	for {
		rung := f.bells.next(bell)
		changes, err := log.after(ctx, position, q.limit)
		if err != nil || len(changes) > 0 {
			return changes, err
		}
		select {
		case <-rung:
		case <-ends.C:
			return log.after(ctx, position, q.limit) // once more: is it still this log?
		case <-f.bells.stopped():
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
