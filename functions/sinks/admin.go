package sinks

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Routes are the doors for administrators. A sink can be reached through its
// organization, and through each formation that it covers.
func (a *Admin) Routes() []web.Route {
	routes := []web.Route{
		{Pattern: "GET /orgs/{org}/.well-known/webhook-keys", Need: web.Anyone, Handle: a.listSigningKeys},
		{Pattern: "POST /orgs/{org}/cdc/signing-keys/rotate", Need: web.OrgAdmin, Handle: a.rotateSigningKeys},
	}
	for _, base := range []string{"/orgs/{org}/cdc/sinks", "/orgs/{org}/formations/{app}/cdc/sinks"} {
		routes = append(routes,
			web.Route{Pattern: "POST " + base, Need: web.OrgAdmin, Once: true, Handle: a.post},
			web.Route{Pattern: "GET " + base, Need: web.Viewer, Handle: a.list},
			web.Route{Pattern: "GET " + base + "/{sink}", Need: web.Viewer, Handle: a.get},
			web.Route{Pattern: "PATCH " + base + "/{sink}", Need: web.OrgAdmin, Handle: a.patch},
			web.Route{Pattern: "DELETE " + base + "/{sink}", Need: web.OrgAdmin, Handle: a.delete},
			web.Route{Pattern: "POST " + base + "/{sink}/pause", Need: web.OrgAdmin, Handle: a.pause},
			web.Route{Pattern: "POST " + base + "/{sink}/resume", Need: web.OrgAdmin, Handle: a.resume},
			web.Route{Pattern: "POST " + base + "/{sink}/disable", Need: web.OrgAdmin, Handle: a.disable},
			web.Route{Pattern: "POST " + base + "/{sink}/test", Need: web.OrgAdmin, Handle: a.test},
			web.Route{Pattern: "POST " + base + "/{sink}/rotate-secret", Need: web.OrgAdmin, Handle: a.rotateSecret},
			web.Route{Pattern: "POST " + base + "/{sink}/check", Need: web.OrgAdmin, Handle: a.check},
			web.Route{Pattern: "POST " + base + "/preview", Need: web.Viewer, Handle: a.preview},
			web.Route{Pattern: "GET " + base + "/{sink}/completeness", Need: web.Viewer, Handle: a.completeness},
			web.Route{Pattern: "GET " + base + "/{sink}/dead-letters", Need: web.Viewer, Handle: a.listDeadLetters},
			web.Route{Pattern: "GET " + base + "/{sink}/dead-letters/{id}", Need: web.Viewer, Handle: a.inspect},
			web.Route{Pattern: "POST " + base + "/{sink}/dead-letters/{id}/redrive", Need: web.OrgAdmin, Handle: a.redrive},
			web.Route{Pattern: "POST " + base + "/{sink}/dead-letters/{id}/skip", Need: web.OrgAdmin, Handle: a.skip},
			web.Route{Pattern: "POST " + base + "/{sink}/dead-letters/{id}/purge", Need: web.OrgAdmin, Handle: a.purge},
			web.Route{Pattern: "POST " + base + "/{sink}/dead-letters/redrive", Need: web.OrgAdmin, Handle: a.decideMany(delivery.Redrive)},
			web.Route{Pattern: "POST " + base + "/{sink}/dead-letters/skip", Need: web.OrgAdmin, Handle: a.decideMany(delivery.Skip)},
			web.Route{Pattern: "POST " + base + "/{sink}/dead-letters/purge", Need: web.OrgAdmin, Handle: a.decideMany(delivery.Purge)},
			web.Route{Pattern: "POST " + base + "/{sink}/replays", Need: web.OrgAdmin, Once: true, Handle: a.postReplay},
			web.Route{Pattern: "GET " + base + "/{sink}/replays", Need: web.Viewer, Handle: a.listReplays},
			web.Route{Pattern: "GET " + base + "/{sink}/replays/{replay}", Need: web.Viewer, Handle: a.getReplay},
			web.Route{Pattern: "POST " + base + "/{sink}/replays/{replay}/cancel", Need: web.OrgAdmin, Handle: a.cancelReplay},
		)
	}
	return routes
}

// scope is what the path says: an organization, and perhaps one of its formations.
type scope struct {
	org tenant.OrgID
	app tenant.AppID // empty on the organization's path
}

// scopeOf reads the path. A name that cannot exist is simply not found.
func scopeOf(r *http.Request) (scope, error) {
	org, err := tenant.ParseOrgID(r.PathValue("org"))
	if err != nil {
		return scope{}, fault.NotFound.New("no such organization")
	}
	sc := scope{org: org}
	if text := r.PathValue("app"); text != "" {
		if sc.app, err = tenant.ParseAppID(text); err != nil {
			return scope{}, fault.NotFound.New("no such formation")
		}
	}
	return sc, nil
}

// exists makes sure that what the path names is there.
func (a *Admin) exists(ctx context.Context, sc scope) error {
	var err error
	if sc.app != "" {
		_, err = a.Store.Formation(ctx, tenant.Key{Org: sc.org, App: sc.app})
	} else {
		_, err = a.Store.Org(ctx, sc.org)
	}
	return err
}

// shows tells whether a sink is seen at the path's formation: one that serves it,
// and no other that is hidden from the caller. Who changes a sink changes what
// leaves all of its formations.
func (sc scope) shows(r *http.Request, s delivery.Sink) bool {
	return s.Covers(sc.app) && access.FromContext(r.Context()).Reaches(s.Formations)
}

// find returns the sink of the path. One that is not shown at the path's formation
// is not found there.
func (a *Admin) find(r *http.Request) (delivery.Sink, error) {
	sc, err := scopeOf(r)
	if err != nil {
		return delivery.Sink{}, err
	}
	id, err := web.Path(r, "sink", ulid.ParseStrict)
	if err != nil {
		return delivery.Sink{}, err
	}
	sink, err := a.Store.Sink(r.Context(), sc.org, id.String())
	if err != nil {
		return delivery.Sink{}, err
	}
	if sc.app != "" {
		if !sc.shows(r, sink) {
			return delivery.Sink{}, fault.NotFound.New("no sink %q", sink.ID)
		}
		return sink, a.exists(r.Context(), sc)
	}
	return sink, nil
}

func (a *Admin) post(w http.ResponseWriter, r *http.Request) error {
	sc, err := scopeOf(r)
	if err != nil {
		return err
	}
	if err := a.exists(r.Context(), sc); err != nil {
		return err
	}
	var in sinkRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	sink, made, err := a.parse(sc, in)
	if err != nil {
		return err
	}
	if sink.Source == delivery.AuditTrail && !access.FromContext(r.Context()).ReadsAudit() {
		return fault.Forbidden.New("this token may not read the audit trail, so it may not send it anywhere")
	}
	if k := kinds[sink.Kind]; k.signs != nil && k.signs(sink.Config) {
		if _, err := a.haveSigningKeys(web.Aside(r.Context()), sink.Org); err != nil { // so that its receiver can fetch them before the first event
			return err
		}
	}
	// Before the transaction: the key may be in a service far away.
	if sink.Sealed, err = a.seal(r.Context(), sink.Org, sink.ID, made.Secrets); err != nil {
		return err
	}
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error { return a.keep(tx, r, sink) }); err != nil {
		return err
	}
	a.Notify()
	w.Header().Set("Location", r.URL.Path+"/"+sink.ID)
	return a.show(w, r, http.StatusCreated, sink, made.Once)
}

// parse checks a request and makes the sink it asks for.
func (a *Admin) parse(sc scope, in sinkRequest) (delivery.Sink, driver.Config, error) {
	now := a.Now()
	sink := delivery.Sink{ID: newID(now), Org: sc.org, Kind: delivery.Kind(in.Kind), State: delivery.Active, CreatedAt: store.Precise(now)}
	k, ok := kinds[sink.Kind]
	if !ok {
		return sink, driver.Config{}, driver.Invalid("kind", "must be webhook, cloudevents, nats, kafka, redis, file or stdout")
	}
	var err error
	if sink.Source, err = delivery.ParseSource(in.Source); err != nil {
		return sink, driver.Config{}, err
	}
	switch {
	case sink.Source == delivery.AuditTrail:
		if err := ofTrail(sc, in); err != nil {
			return sink, driver.Config{}, err
		}
		sink.Formations = []string{}
	case sc.app != "" && in.Formations != nil:
		return sink, driver.Config{}, driver.Invalid("formations", "is said by the path here")
	case sc.app != "":
		sink.Formations = []string{string(sc.app)}
	default:
		if sink.Formations, err = delivery.ParseFormations(in.Formations); err != nil {
			return sink, driver.Config{}, err
		}
	}
	if sink.Format, err = delivery.ParseFormat(in.Format); err != nil {
		return sink, driver.Config{}, err
	}
	if sink.Start, err = delivery.ParseStart(in.Start); err != nil {
		return sink, driver.Config{}, err
	}
	if sink.Retry, err = delivery.ParseRetry(in.Retry); err != nil {
		return sink, driver.Config{}, err
	}
	sink.Filter = in.Filter
	if _, err := filter.Compile(sink.Filter); err != nil {
		return sink, driver.Config{}, err
	}
	if sink.Source == delivery.AuditTrail && (sink.Start.Time != nil || sink.Start.Heads != nil) {
		return sink, driver.Config{}, driver.Invalid("start", "must be now, beginning or a position in the audit trail")
	}
	if sink.Start.Position != nil && (sink.Covers(delivery.AllFormations) || len(sink.Formations) > 1) {
		return sink, driver.Config{}, driver.Invalid("start/position", "means something in one formation only")
	}
	made, err := k.parse(in.Config, nil, a.Settings.Settings)
	if err != nil {
		return sink, driver.Config{}, err
	}
	sink.Claim = made.Claims
	sink.Config, err = json.Marshal(made.Public)
	return sink, made, err
}

// keep writes a new sink down, if the quota allows one more and nothing it claims
// is another's.
func (a *Admin) keep(tx *store.Tx, r *http.Request, sink delivery.Sink) error {
	ctx := r.Context()
	org, err := tx.LockOrg(ctx, sink.Org)
	if err != nil {
		return err
	}
	n, err := tx.CountSinks(ctx, sink.Org)
	if err != nil {
		return err
	}
	if n >= org.Quotas.MaxCDCSinks {
		return tenant.Exceeded(tenant.MaxCDCSinks, org.Quotas.MaxCDCSinks)
	}
	if err := a.apart(ctx, tx, sink); err != nil {
		return err
	}
	if err := tx.CreateSink(ctx, sink); err != nil {
		return err
	}
	return a.note(tx, r, nil, &sink, "sink.create", event.SinkCreatedType)
}

// list shows an organization's sinks, or those that cover a formation. The page
// is cut before sinks of other formations are left out, so it may be short.
func (a *Admin) list(w http.ResponseWriter, r *http.Request) error {
	sc, err := scopeOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	if err := a.exists(r.Context(), sc); err != nil {
		return err
	}
	found, err := a.Store.Sinks(r.Context(), sc.org, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(s delivery.Sink) string { return s.ID })
	out := web.List[sinkWire]{Items: []sinkWire{}, Next: list.Next}
	for _, s := range list.Items {
		if sc.app != "" && !sc.shows(r, s) {
			continue
		}
		lag, err := a.lag(r.Context(), s)
		if err != nil {
			return err
		}
		out.Items = append(out.Items, wireSink(s, lag))
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

func (a *Admin) get(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	lag, err := a.lag(r.Context(), sink)
	if err != nil {
		return err
	}
	out := wireSink(sink, lag)
	if out.Completeness, err = a.nightly(r, sink); err != nil {
		return err
	}
	web.SetETag(w, tag(sink))
	return web.WriteJSON(w, http.StatusOK, out)
}

// show answers with a sink, and with a secret that was made for it just now, if any.
func (a *Admin) show(w http.ResponseWriter, r *http.Request, status int, sink delivery.Sink, once string) error {
	lag, err := a.lag(r.Context(), sink)
	if err != nil {
		return err
	}
	out := wireSink(sink, lag)
	out.Secret = once
	web.SetETag(w, tag(sink))
	return web.WriteJSON(w, status, out)
}

func (a *Admin) delete(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		now, err := tx.LockSink(r.Context(), sink.Org, sink.ID)
		if err != nil {
			return err
		}
		if err := web.IfMatch(r, tag(now)); err != nil {
			return err
		}
		if err := tx.DeleteSink(r.Context(), sink.Org, sink.ID); err != nil {
			return err
		}
		return a.note(tx, r, &sink, nil, "sink.delete", event.SinkDeletedType)
	}); err != nil {
		return err
	}
	a.Notify()
	return web.NoContent(w)
}
