// Package orgs says who exists: organizations, and the formations they own. A
// formation is made with its root of trust, the genesis, which is sealed before
// it is kept and never leaves the gateway.
//
//	orgs.go       doors
//	org.go        create, list, get, change, delete an organization
//	key.go        which key seals for an organization
//	formation.go  create, list, get, change a formation
//	lifecycle.go  suspend, resume, destroy; what is left of destroyed ones
//	wire.go       the JSON of both
package orgs

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Deps is everything this function needs, and nothing it does not.
type Deps struct {
	Store  *store.Store
	Keys   *keyring.Keyring
	Random io.Reader // of seeds
	Notify func()    // the outbox has something in it
	Log    *slog.Logger
	Now    func() time.Time
}

// Function is the function.
type Function struct{ Deps }

// New returns the function, ready.
func New(d Deps) *Function { return &Function{d} }

// Routes are the doors.
func (f *Function) Routes() []web.Route {
	return []web.Route{
		{Pattern: "POST /orgs", Need: web.GatewayAdmin, Once: true, Handle: f.postOrg},
		{Pattern: "GET /orgs", Need: web.GatewayAdmin, Handle: f.listOrgs},
		{Pattern: "GET /orgs/{org}", Need: web.Viewer, Handle: f.getOrg},
		{Pattern: "PATCH /orgs/{org}", Need: web.GatewayAdmin, Handle: f.patchOrg},
		{Pattern: "DELETE /orgs/{org}", Need: web.GatewayAdmin, Handle: f.deleteOrg},

		{Pattern: "GET /orgs/{org}/key", Need: web.OrgAdmin, Handle: f.getKey},
		{Pattern: "PUT /orgs/{org}/key", Need: web.GatewayAdmin, Handle: f.putKey},
		{Pattern: "DELETE /orgs/{org}/key", Need: web.GatewayAdmin, Handle: f.deleteKey},

		{Pattern: "POST /orgs/{org}/formations", Need: web.OrgAdmin, Once: true, Handle: f.postFormation},
		{Pattern: "GET /orgs/{org}/formations", Need: web.Viewer, Handle: f.listFormations},
		{Pattern: "GET /orgs/{org}/formations/{app}", Need: web.Viewer, Handle: f.getFormation},
		{Pattern: "PATCH /orgs/{org}/formations/{app}", Need: web.OrgAdmin, Handle: f.patchFormation},
		{Pattern: "DELETE /orgs/{org}/formations/{app}", Need: web.OrgAdmin, Handle: f.deleteFormation},
		{Pattern: "POST /orgs/{org}/formations/{app}/suspend", Need: web.OrgAdmin, Handle: f.suspend},
		{Pattern: "POST /orgs/{org}/formations/{app}/resume", Need: web.OrgAdmin, Handle: f.resume},
		{Pattern: "GET /orgs/{org}/destructions", Need: web.Viewer, Handle: f.listDestructions},
	}
}

// Events is what tells that there may be remains to sweep.
func (f *Function) Events() []bus.Subscription {
	return []bus.Subscription{
		{Type: event.FormationDeletedType, Handle: f.onDeleted},
		{Type: event.PingType, Handle: f.onPing},
	}
}

// audit begins the entry of an act by the request's caller.
func (f *Function) audit(r *http.Request, org tenant.OrgID, action, target string, detail map[string]any) store.Audit {
	return store.Audit{
		Org: org, At: f.Now(), Actor: access.FromContext(r.Context()).Name, Action: action, Target: target,
		RequestID: web.RequestID(r.Context()), Detail: detail,
	}
}
