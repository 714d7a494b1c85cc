package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// How long comparisons may take, and how often each is made.
const (
	askedFor    = 20 * time.Second // one that somebody waits for
	bySweep     = 10 * time.Second // all that one sweep makes
	sweepPairs  = 100
	compareEach = 24 * time.Hour
)

// comparedWire is how a comparison came out. complete is left out if there was no
// time to finish; through says how far it got then.
type comparedWire struct {
	App       tenant.AppID           `json:"app_id"`
	Finished  bool                   `json:"finished"`
	Complete  *bool                  `json:"complete,omitempty"`
	Through   uint64                 `json:"through"`
	Documents uint64                 `json:"documents"`
	Events    uint64                 `json:"events"`
	Omitted   uint64                 `json:"omitted"`
	Held      uint64                 `json:"held"`
	Found     uint64                 `json:"found"`
	Findings  []completeness.Finding `json:"findings"`
}

func wireCompared(app tenant.AppID, r completeness.Result, finished bool) comparedWire {
	w := comparedWire{App: app, Finished: finished, Through: r.Through, Documents: r.Documents, Events: r.Events,
		Omitted: r.Omitted, Held: r.Held, Found: r.Found, Findings: r.Findings}
	if finished {
		w.Complete = &r.Complete
	}
	if w.Findings == nil {
		w.Findings = []completeness.Finding{}
	}
	return w
}

// completeness compares now.
func (a *Admin) completeness(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	app, err := formationOf(r, sink, q.Get("formation"))
	if err != nil {
		return err
	}
	if !plain(q.Get("document")) {
		return driver.Invalid("document", "must be a document's id")
	}
	key := tenant.Key{Org: sink.Org, App: app}
	if _, err := a.Store.Formation(r.Context(), key); err != nil {
		return err
	}
	result, err := a.compare(r.Context(), pair{key, sink.ID}, q.Get("document"), time.Now().Add(askedFor))
	if err != nil && !errors.Is(err, errUnfinished) {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireCompared(app, result, err == nil))
}

// compareDue compares what has not been compared for a day, as much of it as a
// sweep has time for. A log that is too long for that is noted as unfinished.
func (a *Admin) compareDue(ctx context.Context) error {
	until := time.Now().Add(bySweep)
	due, err := a.Store.ComparisonsDue(ctx, a.Now().Add(-compareEach), sweepPairs)
	if err != nil {
		return fmt.Errorf("look for what is to be compared: %w", err)
	}
	for _, c := range due {
		if !time.Now().Before(until) {
			break // the next sweep goes on
		}
		if compareErr := a.compareOne(ctx, c, until); compareErr != nil && !errors.Is(compareErr, fault.NotFound) {
			err = errors.Join(err, fmt.Errorf("compare sink %s in %s: %w", c.Sink, c.Key, compareErr))
		}
	}
	return errors.Join(err, a.measureIncomplete(ctx))
}

func (a *Admin) compareOne(ctx context.Context, c store.Compared, until time.Time) error {
	result, err := a.compare(ctx, pair{c.Key, c.Sink}, "", until)
	unfinished := errors.Is(err, errUnfinished)
	if err != nil && !unfinished {
		if errors.Is(err, fault.Invalid) {
			// A filter that does not compile any more, of which delivery tells.
			c.At = store.Precise(a.Now())
			return a.Store.InTx(ctx, func(tx *store.Tx) error { return tx.SaveCompared(ctx, c) })
		}
		return err
	}
	if !unfinished && !result.Complete {
		a.Log.ErrorContext(ctx, "a sink lacks what it is owed, or has more", "org", c.Key.Org, "app", c.Key.App, "sink", c.Sink, "found", result.Found)
	}
	text, err := json.Marshal(wireCompared(c.Key.App, result, !unfinished))
	if err != nil {
		return fmt.Errorf("encode comparison: %w", err)
	}
	c.At, c.Found, c.Result = store.Precise(a.Now()), result.Found, string(text)
	return a.Store.InTx(ctx, func(tx *store.Tx) error { return tx.SaveCompared(ctx, c) })
}

func (a *Admin) measureIncomplete(ctx context.Context) error {
	found, err := a.Store.Incomplete(ctx)
	if err != nil {
		return err
	}
	for kind := range kinds {
		a.Metrics.Incomplete(string(kind), found[kind])
	}
	return nil
}

// nightlyWire is what the last comparisons of a sink say together.
type nightlyWire struct {
	Complete   bool             `json:"complete"` // as far as they were finished
	At         time.Time        `json:"at"`       // of the one that is longest ago
	Formations int              `json:"formations"`
	Unfinished int              `json:"unfinished"`        // formations whose log was too long
	Through    uint64           `json:"through,omitempty"` // if it is one formation
	Found      uint64           `json:"found"`
	Findings   []nightlyFinding `json:"findings"`
}

type nightlyFinding struct {
	App tenant.AppID `json:"app_id"`
	completeness.Finding
}

// nightly sums up the last comparisons of what the path names; nil if there was none.
func (a *Admin) nightly(r *http.Request, sink delivery.Sink) (*nightlyWire, error) {
	all, err := a.Store.Compared(r.Context(), sink.Org, sink.ID)
	if err != nil {
		return nil, err
	}
	out := &nightlyWire{Complete: true, Findings: []nightlyFinding{}}
	for _, c := range all {
		if app := r.PathValue("app"); c.Result == "" || app != "" && app != string(c.Key.App) {
			continue
		}
		var w comparedWire
		if err := json.Unmarshal([]byte(c.Result), &w); err != nil {
			return nil, fmt.Errorf("read comparison: %w", err)
		}
		if out.Formations++; out.Formations == 1 || c.At.Before(out.At) {
			out.At = c.At
		}
		if !w.Finished {
			out.Unfinished++
		}
		out.Through = w.Through
		out.Complete = out.Complete && w.Found == 0
		out.Found += w.Found
		for _, f := range w.Findings[:min(len(w.Findings), completeness.MaxFindings-len(out.Findings))] {
			out.Findings = append(out.Findings, nightlyFinding{c.Key.App, f})
		}
	}
	switch {
	case out.Formations == 0:
		return nil, nil
	case out.Formations > 1:
		out.Through = 0
	}
	return out, nil
}
