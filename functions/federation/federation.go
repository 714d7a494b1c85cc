// Package federation says who may enroll and keeps the record of who decided
// what: tokens, and the audit trail of every administrative act.
//
//	federation.go  doors
//	audit.go       the audit trail: who looks at which, search
//	export.go      a trail as lines that can be checked without the gateway
//	heads.go       linking and signing
//	wire.go        the JSON of all
//
// How the trail is protected, and what can be proved when, is in docs/audit.md.
package federation

import (
	"log/slog"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// Deps is everything this function needs, and nothing it does not.
type Deps struct {
	Store  *store.Store
	Notify func()    // says that the outbox holds something; it must not wait
	Key    audit.Key // signs the heads of audit trails
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
		{Pattern: "GET /orgs/{org}/audit", Need: web.Viewer, Handle: f.listEntries(f.ownTrail)},
		{Pattern: "GET /orgs/{org}/audit/export", Need: web.Viewer, Handle: f.exportTrail(f.ownTrail), Stream: true},
		{Pattern: "GET /orgs/{org}/audit/heads", Need: web.Viewer, Handle: f.listHeads(f.ownTrail)},

		// Below /orgs there is nothing of an organization that is no more.
		{Pattern: "GET /audit", Need: web.GatewayAdmin, Handle: f.listTrails},
		{Pattern: "GET /audit/{org}", Need: web.GatewayAdmin, Handle: f.listEntries(f.wholeTrail)},
		{Pattern: "GET /audit/{org}/export", Need: web.GatewayAdmin, Handle: f.exportTrail(f.wholeTrail), Stream: true},
		{Pattern: "GET /audit/{org}/heads", Need: web.GatewayAdmin, Handle: f.listHeads(f.wholeTrail)},
	}
}

// Events is what it hears: the sweep.
func (f *Function) Events() []bus.Subscription {
	return []bus.Subscription{{Type: event.PingType, Handle: f.onPing}}
}
