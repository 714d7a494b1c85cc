package documents

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"
)

// getStream sends the events after a cursor that the caller keeps, without end.
func (f *Function) getStream(w http.ResponseWriter, r *http.Request) error {
	log, err := f.openAsAsked(r)
	if err != nil {
		return err
	}
	from, resumed, err := f.resumed(r, log)
	if err == nil && !resumed {
		from, err = f.from(r, log)
	}
	if err != nil {
		return err
	}
	return f.stream(w, r, log, from)
}

// resumed is where a client was when its stream broke. It wins over everything
// else: the address says where the client began, this how far it has come.
func (f *Function) resumed(r *http.Request, log *reader) (position uint64, ok bool, err error) {
	const header = "Last-Event-ID"
	text := r.Header.Get(header)
	if text == "" {
		return 0, false, nil
	}
	position, err = log.place(r.Context(), f.Store, text, header)
	return position, true, err
}

// reconnect is how long a client waits before it connects again, in milliseconds.
// A stream ends often: at its limit, with its process, or with Knative's request.
const reconnect = 1000

// eventName is what clients listen for.
const eventName = "document.changed"

// stream sends the events after a position until its time is over, the client
// leaves, or the process stops. A client that comes back says how far it was.
func (f *Function) stream(w http.ResponseWriter, r *http.Request, log *reader, position uint64) error {
	perSecond, err := f.afford(r.Context(), log.key.Org)
	if err != nil {
		return err
	}
	leave, err := f.seats.take(log.key.Org)
	if err != nil {
		return err
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // some proxies would keep events until there are many
	if r.Method == http.MethodHead {
		return nil
	}
	bell := f.bells.join(log.key)
	defer f.bells.leave(bell)
	out := newOutput(w)
	defer out.extend() // for the end that the server writes
	// An id without data is no event, but clients keep it: one that began at "now"
	// and breaks off before the first event goes on from there, not from a later now.
	fmt.Fprintf(out, "retry: %d\nid: %s\n\n", reconnect, log.cursor(position))
	if err := out.send(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.Settings.Lifetime)
	defer cancel()
	heartbeat := time.NewTicker(f.Settings.Heartbeat)
	defer heartbeat.Stop()
	readOn := make(chan struct{}) // in place of a bell while the log goes on
	close(readOn)
	told := position // what the client knows of where it is
	for {
		rung := f.bells.next(bell)
		if wait := f.pace.Until(string(log.key.Org)).Sub(f.Now()); perSecond > 0 && wait > 0 {
			// What has been sent is paid for first. No longer than a heartbeat at a
			// time, which the client waits for too.
			select {
			case <-f.bells.stopped():
				return nil
			case <-ctx.Done():
				return nil
			case <-time.After(min(wait, f.Settings.Heartbeat)):
			}
			if wait > f.Settings.Heartbeat {
				out.WriteString(":\n\n")
				if err := out.send(); err != nil {
					return err
				}
			}
			continue
		}
		p, err := log.after(ctx, position, math.MaxInt)
		if err == nil && len(p.events) > 0 {
			f.pace.Pay(string(log.key.Org), p.bytes(), perSecond, f.Now())
			err = pour(out, log, p)
			told = p.events[len(p.events)-1].Position
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		position = p.to
		if !p.end {
			rung = readOn
		}
		select {
		case <-f.bells.stopped():
			return nil
		case <-ctx.Done():
			return nil
		case <-heartbeat.C:
			out.WriteString(":\n")
			if told != position { // the filter has let nothing pass for a while
				fmt.Fprintf(out, "id: %s\n", log.cursor(position))
				told = position
			}
			out.WriteByte('\n')
			if err := out.send(); err != nil {
				return err
			}
		case <-rung:
		}
	}
}

// pour sends a piece of the log.
func pour(out *output, log *reader, p piece) error {
	for _, c := range p.events {
		fmt.Fprintf(out, "id: %s\nevent: %s\ndata: %s\n\n", log.cursor(c.Position), eventName, log.encode(c))
	}
	return out.send()
}
