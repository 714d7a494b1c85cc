package sinks

import (
	"net/http"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
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
	found, err := a.Store.DeadLetters(r.Context(), sink.Org, sink.ID, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(h delivery.Held) string { return h.ID })
	// The page is cut first, as in list.
	list.Items = slices.DeleteFunc(list.Items, func(h delivery.Held) bool { return !inScope(r, h) })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, wireDeadLetter))
}

// inScope reports whether a document belongs to what the path names.
func inScope(r *http.Request, h delivery.Held) bool {
	app := r.PathValue("app")
	return app == "" || app == string(h.App)
}

// redrive lets a parked document be tried again, from the change that was
// refused, in order.
func (a *Admin) redrive(w http.ResponseWriter, r *http.Request) error {
	return a.release(w, r, false, "deadletter.redrive")
}

// skip leaves the refused change out. The receiver gets a marker in its place,
// so that the gap is seen to be meant.
func (a *Admin) skip(w http.ResponseWriter, r *http.Request) error {
	return a.release(w, r, true, "deadletter.skip")
}

func (a *Admin) release(w http.ResponseWriter, r *http.Request, skip bool, action string) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	id, err := web.Path(r, "id", ulid.ParseStrict)
	if err != nil {
		return err
	}
	var held delivery.Held
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if held, err = tx.Redrive(r.Context(), sink.Org, sink.ID, id.String(), skip, a.Now()); err != nil {
			return err
		}
		if !inScope(r, held) {
			return fault.NotFound.New("no dead letter %q", held.ID)
		}
		entry := a.audit(r, sink, action, sink.ID+"/"+held.ID)
		entry.Detail["document_id"], entry.Detail["seq"], entry.Detail["change_hash"] = held.Document, held.FromSeq, change.Hash(held.Hash)
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
