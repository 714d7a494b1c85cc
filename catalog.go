package gateway

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/documents"
	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/functions/orgs"
	"github.com/defenseunicorns/peat-gateway/functions/sinks"
	"github.com/defenseunicorns/peat-gateway/functions/watcher"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/clientcert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// Part is what every function looks like to the host: what it hears. One that has
// doors is a Router too, and one that has something to let go an io.Closer.
type Part interface {
	Events() []bus.Subscription
}

// Router is a Part with doors of its own.
type Router interface {
	Routes() []web.Route
}

// Drainer is a Part that holds answers open, as streams do. Drain ends them, so
// that a server which is shutting down need not wait for them.
type Drainer interface {
	Drain()
}

// Entry is one function of the catalog.
type Entry struct {
	Name string
	Open func(ctx context.Context, h *Host) (Part, error)
}

// Catalog lists every function there is. Each takes from the host what it needs,
// and what nobody takes is never opened.
func Catalog() []Entry {
	return []Entry{
		{"orgs", openOrgs},
		{"federation", openFederation},
		{"enroll", openEnroll},
		{"watcher", openWatcher},
		{"documents", openDocuments},
		{"sinks", openSinks},
		{"sink-webhook", openDelivery(delivery.Webhook)},
		{"sink-cloudevents", openDelivery(delivery.CloudEvents)},
		{"sink-nats", openDelivery(delivery.NATS)},
		{"sink-kafka", openDelivery(delivery.Kafka)},
		{"sink-redis", openDelivery(delivery.Redis)},
		{"sink-file", openDelivery(delivery.File, delivery.Stdout)},
	}
}

func openOrgs(ctx context.Context, h *Host) (Part, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := h.Keys(ctx)
	if err != nil {
		return nil, err
	}
	notify, err := h.Notify(ctx)
	if err != nil {
		return nil, err
	}
	return orgs.New(orgs.Deps{Store: st, Keys: keys, Random: rand.Reader, Notify: notify, Log: h.Log, Now: time.Now}), nil
}

func openFederation(ctx context.Context, h *Host) (Part, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	key, err := h.TokenKey()
	if err != nil {
		return nil, err
	}
	notify, err := h.Notify(ctx)
	if err != nil {
		return nil, err
	}
	audits, err := h.AuditKey()
	if err != nil {
		return nil, err
	}
	keys, err := h.Keys(ctx)
	if err != nil {
		return nil, err
	}
	vouch, err := h.Providers(ctx)
	if err != nil {
		return nil, err
	}
	logins, err := h.logins(ctx)
	if err != nil {
		return nil, err
	}
	return federation.New(federation.Deps{
		Store: st, Tokens: key, Random: rand.Reader, Notify: notify, Key: audits, Log: h.Log, Now: time.Now, Keys: keys, Providers: vouch,
		Logins: logins,
	}), nil
}

func openEnroll(ctx context.Context, h *Host) (Part, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := h.Keys(ctx)
	if err != nil {
		return nil, err
	}
	notify, err := h.Notify(ctx)
	if err != nil {
		return nil, err
	}
	tokens, err := h.TokenKey()
	if err != nil {
		return nil, err
	}
	vouch, err := h.Providers(ctx)
	if err != nil {
		return nil, err
	}
	return enroll.New(enroll.Deps{
		Store: st, Keys: keys, Tokens: tokens, Random: rand.Reader, Notify: notify, Log: h.Log, Now: time.Now, Identities: vouch,
		Address: func(r *http.Request) netip.Addr { return web.Address(r.Context()) }, Chain: clientcert.Of,
		Rates: h.Settings.EnrollRates, Grace: h.Settings.EnrollGrace,
	}), nil
}

func openWatcher(ctx context.Context, h *Host) (Part, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	publisher, err := h.Bus()
	if err != nil {
		return nil, err
	}
	notify, err := h.Notify(ctx)
	if err != nil {
		return nil, err
	}
	return watcher.New(watcher.Deps{
		Store: st, Bus: publisher, Notify: notify, Metrics: h.Metrics, Tracer: h.Tracer(), Log: h.Log, Now: time.Now, Random: rand.Reader,
		Settings: watcher.Settings{
			Holder: h.Settings.Holder, PublicURL: h.Settings.PublicURL,
			MaxMessageBytes: int(h.Settings.MaxMessageBytes), MaxSessions: h.Settings.MaxSessions, DocumentIdle: h.Settings.DocumentIdle,
		},
	})
}

func openDocuments(ctx context.Context, h *Host) (Part, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	return documents.New(documents.Deps{
		Store: st, Log: h.Log, Now: time.Now, Settings: documents.Settings{MaxWaiting: h.Settings.MaxStreams},
	}), nil
}

func openSinks(ctx context.Context, h *Host) (Part, error) {
	deps, err := h.sinkDeps(ctx)
	if err != nil {
		return nil, err
	}
	return sinks.New(deps), nil
}

func openDelivery(kinds ...delivery.Kind) func(context.Context, *Host) (Part, error) {
	return func(ctx context.Context, h *Host) (Part, error) {
		deps, err := h.sinkDeps(ctx)
		if err != nil {
			return nil, err
		}
		return sinks.NewDelivery(sinks.DeliveryDeps{Deps: deps, Kinds: kinds, Shared: h.deliveries()}), nil
	}
}
