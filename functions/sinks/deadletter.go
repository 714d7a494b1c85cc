package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func (a *Admin) listDeadLetters(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	which := delivery.DeadLetters{State: delivery.HeldState(q.Get("state")), Document: q.Get("document"), Error: q.Get("error")}
	switch which.State {
	case "", delivery.Parked, delivery.Redriving, delivery.Retrying:
	default:
		return fault.Malformed.New("state must be parked, redriving or retrying")
	}
	if which.App, err = oneFormation(r, q.Get("formation")); err != nil {
		return err
	}
	found, err := a.Store.DeadLetters(r.Context(), sink.Org, sink.ID, which, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(h delivery.Held) string { return h.ID })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, wireDeadLetter))
}

// oneFormation is the formation that a request limits itself to: the path's, or
// the one that it names. Empty is none.
func oneFormation(r *http.Request, name string) (tenant.AppID, error) {
	path := r.PathValue("app")
	switch {
	case name == "":
		return tenant.AppID(path), nil // find has looked at it
	case path != "" && path != name:
		return "", driver.Invalid("formation", "is said by the path here")
	}
	app, err := tenant.ParseAppID(name)
	if err != nil {
		return "", driver.Invalid("formation", "must be a formation's name")
	}
	return app, nil
}

// inScope reports whether a document belongs to what the path names.
func inScope(r *http.Request, h delivery.Held) bool {
	app := r.PathValue("app")
	return app == "" || app == string(h.App)
}

// findDeadLetter returns the sink and the held document of the path.
func (a *Admin) findDeadLetter(r *http.Request) (delivery.Sink, delivery.Held, error) {
	sink, err := a.find(r)
	if err != nil {
		return sink, delivery.Held{}, err
	}
	id, err := web.Path(r, "id", ulid.ParseStrict)
	if err != nil {
		return sink, delivery.Held{}, err
	}
	held, err := a.Store.DeadLetter(r.Context(), sink.Org, sink.ID, id.String())
	if err == nil && !inScope(r, held) {
		err = fault.NotFound.New("no dead letter %q", held.ID)
	}
	return sink, held, err
}

// inspect shows a dead letter with its event, as the sink would get it, and what
// was tried.
func (a *Admin) inspect(w http.ResponseWriter, r *http.Request) error {
	sink, held, err := a.findDeadLetter(r)
	if err != nil {
		return err
	}
	attempts, err := a.Store.Attempts(r.Context(), sink.Org, sink.ID, held.ID)
	if err != nil {
		return err
	}
	out := inspectedWire{deadLetterWire: wireDeadLetter(held), History: []attemptWire{}}
	for _, t := range attempts {
		out.History = append(out.History, attemptWire{At: t.At, Seq: t.Seq, Status: t.Status, Error: t.Error, Excerpt: t.Excerpt})
	}
	if out.Event, err = a.eventOf(r.Context(), sink, held); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// eventOf is the event that a held document waits for.
func (a *Admin) eventOf(ctx context.Context, sink delivery.Sink, h delivery.Held) (json.RawMessage, error) {
	key := tenant.Key{Org: h.Org, App: h.App}
	log, err := a.Store.DocumentChanges(ctx, key, h.Document, h.FromSeq, endOfLog, 1, 1)
	if err != nil || len(log) == 0 {
		return nil, errors.Join(err, noChange(h))
	}
	if h.SkipSeq == h.FromSeq {
		marker, err := event.Encode(event.ChangeSkipped(key, sink.ID, log[0]))
		return marker.AppendJSON(nil), err
	}
	var occasion *event.Occasion
	if !sink.Filter.IsZero() {
		receipts, err := a.Store.Receipts(ctx, key, sink.ID, []string{h.Document})
		if err != nil {
			return nil, err
		}
		occasion = &event.Occasion{}
		if last := receipts[h.Document]; last.Seq > 0 {
			occasion.Prev = &last.Hash
		}
	}
	return event.EncodeChange(key, log[0], sink.Format, occasion).AppendJSON(nil), nil
}

// endOfLog is a position after all others, in what a database takes for a number.
const endOfLog = 1<<63 - 1

func noChange(h delivery.Held) error {
	return fmt.Errorf("the log of %s/%s lacks change %d of a held document", h.Org, h.App, h.FromSeq)
}

// redrive lets a parked document be tried again, from the change that was
// refused, in order.
func (a *Admin) redrive(w http.ResponseWriter, r *http.Request) error {
	return a.decide(w, r, delivery.Redrive)
}

// skip leaves the refused change out. The receiver gets a marker in its place,
// so that the gap is seen to be meant.
func (a *Admin) skip(w http.ResponseWriter, r *http.Request) error {
	return a.decide(w, r, delivery.Skip)
}

// purge gives up the refused change and all that waits behind it now. Nothing
// goes in their place; what comes later is delivered.
func (a *Admin) purge(w http.ResponseWriter, r *http.Request) error {
	return a.decide(w, r, delivery.Purge)
}

func (a *Admin) decide(w http.ResponseWriter, r *http.Request, d delivery.Decision) error {
	sink, held, err := a.findDeadLetter(r)
	if err != nil {
		return err
	}
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if held, err = tx.Decide(r.Context(), sink.Org, sink.ID, held.ID, d, a.Now()); err != nil {
			return err
		}
		entry := a.audit(r, sink, "deadletter."+string(d), sink.ID+"/"+held.ID)
		entry.Detail["document_id"], entry.Detail["seq"], entry.Detail["change_hash"] = held.Document, held.FromSeq, change.Hash(held.Hash)
		if d == delivery.Purge {
			entry.Detail["to_seq"] = held.PurgeTo
		}
		if err := tx.AppendAudit(r.Context(), entry); err != nil {
			return err
		}
		return tx.Enqueue(r.Context(), event.DeadLetter(event.DeadLetterRedriveType, deadLetterData(sink.Kind, held), a.Now()))
	}); err != nil {
		return err
	}
	a.Notify()
	return web.WriteJSON(w, http.StatusAccepted, wireDeadLetter(held))
}
