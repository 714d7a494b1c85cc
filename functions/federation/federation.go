// Package federation says who may enroll and keeps the record of who decided
// what: tokens, and the audit trail of every administrative act.
//
//	federation.go  doors
package federation

import (
	"context"
	"log/slog"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// Deps is everything this function needs, and nothing it does not.
type Deps struct {
	Store  *store.Store
	Notify func() // says that the outbox holds something; it must not wait
	Log    *slog.Logger
	Now    func() time.Time
}

// Function is the function.
type Function struct{ Deps }

// New returns the function, ready.
func New(d Deps) *Function { return &Function{d} }

// Routes are the doors.
func (f *Function) Routes() []web.Route { return nil }

// Events is what it hears: the sweep.
func (f *Function) Events() []bus.Subscription {
	return []bus.Subscription{{Type: event.PingType, Handle: f.onPing}}
}

// onPing publishes what earlier acts left behind.
func (f *Function) onPing(context.Context, cloudevents.Event) error {
	f.Notify()
	return nil
}
