// Package federation says who may enroll and keeps the record of who decided
// what: tokens, and the audit trail of every administrative act.
//
//	federation.go  doors
//	token.go       enrollment tokens: make, list, revoke, delete
//	service.go     service tokens of an organization: make, list, revoke
//	idp.go         identity providers: make, list, delete
//	idpchange.go   change, enable and disable them
//	idpcheck.go    whether a provider can be used; a new secret for it
//	saml.go        the service provider that SAML identity providers know
//	login.go       people log in at the gateway's identity provider
//	logout.go      who is logged in; how that ends
//	floods.go      how often what anybody can cause may happen
//	audit.go       the audit trail: who looks at which, search
//	export.go      a trail as lines that can be checked without the gateway
//	heads.go       linking and signing
//	rule.go        the rules by which nodes are let in: show, save, roll back
//	versions.go    what they said before, and what was changed
//	lab.go         what rules decide and would decide, and why
//	wire.go        the JSON of all; policywire.go that of rules and the lab
//
// How the trail is protected, and what can be proved when, is in docs/audit.md.
package federation

import (
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/identity/providers"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/rate"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Deps is everything this function needs, and nothing it does not.
type Deps struct {
	Store  *store.Store
	Tokens token.Key // under which tokens are hashed
	Random io.Reader // of tokens
	Notify func()    // says that the outbox holds something; it must not wait
	Key    audit.Key // signs the heads of audit trails
	Logins *Logins   // nil: nobody logs in here
	Log    *slog.Logger
	Now    func() time.Time

	Keys      *keyring.Keyring     // what providers' secrets are sealed with
	Providers *providers.Providers // identity providers, open; nil: none are asked here
	Prover    Prover               // of tokens in the policy lab; nil: Providers
}

// Function is the function.
type Function struct {
	Deps
	exchanges, refusals minute
	knocks              *rate.Limit
}

// New returns the function, ready.
func New(d Deps) *Function {
	if d.Prover == nil && d.Providers != nil {
		d.Prover = d.Providers
	}
	return &Function{Deps: d, knocks: rate.New(samlPerMinute)}
}

// Routes are the doors.
func (f *Function) Routes() []web.Route {
	return slices.Concat(f.tokenRoutes(), f.serviceRoutes(), f.providerRoutes(), f.samlRoutes(), f.loginRoutes(), f.policyRoutes(), []web.Route{
		{Pattern: "GET /orgs/{org}/audit", Need: web.Viewer, Handle: f.listEntries(f.ownTrail)},
		{Pattern: "GET /orgs/{org}/audit/export", Need: web.Viewer, Handle: f.exportTrail(f.ownTrail), Stream: true},
		{Pattern: "GET /orgs/{org}/audit/heads", Need: web.Viewer, Handle: f.listHeads(f.ownTrail)},

		// Below /orgs there is nothing of an organization that is no more.
		{Pattern: "GET /audit", Need: web.GatewayAdmin, Handle: f.listTrails},
		{Pattern: "GET /audit/{org}", Need: web.GatewayAdmin, Handle: f.listEntries(f.wholeTrail)},
		{Pattern: "GET /audit/{org}/export", Need: web.GatewayAdmin, Handle: f.exportTrail(f.wholeTrail), Stream: true},
		{Pattern: "GET /audit/{org}/heads", Need: web.GatewayAdmin, Handle: f.listHeads(f.wholeTrail)},
	})
}

// Events is what it hears: the sweep.
func (f *Function) Events() []bus.Subscription {
	return []bus.Subscription{{Type: event.PingType, Handle: f.onPing}}
}

// act begins the audit entry of what the request's caller does.
func (f *Function) act(r *http.Request, org tenant.OrgID, action, target string, detail map[string]any) store.Audit {
	return store.Audit{
		Org: org, At: f.Now(), Actor: access.FromContext(r.Context()).Name, Action: action, Target: target,
		RequestID: web.RequestID(r.Context()), Detail: detail,
	}
}

// keyOf reads the path. A name that cannot exist is simply not found.
func keyOf(r *http.Request) (tenant.Key, error) {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return tenant.Key{}, err
	}
	app, err := web.Path(r, "app", tenant.ParseAppID)
	return tenant.Key{Org: org, App: app}, err
}
