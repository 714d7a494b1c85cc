// Package federation says who may enroll and keeps the record of who decided
// what: tokens, and the audit trail of every administrative act.
//
//	federation.go  doors
//	token.go       enrollment tokens: make, list, revoke, delete
//	service.go     service tokens of an organization: make, list, revoke
//	wire.go        the JSON of both
package federation

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
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
	Log    *slog.Logger
	Now    func() time.Time
}

// Function is the function.
type Function struct{ Deps }

// New returns the function, ready.
func New(d Deps) *Function { return &Function{d} }

// Routes are the doors.
func (f *Function) Routes() []web.Route {
	return slices.Concat(f.tokenRoutes(), f.serviceRoutes())
}

// Events is what it hears: the sweep.
func (f *Function) Events() []bus.Subscription {
	return []bus.Subscription{{Type: event.PingType, Handle: f.onPing}}
}

// onPing publishes what earlier acts left behind.
func (f *Function) onPing(context.Context, cloudevents.Event) error {
	f.Notify()
	return nil
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
