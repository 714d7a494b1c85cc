package sinks

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Bounds of what may be asked for.
const (
	maxRunningReplays = 10 // of one sink
	maxReplayRate     = 100_000
	maxName           = 1024 // bytes of a document's or an author's id
)

// replayRequest asks for a part of the log once more. What it leaves out does not limit.
type replayRequest struct {
	Formation string     `json:"formation,omitempty"` // needed if the sink covers several and the path names none
	From      *uint64    `json:"from,omitempty"`      // positions, both included
	To        *uint64    `json:"to,omitempty"`
	Since     *time.Time `json:"since,omitempty"` // received from then on
	Until     *time.Time `json:"until,omitempty"` // received before
	Document  string     `json:"document,omitempty"`
	Actor     string     `json:"actor,omitempty"`
	Rate      int        `json:"rate,omitempty"` // events per second
	DryRun    bool       `json:"dry_run,omitempty"`
}

func (a *Admin) postReplay(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	var in replayRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	p, err := a.parseReplay(r, sink, in)
	if err != nil {
		return err
	}
	// Before the transaction: it looks at each change.
	if p.Total, err = a.Store.CountReplay(r.Context(), p); err != nil {
		return err
	}
	if in.DryRun {
		return web.WriteJSON(w, http.StatusOK, countWire{p.Total})
	}
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error { return a.keepReplay(tx, r, sink, p) }); err != nil {
		return err
	}
	a.Notify()
	w.Header().Set("Location", r.URL.Path+"/"+p.ID)
	return web.WriteJSON(w, http.StatusCreated, wireReplay(p))
}

// parseReplay checks a request and makes the replay it asks for.
func (a *Admin) parseReplay(r *http.Request, sink delivery.Sink, in replayRequest) (p delivery.Replay, err error) {
	ctx := r.Context()
	key := tenant.Key{Org: sink.Org}
	if key.App, err = formationOf(r, sink, in.Formation); err != nil {
		return p, err
	}
	if _, err := a.Store.Formation(ctx, key); err != nil {
		return p, err
	}
	switch {
	case !plain(in.Document):
		return p, driver.Invalid("document", "must be a document's id")
	case !plain(in.Actor):
		return p, driver.Invalid("actor", "must be an author's id")
	case in.Rate < 0 || in.Rate > maxReplayRate:
		return p, driver.Invalid("rate", "must be 1 to 100000 events per second, or left out")
	}
	now := store.Precise(a.Now())
	p = delivery.Replay{Org: key.Org, Sink: sink.ID, ID: newID(now), App: key.App, Document: in.Document, Actor: in.Actor,
		Rate: in.Rate, State: delivery.Running, CreatedAt: now}
	if p.From, p.To, err = a.rangeOf(ctx, key, sink, in); err != nil {
		return p, err
	}
	p.Position = p.From - 1
	return p, nil
}

// formationOf is the one formation of a sink that a request is about: the path's,
// the one it names, or the only one that the sink covers.
func formationOf(r *http.Request, sink delivery.Sink, name string) (tenant.AppID, error) {
	app, err := oneFormation(r, name)
	if err != nil {
		return "", err
	}
	if app == "" {
		if len(sink.Formations) != 1 || sink.Covers(delivery.AllFormations) {
			return "", driver.Invalid("formation", "must say which of the sink's formations is meant")
		}
		app = tenant.AppID(sink.Formations[0])
	}
	if !sink.Covers(app) {
		return "", driver.Invalid("formation", "must be one that the sink covers")
	}
	return app, nil
}

// plain reports whether a text may be compared with what the log holds.
func plain(s string) bool { return len(s) <= maxName && !strings.Contains(s, "\x00") }

// rangeOf is which positions a replay is about, none of them after the cursor: it
// repeats, and what is new comes by itself.
func (a *Admin) rangeOf(ctx context.Context, key tenant.Key, sink delivery.Sink, in replayRequest) (from, to uint64, err error) {
	cursor, err := a.Store.Cursor(ctx, key, sink.ID)
	if err != nil {
		return 0, 0, err
	}
	from, to = 1, cursor.Position
	switch {
	case in.From != nil && in.Since != nil:
		return 0, 0, driver.Invalid("since", "and from cannot both be said")
	case in.To != nil && in.Until != nil:
		return 0, 0, driver.Invalid("until", "and to cannot both be said")
	}
	if in.From != nil {
		from = max(1, *in.From)
	}
	if in.Since != nil {
		before, err := a.Store.PositionAt(ctx, key, *in.Since)
		if err != nil {
			return 0, 0, err
		}
		from = before + 1
	}
	if in.To != nil {
		to = min(to, *in.To)
	}
	if in.Until != nil {
		last, err := a.Store.PositionAt(ctx, key, *in.Until)
		if err != nil {
			return 0, 0, err
		}
		to = min(to, last)
	}
	if from > endOfLog {
		return 0, 0, driver.Invalid("from", "is larger than any log")
	}
	return from, to, nil
}

// keepReplay writes a replay down, if the sink has not too many, and rings.
func (a *Admin) keepReplay(tx *store.Tx, r *http.Request, sink delivery.Sink, p delivery.Replay) error {
	ctx := r.Context()
	if _, err := tx.LockOrg(ctx, sink.Org); err != nil { // so that two who count do not both find nine
		return err
	}
	running, err := tx.RunningReplays(ctx, sink.Org, sink.ID)
	if err != nil {
		return err
	}
	if len(running) >= maxRunningReplays {
		return fault.Exhausted.New("a sink has at most %d replays that run", maxRunningReplays)
	}
	if err := tx.CreateReplay(ctx, p); err != nil {
		return err
	}
	return a.noteReplay(tx, r, sink, p, "replay.create")
}

// noteReplay writes the audit entry of an act and rings.
func (a *Admin) noteReplay(tx *store.Tx, r *http.Request, sink delivery.Sink, p delivery.Replay, action string) error {
	entry := a.audit(r, sink, action, sink.ID+"/"+p.ID)
	entry.Detail["app_id"], entry.Detail["from"], entry.Detail["to"], entry.Detail["total"] = p.App, p.From, p.To, p.Total
	entry.Detail["document_id"], entry.Detail["actor_id"], entry.Detail["rate"] = p.Document, p.Actor, p.Rate
	if err := tx.AppendAudit(r.Context(), entry); err != nil {
		return err
	}
	return tx.Enqueue(r.Context(), event.LogAppended(tenant.Key{Org: p.Org, App: p.App}, 0, a.Now()))
}

// listReplays shows a sink's replays, the latest ones included that have ended.
// The page is cut before those of other formations are left out, as in list.
func (a *Admin) listReplays(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	found, err := a.Store.Replays(r.Context(), sink.Org, sink.ID, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(p delivery.Replay) string { return p.ID })
	out := web.List[replayWire]{Items: []replayWire{}, Next: list.Next}
	for _, p := range list.Items {
		if app := r.PathValue("app"); app == "" || app == string(p.App) {
			out.Items = append(out.Items, wireReplay(p))
		}
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// replayOf returns a replay of the path's sink.
func replayOf(r *http.Request, sink delivery.Sink, find func(context.Context, tenant.OrgID, string, string) (delivery.Replay, error)) (delivery.Replay, error) {
	id, err := web.Path(r, "replay", ulid.ParseStrict)
	if err != nil {
		return delivery.Replay{}, err
	}
	p, err := find(r.Context(), sink.Org, sink.ID, id.String())
	if app := r.PathValue("app"); err == nil && app != "" && app != string(p.App) {
		err = fault.NotFound.New("no replay %q", p.ID)
	}
	return p, err
}

func (a *Admin) getReplay(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	p, err := replayOf(r, sink, a.Store.Replay)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireReplay(p))
}

// cancelReplay ends a replay. A batch that is being sent is still sent.
func (a *Admin) cancelReplay(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	var p delivery.Replay
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if p, err = replayOf(r, sink, tx.Replay); err != nil {
			return err
		}
		if p.State != delivery.Running {
			return fault.Conflict.New("replay %q is %s, not running", p.ID, p.State)
		}
		p.State, p.EndedAt, p.NextAttemptAt = delivery.Cancelled, store.Precise(a.Now()), time.Time{}
		if err := tx.SaveReplay(r.Context(), p); err != nil {
			return err
		}
		return a.noteReplay(tx, r, sink, p, "replay.cancel") // it rings: another one may have waited for this
	}); err != nil {
		return err
	}
	a.Notify()
	return web.WriteJSON(w, http.StatusOK, wireReplay(p))
}

type countWire struct {
	Count uint64 `json:"count"`
}

type replayWire struct {
	ID            string               `json:"replay_id"`
	App           tenant.AppID         `json:"app_id"`
	Document      string               `json:"document_id,omitempty"`
	Actor         string               `json:"actor_id,omitempty"`
	From          uint64               `json:"from"`
	To            uint64               `json:"to"`
	Rate          int                  `json:"rate,omitempty"`
	State         delivery.ReplayState `json:"state"`
	Position      uint64               `json:"position"`
	Count         uint64               `json:"count"` // in the range when it was asked for, before the filter
	Delivered     uint64               `json:"delivered"`
	Refused       uint64               `json:"refused"`
	LastError     string               `json:"last_error,omitempty"`
	NextAttemptAt time.Time            `json:"next_attempt_at,omitzero"`
	CreatedAt     time.Time            `json:"created_at"`
	EndedAt       time.Time            `json:"ended_at,omitzero"`
}

func wireReplay(p delivery.Replay) replayWire {
	return replayWire{
		ID: p.ID, App: p.App, Document: p.Document, Actor: p.Actor, From: p.From, To: p.To, Rate: p.Rate, State: p.State,
		Position: p.Position, Count: p.Total, Delivered: p.Delivered, Refused: p.Refused, LastError: p.LastError,
		NextAttemptAt: p.NextAttemptAt, CreatedAt: p.CreatedAt, EndedAt: p.EndedAt,
	}
}
