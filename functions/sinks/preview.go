package sinks

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Bounds of a preview.
const (
	previewEvents     = 20
	maxPreviewEvents  = 200
	previewFormations = 50
	previewBytes      = 4 << 20 // of events in the answer, and of changes read
)

type previewRequest struct {
	Filter    filter.Spec `json:"filter,omitzero"`
	Format    string      `json:"format,omitempty"`
	Formation string      `json:"formation,omitempty"`
	Limit     *int        `json:"limit,omitempty"`
}

type previewWire struct {
	Of      int           `json:"of"`
	Matched int           `json:"matched"`
	Failed  int           `json:"failed"` // the filter could not judge them; they would be delivered
	Items   []previewItem `json:"items"`
}

type previewItem struct {
	App      tenant.AppID    `json:"app_id"`
	Position uint64          `json:"position"`
	Document string          `json:"document_id"`
	Seq      uint64          `json:"seq"`
	Matched  bool            `json:"matched"`
	Error    string          `json:"error,omitempty"`
	Event    json.RawMessage `json:"event,omitempty"` // of what would be delivered, while there is room
}

// happened is a change of one of several formations.
type happened struct {
	app tenant.AppID
	change.Settled
}

// preview tries a filter on the latest events there are, and saves nothing.
func (a *Admin) preview(w http.ResponseWriter, r *http.Request) error {
	sc, err := scopeOf(r)
	if err != nil {
		return err
	}
	if err := a.exists(r.Context(), sc); err != nil {
		return err
	}
	var in previewRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	limit := previewEvents
	if in.Limit != nil {
		limit = *in.Limit
	}
	if limit < 1 || limit > maxPreviewEvents {
		return driver.Invalid("limit", "must be 1 to 200")
	}
	format, err := delivery.ParseFormat(in.Format)
	if err != nil {
		return err
	}
	f, err := filter.Compile(in.Filter)
	if err != nil {
		return err
	}
	app, err := oneFormation(r, in.Formation)
	if err != nil {
		return err
	}
	log, err := a.latest(r, sc.org, app, limit)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, try(f, sc.org, format, log))
}

// latest are the newest changes of a formation, or of all of an organization.
func (a *Admin) latest(r *http.Request, org tenant.OrgID, app tenant.AppID, limit int) ([]happened, error) {
	ctx := r.Context()
	apps := []tenant.AppID{app}
	if app != "" {
		if err := a.exists(ctx, scope{org, app}); err != nil {
			return nil, err
		}
	} else {
		formations, err := a.Store.Formations(ctx, org, "", "", previewFormations+1)
		if err != nil {
			return nil, err
		}
		if len(formations) > previewFormations {
			return nil, driver.Invalid("formation", "must be said: there are more than 50")
		}
		apps = apps[:0]
		for _, f := range formations {
			apps = append(apps, f.App)
		}
	}
	var all []happened
	for _, app := range apps {
		log, err := a.Store.LastChanges(ctx, tenant.Key{Org: org, App: app}, limit, previewBytes/len(apps))
		if err != nil {
			return nil, err
		}
		for _, c := range log {
			all = append(all, happened{app, c})
		}
	}
	slices.SortStableFunc(all, func(a, b happened) int { return a.ReceivedAt.Compare(b.ReceivedAt) })
	return all[max(0, len(all)-limit):], nil
}

// try judges changes as delivery would.
func try(f *filter.Filter, org tenant.OrgID, format delivery.Format, log []happened) previewWire {
	out := previewWire{Of: len(log), Items: []previewItem{}}
	room := previewBytes
	for _, h := range log {
		key := tenant.Key{Org: org, App: h.app}
		item := previewItem{App: h.app, Position: h.Position, Document: h.Document, Seq: h.Seq}
		matched, err := f.Match(key, h.Settled)
		switch {
		case err != nil:
			// It may quote the event, which is the organization's own.
			item.Error = err.Error()
			out.Failed++
		case matched:
			item.Matched = true
			out.Matched++
		}
		if item.Matched || err != nil {
			if e := event.EncodeChange(key, h.Settled, format, nil); e.Size() <= room {
				item.Event = e.AppendJSON(nil)
				room -= e.Size()
			}
		}
		out.Items = append(out.Items, item)
	}
	return out
}
