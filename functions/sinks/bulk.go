package sinks

import (
	"net/http"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Bounds of a decision over many dead letters.
const (
	maxBulkIDs = 1000
	bulkRows   = 200 // in one transaction
)

// bulkRequest names dead letters: some by their ids, or all that it describes.
type bulkRequest struct {
	IDs       []string `json:"ids,omitempty"`
	All       bool     `json:"all,omitempty"`
	Formation string   `json:"formation,omitempty"`
	Document  string   `json:"document,omitempty"`
	Error     string   `json:"error,omitempty"`
}

type bulkWire struct {
	Affected int `json:"affected"`
}

func (in bulkRequest) parse(r *http.Request) (which delivery.DeadLetters, err error) {
	switch {
	case in.All == (in.IDs != nil):
		return which, driver.Invalid("ids", "or all must be said, and not both")
	case in.IDs != nil && (in.Document != "" || in.Error != "" || in.Formation != ""):
		return which, driver.Invalid("all", "must be true if a formation, a document or an error is said")
	case len(in.IDs) > maxBulkIDs:
		return which, driver.Invalid("ids", "must be 1000 or less")
	}
	which = delivery.DeadLetters{Document: in.Document, Error: in.Error, IDs: slices.Clone(in.IDs)}
	for i, text := range which.IDs {
		id, err := ulid.ParseStrict(text)
		if err != nil {
			return which, driver.Invalid("ids", "must be ids of dead letters")
		}
		which.IDs[i] = id.String()
	}
	slices.Sort(which.IDs)
	which.App, err = oneFormation(r, in.Formation)
	return which, err
}

// decideMany returns a door that decides over many dead letters. Those that are
// not parked (any more) are left out. What was decided before an error stays, and
// asking again does the rest.
func (a *Admin) decideMany(d delivery.Decision) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		sink, err := a.find(r)
		if err != nil {
			return err
		}
		var in bulkRequest
		if err := web.ReadJSON(r, &in); err != nil {
			return err
		}
		which, err := in.parse(r)
		if err != nil {
			return err
		}
		affected := 0
		for after, more := "", true; more; {
			var done []delivery.Held
			if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
				if done, err = tx.DecideAll(r.Context(), sink.Org, sink.ID, which, d, after, bulkRows, a.Now()); err != nil || len(done) == 0 {
					return err
				}
				return a.noteMany(tx, r, sink, d, in, done)
			}); err != nil {
				return err
			}
			affected += len(done)
			if more = len(done) == bulkRows; more {
				after = done[len(done)-1].ID
			}
		}
		if affected > 0 {
			a.Notify()
		}
		return web.WriteJSON(w, http.StatusAccepted, bulkWire{affected})
	}
}

// noteMany writes one audit entry and rings once for each formation.
func (a *Admin) noteMany(tx *store.Tx, r *http.Request, sink delivery.Sink, d delivery.Decision, in bulkRequest, done []delivery.Held) error {
	ids := make([]string, len(done))
	var apps []tenant.AppID
	for i, h := range done {
		ids[i] = h.ID
		if !slices.Contains(apps, h.App) {
			apps = append(apps, h.App)
		}
	}
	entry := a.audit(r, sink, "deadletter."+string(d), sink.ID)
	entry.Detail["ids"], entry.Detail["affected"] = ids, len(done)
	if in.All {
		entry.Detail["formation"], entry.Detail["document_id"], entry.Detail["error"] = in.Formation, in.Document, in.Error
	}
	if err := tx.AppendAudit(r.Context(), entry); err != nil {
		return err
	}
	for _, app := range apps {
		if err := tx.Enqueue(r.Context(), event.LogAppended(tenant.Key{Org: sink.Org, App: app}, 0, a.Now())); err != nil {
			return err
		}
	}
	return nil
}
