package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/functions/sinks"
	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/file"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/providers"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/telemetry"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// Settings is everything that can be set. It is read in one place, and all that
// is wrong with it is said at once.
type Settings struct {
	Function        string
	DatabaseURL     env.Secret
	MigrationURL    env.Secret
	Keys            KeySettings
	AdminToken      env.Secret
	AuditKey        env.Secret
	AuditKeyFile    string
	TokenKey        env.Secret
	TokenKeyFile    string
	Broker          string
	PublicURL       *url.URL
	Holder          string
	FileSinkDir     string
	NATSURL         string
	AllowPrivate    []netip.Prefix
	RetryLadder     []time.Duration
	RetryFor        time.Duration
	DeliveryBudget  time.Duration
	AttemptTimeout  time.Duration
	MaxMessageBytes int64
	MaxSessions     int
	MaxStreams      int
	DocumentIdle    time.Duration
	EnrollRates     enroll.Rates
	EnrollGrace     time.Duration
	LogLevel        string
	Tracing         telemetry.TracingOptions
	Transport       TransportSettings
	IdentityAllow   []netip.Prefix
	People          PeopleSettings
}

// ReadSettings reads every setting, so that the list of them is complete.
func ReadSettings(e *env.Reader) (Settings, error) {
	ladder := delivery.DefaultLadder()
	hostname, _ := os.Hostname() // only a default; Knative sets HOSTNAME to the pod's name
	s := Settings{
		Function:     e.String("PEAT_FUNCTION", "", "which function of the catalog this process is"),
		DatabaseURL:  e.Secret("PEAT_DATABASE_URL", "where everything is kept: sqlite:PATH or postgres://…"),
		MigrationURL: e.Secret("PEAT_MIGRATION_DATABASE_URL", "the same Postgres database as the owner of the tables, for migrations; default: PEAT_DATABASE_URL"),
		Keys:         readKeys(e),
		AdminToken:   e.Secret("PEAT_ADMIN_TOKEN", "bearer token of the first administrator; without it no administration"),
		AuditKey: e.Secret("PEAT_AUDIT_KEY",
			"key that signs audit trails, 64 hexadecimal characters; older ones may follow it, with commas between them"),
		AuditKeyFile:   e.String("PEAT_AUDIT_KEY_FILE", "", "file that holds PEAT_AUDIT_KEY instead; made if it is not there"),
		TokenKey:       e.Secret("PEAT_TOKEN_KEY", "key under which tokens are hashed, 64 hexadecimal characters; older ones after it, with commas between them; without it there are no service tokens"),
		TokenKeyFile:   e.String("PEAT_TOKEN_KEY_FILE", "", "file that holds PEAT_TOKEN_KEY instead; made if it is not there"),
		Broker:         e.String("K_SINK", "", "address of the broker that takes events; Knative sets it"),
		PublicURL:      e.URL("PEAT_PUBLIC_URL", "", "how peers reach the watcher; default: as the caller of the API reached it", "http", "https"),
		Holder:         e.String("HOSTNAME", hostname, "name of this replica in leases"),
		FileSinkDir:    e.String("PEAT_FILE_SINK_DIR", "", "folder that file sinks write below; without it there are none"),
		NATSURL:        e.String("PEAT_NATS_URL", "", "server of NATS sinks that name none"),
		RetryLadder:    e.Durations("PEAT_RETRY_LADDER", ladder.Steps, "waits after each failure of a document; the last one repeats"),
		RetryFor:       e.Duration("PEAT_RETRY_FOR", ladder.For, "how long a document is tried before it is parked"),
		DeliveryBudget: e.Duration("PEAT_DELIVERY_BUDGET", 20*time.Second, "how long one doorbell is worked on before ringing again"),
		AttemptTimeout: e.Duration("PEAT_ATTEMPT_TIMEOUT", 15*time.Second, "how long a sink may take for one attempt"),
		MaxMessageBytes: e.Bytes("PEAT_MAX_MESSAGE_BYTES", 64<<20,
			"longest message a peer may send; a first sync sends a document's whole history in one"),
		MaxSessions:  e.Int("PEAT_MAX_SESSIONS", 2_000, "sync sessions at once in this process"),
		MaxStreams:   e.Int("PEAT_MAX_STREAMS", 1_000, "event streams and waiting requests at once in this process; one organization may have a fourth"),
		DocumentIdle: e.Duration("PEAT_DOCUMENT_IDLE", time.Minute, "how long an untouched document stays in memory"),
	}
	s.EnrollRates = enroll.Rates{
		Address: e.Int("PEAT_ENROLL_PER_ADDRESS", 1_200, "attempts to enroll a minute from one address, in one process; 0 is no limit"),
		Subject: e.Int("PEAT_ENROLL_PER_SUBJECT", 120, "attempts to enroll a minute by one identity, in one process; 0 is no limit"),
		Org:     e.Int("PEAT_ENROLL_PER_ORG", 30_000, "attempts to enroll by identity a minute in one organization, in one process; 0 is no limit"),
	}
	s.EnrollGrace = e.Duration("PEAT_ENROLL_GRACE", enroll.DefaultGrace, "how long certificates are renewed although an identity provider that should vouch again does not answer; 0 is not at all")
	s.LogLevel = e.String("PEAT_LOG_LEVEL", "info", "debug, info, warn or error")
	s.Transport = readTransport(e)
	s.People = readPeople(e)
	s.Tracing = readTracing(e)
	s.Tracing.Function, s.Tracing.Instance = s.Function, s.Holder
	s.AllowPrivate = readPrefixes(e, "PEAT_WEBHOOK_ALLOW", "private address ranges that sinks may reach (CIDR, a comma between them); by default only public addresses")
	s.IdentityAllow = readPrefixes(e, "PEAT_IDENTITY_ALLOW",
		"private address ranges that identity providers may be in (CIDR, a comma between them), there also without TLS; by default only public addresses")
	return s, e.Err()
}

func readPrefixes(e *env.Reader, name, about string) (out []netip.Prefix) {
	for _, text := range strings.FieldsFunc(e.String(name, "", about), isComma) {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			e.Wrong(name, "must be a list of CIDR ranges")
			continue
		}
		out = append(out, prefix)
	}
	return out
}

func isComma(r rune) bool { return r == ',' }

// readTracing reads those of OpenTelemetry's own variables that mean something here.
func readTracing(e *env.Reader) telemetry.TracingOptions {
	o := telemetry.TracingOptions{Version: Version()}
	o.Endpoint = e.URL("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "where spans go, path and all; default: /v1/traces below OTEL_EXPORTER_OTLP_ENDPOINT", "http", "https")
	if base := e.URL("OTEL_EXPORTER_OTLP_ENDPOINT", "", "collector that takes OTLP over HTTP, often port 4318; without one no span is kept", "http", "https"); base != nil && o.Endpoint == nil {
		o.Endpoint = base.JoinPath("v1/traces")
	}
	var err error
	headers := e.Secret("OTEL_EXPORTER_OTLP_HEADERS", "sent with each export: name=value with commas between them")
	if o.Headers, err = telemetry.ParseHeaders(headers.Reveal()); err != nil {
		e.Wrong("OTEL_EXPORTER_OTLP_HEADERS", err.Error())
	}
	o.Service = e.String("OTEL_SERVICE_NAME", "peat-gateway", "what the spans say they are of")
	sampler := e.String("OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "which traces are kept: always_on, always_off, traceidratio, or one of these after parentbased_")
	if o.Sampler, err = telemetry.ParseSampler(sampler, e.String("OTEL_TRACES_SAMPLER_ARG", "0.01", "the ratio, from 0 to 1")); err != nil {
		e.Wrong("OTEL_TRACES_SAMPLER", err.Error())
	}
	return o
}

// Host makes resources from settings, each once and only when it is first asked for.
type Host struct {
	Settings Settings
	Log      *slog.Logger
	Metrics  *telemetry.Metrics

	mu      sync.Mutex
	tracing *telemetry.Tracing
	store   *store.Store
	keys    *keyring.Keyring
	tokens  token.Key
	known   *people
	local   *bus.Local // set by Dev: events stay in this process
	bus     bus.Publisher
	relay   *relay
	vouch   *providers.Providers
	shared  *sinks.Shared
	closes  []func() error
}

// NewHost reads the settings; it opens nothing. Logs go to the writer.
func NewHost(e *env.Reader, logs io.Writer) (*Host, error) {
	settings, err := ReadSettings(e)
	if err != nil {
		return nil, err
	}
	return &Host{Settings: settings, Log: telemetry.NewLogger(logs, settings.LogLevel), Metrics: telemetry.NewMetrics()}, nil
}

// Tracer makes spans. What is asked for it first is closed last, so that the spans
// of everything else's end are sent too.
func (h *Host) Tracer() trace.Tracer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tracing == nil {
		o := h.Settings.Tracing
		o.Log = h.Log
		h.tracing = telemetry.NewTracing(o)
		h.closes = append(h.closes, h.tracing.Close)
	}
	return h.tracing.Tracer()
}

// Store opens the store.
func (h *Host) Store(ctx context.Context) (*store.Store, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.store != nil {
		return h.store, nil
	}
	if h.Settings.DatabaseURL.Reveal() == "" {
		return nil, errors.New("PEAT_DATABASE_URL is not set")
	}
	st, err := store.OpenOwned(ctx, h.Settings.DatabaseURL.Reveal(), cmp.Or(h.Settings.MigrationURL.Reveal(), h.Settings.DatabaseURL.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	h.store = st
	h.closes = append(h.closes, st.Close, startSequencer(st, h.wakeRelay, h.Log).close)
	return st, nil
}

// AuditKey reads the key that signs audit trails.
func (h *Host) AuditKey() (audit.Key, error) {
	var key audit.Key
	var err error
	switch {
	case h.Settings.AuditKey.Reveal() != "":
		key, err = audit.ParseKey(h.Settings.AuditKey.Reveal())
	case h.Settings.AuditKeyFile != "":
		key, err = audit.LoadOrCreateKey(h.Settings.AuditKeyFile)
	default:
		return audit.Key{}, errors.New("PEAT_AUDIT_KEY or PEAT_AUDIT_KEY_FILE is not set")
	}
	if err != nil {
		return audit.Key{}, fmt.Errorf("audit key: %w", err)
	}
	h.Log.Info("audit trails are signed", "public_key", key.Public().String())
	return key, nil
}

// Keys opens the keyring, which seals and opens everything that is secret.
func (h *Host) Keys(ctx context.Context) (*keyring.Keyring, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keys != nil {
		return h.keys, nil
	}
	keys, closeKeys, err := h.Settings.Keys.openKeys(st, h.Log)
	if err != nil {
		return nil, err
	}
	h.keys = keys
	h.closes = append(h.closes, closeKeys)
	return h.keys, nil
}

// TokenKey is the key under which tokens are hashed.
func (h *Host) TokenKey() (token.Key, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens.IsSet() {
		return h.tokens, nil
	}
	var err error
	switch {
	case h.Settings.TokenKey.IsSet():
		h.tokens, err = token.ParseKey(h.Settings.TokenKey.Reveal())
	case h.Settings.TokenKeyFile != "":
		h.tokens, err = token.LoadOrCreateKey(h.Settings.TokenKeyFile)
	default:
		return token.Key{}, errors.New("PEAT_TOKEN_KEY or PEAT_TOKEN_KEY_FILE is not set")
	}
	if err != nil {
		return token.Key{}, fmt.Errorf("token key: %w", err)
	}
	return h.tokens, nil
}

// Gate is who lets callers in. Without a token key no service token is taken, and
// without an identity provider of the gateway's own no person.
func (h *Host) Gate(ctx context.Context) (access.Gate, error) {
	gate := access.Gate{Bootstrap: access.NewBootstrap(h.Settings.AdminToken.Reveal())}
	if p, err := h.people(ctx); err != nil {
		return gate, err
	} else if p != nil {
		gate.People = p.access
	}
	if !h.Settings.TokenKey.IsSet() && h.Settings.TokenKeyFile == "" {
		h.Log.Warn("PEAT_TOKEN_KEY is not set: service tokens are not taken here")
		return gate, nil
	}
	key, err := h.TokenKey()
	if err != nil {
		return gate, err
	}
	st, err := h.Store(ctx)
	if err != nil {
		return gate, err
	}
	gate.Services = access.NewChecker(access.CheckerDeps{Directory: st, Key: key, Log: h.Log, Now: time.Now})
	return gate, nil
}

// Bus is where events go.
func (h *Host) Bus() (bus.Publisher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bus != nil {
		return h.bus, nil
	}
	switch {
	case h.local != nil:
		h.bus = h.local
	case h.Settings.Broker != "":
		h.bus = bus.NewKnative(h.Settings.Broker)
	default:
		return nil, errors.New("K_SINK is not set: there is no broker to send events to")
	}
	return h.bus, nil
}

// Notify starts the relay that empties the outbox and returns what wakes it.
func (h *Host) Notify(ctx context.Context) (func(), error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	publisher, err := h.Bus()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.relay == nil {
		h.relay = startRelay(st, publisher, h.Log)
		h.closes = append(h.closes, h.relay.close)
	}
	return h.relay.wake, nil
}

// Providers verifies the identities that organizations' providers vouch for.
func (h *Host) Providers(ctx context.Context) (*providers.Providers, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := h.Keys(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vouch == nil {
		h.vouch = providers.New(providers.Deps{
			Store: st, Memory: st, Log: h.Log, SecretsFor: max(h.Settings.Keys.CacheFor, 1), // none at all would mean the default
			Unseal: func(ctx context.Context, p identity.Provider) ([]byte, error) {
				return keys.Open(ctx, keyring.OfProvider(p.Org, p.ID), p.Sealed)
			},
			Settings: identity.Settings{PublicURL: h.Settings.PublicURL, AllowPrivate: h.Settings.IdentityAllow, Now: time.Now, CRLDir: h.Settings.Transport.CRLDir},
		})
		h.closes = append(h.closes, h.vouch.Close)
	}
	return h.vouch, nil
}

// wakeRelay is for what writes into the outbox without having been asked to: if
// nobody here ever wanted it emptied, the sweep does it elsewhere.
func (h *Host) wakeRelay() {
	h.mu.Lock()
	r := h.relay
	h.mu.Unlock()
	if r != nil {
		r.wake()
	}
}

// deliveries is what the deliveries of all kinds have in common.
func (h *Host) deliveries() *sinks.Shared {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shared == nil {
		h.shared = sinks.NewShared()
	}
	return h.shared
}

func (h *Host) sinkDeps(ctx context.Context) (sinks.Deps, error) {
	st, err := h.Store(ctx)
	if err != nil {
		return sinks.Deps{}, err
	}
	keys, err := h.Keys(ctx)
	if err != nil {
		return sinks.Deps{}, err
	}
	publisher, err := h.Bus()
	if err != nil {
		return sinks.Deps{}, err
	}
	notify, err := h.Notify(ctx)
	if err != nil {
		return sinks.Deps{}, err
	}
	return sinks.Deps{
		Store: st, Keys: keys, Bus: publisher, Notify: notify, Metrics: h.Metrics, Tracer: h.Tracer(), Log: h.Log, Now: time.Now,
		Settings: sinks.Settings{
			Settings: driver.Settings{
				SinkDir: h.Settings.FileSinkDir, NATSURL: h.Settings.NATSURL, AllowPrivate: h.Settings.AllowPrivate,
				AttemptTimeout: h.Settings.AttemptTimeout, Stdout: file.NewOutput(os.Stdout),
			},
			Holder: h.Settings.Holder, Budget: h.Settings.DeliveryBudget, SecretsFor: max(h.Settings.Keys.CacheFor, 1), // none at all would mean the default
			Ladder: delivery.Ladder{Steps: h.Settings.RetryLadder, For: h.Settings.RetryFor},
		},
	}, nil
}

// Close lets go of what was opened, the last first.
func (h *Host) Close() error {
	h.mu.Lock()
	closes := h.closes
	h.closes = nil
	h.mu.Unlock()
	var errs []error
	for i := len(closes) - 1; i >= 0; i-- {
		errs = append(errs, closes[i]())
	}
	return errors.Join(errs...)
}
