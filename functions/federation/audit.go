package federation

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// searchWindow is how many entries are looked through for one page. A page of what
// is rare may be short, and even empty, with more to come.
const searchWindow = 20_000

// clockSkew is how far the clocks of two replicas may be apart before a search by
// time misses something.
const clockSkew = time.Hour

// trail is a stretch of an organization's chain: what a caller may see of it.
type trail struct {
	org   tenant.OrgID
	chain store.Chain
	from  uint64 // the first entry
}

// ownTrail is what members of an organization may see: what happened since it was
// made. One that had the name before them was another.
func (f *Function) ownTrail(r *http.Request) (trail, error) {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return trail{}, err
	}
	if _, err := f.Store.Org(r.Context(), org); err != nil {
		return trail{}, err
	}
	if err := f.linkAll(r.Context(), org); err != nil {
		return trail{}, err
	}
	c, err := f.Store.AuditChain(r.Context(), org)
	if err != nil {
		return trail{}, err
	}
	return trail{org, c, c.Since}, nil
}

// wholeTrail is what the gateway's administrators may see: everything under a name,
// whether it is somebody's now or not.
func (f *Function) wholeTrail(r *http.Request) (trail, error) {
	org := audit.Gateway
	if r.PathValue("org") != string(org) {
		var err error
		if org, err = web.Path(r, "org", tenant.ParseOrgID); err != nil {
			return trail{}, err
		}
	}
	if err := f.linkAll(r.Context(), org); err != nil {
		return trail{}, err
	}
	c, err := f.Store.AuditChain(r.Context(), org)
	return trail{org, c, 1}, err
}

// reach finds the trail that a request is about.
type reach func(*http.Request) (trail, error)

// listTrails shows whose trails there are.
func (f *Function) listTrails(w http.ResponseWriter, r *http.Request) error {
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	chains, err := f.Store.AuditChains(r.Context(), tenant.OrgID(page.After), page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(chains, page, func(c store.Chain) string { return string(c.Org) })
	out := web.List[trailWire]{Items: make([]trailWire, len(list.Items)), Next: list.Next}
	for i, c := range list.Items {
		_, err := f.Store.Org(r.Context(), c.Org)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
		out.Items[i] = trailWire{Org: c.Org, Entries: c.Seq, Since: c.Since, Signed: c.Signed, Exists: err == nil}
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// listEntries shows a trail, the newest entry first.
func (f *Function) listEntries(find reach) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		t, err := find(r)
		if err != nil {
			return err
		}
		page, q, err := parseSearch(r, t)
		if err != nil {
			return err
		}
		list, err := f.search(r.Context(), t, q, page.Limit)
		if err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, list)
	}
}

// search reads one page, from at most one window.
func (f *Function) search(ctx context.Context, t trail, q store.AuditQuery, limit int) (web.List[entryWire], error) {
	out := web.List[entryWire]{Items: []entryWire{}}
	if q.From = t.from; q.Before > t.from+searchWindow {
		q.From = q.Before - searchWindow
	}
	found, err := f.Store.SearchAudit(ctx, t.org, q, limit+1)
	if err != nil {
		return out, err
	}
	next := uint64(0)
	switch {
	case len(found) > limit:
		found = found[:limit]
		next = found[limit-1].Seq
	case q.From > t.from:
		next = q.From
	}
	for _, e := range found {
		out.Items = append(out.Items, wireEntry(e))
	}
	if next > t.from && !q.Since.IsZero() {
		past, err := f.before(ctx, t.org, next, q.Since)
		if err != nil || past {
			return out, err
		}
	}
	if next > t.from {
		cursor := web.EncodeCursor(strconv.FormatUint(next, 10))
		out.Next = &cursor
	}
	return out, nil
}

// before reports whether all entries before one are older than a time.
func (f *Function) before(ctx context.Context, org tenant.OrgID, seq uint64, t time.Time) (bool, error) {
	last, err := f.Store.ChainEntries(ctx, org, seq-2, 1)
	return len(last) == 1 && last[0].At.Before(t.Add(-clockSkew)), err
}

func parseSearch(r *http.Request, t trail) (web.Page, store.AuditQuery, error) {
	page, err := web.ParsePage(r)
	if err != nil {
		return page, store.AuditQuery{}, err
	}
	in := r.URL.Query()
	q := store.AuditQuery{Before: t.chain.Seq + 1, Action: in.Get("action"), Actor: in.Get("actor"), Target: in.Get("target")}
	for name, text := range map[string]string{"action": q.Action, "actor": q.Actor, "target": q.Target} {
		if len(text) > maxTerm || strings.Contains(text, "\x00") || strings.ToValidUTF8(text, "") != text {
			return page, q, fault.Malformed.New("%s is not a text that an entry could have", name)
		}
	}
	if page.After != "" {
		n, err := strconv.ParseUint(page.After, 10, 63)
		if err != nil {
			return page, q, fault.Malformed.New("cursor is not one that this API gave out")
		}
		q.Before = min(q.Before, n)
	}
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := in.Get(name); text != "" {
			if *to, err = time.Parse(time.RFC3339, text); err != nil {
				return page, q, fault.Malformed.New("%s must be a time like 2006-01-02T15:04:05Z", name)
			}
		}
	}
	return page, q, nil
}

// maxTerm is longer than what an entry says of actor, action or target.
const maxTerm = 4096

// listHeads shows the heads of a trail, the oldest first.
func (f *Function) listHeads(find reach) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		t, err := find(r)
		if err != nil {
			return err
		}
		page, err := web.ParsePage(r)
		if err != nil {
			return err
		}
		after := t.from - 1
		if page.After != "" {
			n, err := strconv.ParseUint(page.After, 10, 63)
			if err != nil {
				return fault.Malformed.New("cursor is not one that this API gave out")
			}
			after = max(after, n)
		}
		heads, err := f.Store.AuditHeads(r.Context(), t.org, after, page.Limit+1)
		if err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, web.NewList(heads, page, func(h audit.Head) string { return strconv.FormatUint(h.Seq, 10) }))
	}
}
