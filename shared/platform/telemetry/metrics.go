package telemetry

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics counts what the gateway does. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry // private: two gateways in one process, as in tests, count apart

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec

	captured prometheus.Counter
	refused  *prometheus.CounterVec
	sessions prometheus.Gauge
	opened   prometheus.Counter

	delivered  *prometheus.CounterVec
	parked     *prometheus.CounterVec
	retried    *prometheus.CounterVec
	unjudged   *prometheus.CounterVec
	lagEvents  *prometheus.GaugeVec
	lagSeconds *prometheus.GaugeVec
	lagBytes   *prometheus.GaugeVec
	incomplete *prometheus.GaugeVec
	took       *prometheus.HistogramVec

	patterns, kinds, whats bounded
}

// How many values a label may have before the rest is "other". There are far
// fewer routes, kinds of sinks and reasons; these are for mistakes.
const (
	maxPatterns = 200
	maxWords    = 30
)

// NewMetrics returns metrics that stand at zero.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: counters("http_requests_total", "Requests answered, by route, method and status.", "pattern", "method", "status"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "http_request_duration_seconds", Help: "Time until the answer to a request was complete, by route and method.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"pattern", "method"}),

		captured: counter("changes_captured_total", "Changes of peers that were kept in the log."),
		refused:  counters("inputs_refused_total", "Input of peers that was not taken, by what it was.", "what"),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "sync_sessions", Help: "Connections of peers that are open now."}),
		opened:   counter("sync_sessions_opened_total", "Connections of peers that were opened."),

		delivered:  counters("deliveries_total", "Events that a sink has acknowledged, by kind of sink.", "kind"),
		parked:     counters("deliveries_parked_total", "Events put aside because no attempt can deliver them, by kind of sink.", "kind"),
		retried:    counters("delivery_retries_total", "Attempts that failed and are made again, by kind of sink.", "kind"),
		unjudged:   counters("delivery_unjudged_total", "Events that a filter failed on, which were delivered, by kind of sink.", "kind"),
		lagEvents:  gauges("delivery_lag_events", "Events that are not yet delivered, by kind of sink.", "kind"),
		lagSeconds: gauges("delivery_lag_seconds", "Age of the oldest event that is not yet delivered, by kind of sink.", "kind"),
		incomplete: gauges("delivery_incomplete", "Sinks, each in each formation, whose last comparison with the log found something wrong, by kind of sink.", "kind"),
		lagBytes:   gauges("delivery_lag_bytes", "What the events that are not yet delivered weigh in the log, about, by kind of sink.", "kind"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "delivery_seconds", Help: "Time from storing a change until a sink has acknowledged its event, by kind of sink.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600},
		}, []string{"kind"}),

		patterns: bounded{max: maxPatterns},
		kinds:    bounded{max: maxWords},
		whats:    bounded{max: maxWords},
	}
	m.registry.MustRegister(
		m.requests, m.duration,
		m.captured, m.refused, m.sessions, m.opened,
		m.delivered, m.parked, m.retried, m.unjudged, m.lagEvents, m.lagSeconds, m.lagBytes, m.took, m.incomplete,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	return m
}

// Handler serves the metrics to Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Request counts an answered request. pattern is that of the route, as in
// http.Request.Pattern, never the path; empty is a request that no route took.
func (m *Metrics) Request(pattern, method string, status int, d time.Duration) {
	// The pattern may begin with the method, which has a label of its own.
	if _, path, ok := strings.Cut(pattern, " "); ok {
		pattern = path
	}
	pattern, method = m.patterns.value(pattern), knownMethod(method)
	m.requests.WithLabelValues(pattern, method, knownStatus(status)).Inc()
	m.duration.WithLabelValues(pattern, method).Observe(d.Seconds())
}

// Captured counts changes that were kept.
func (m *Metrics) Captured(changes int) { add(m.captured, changes) }

// Refused counts input that was not taken; what is a word from the code.
func (m *Metrics) Refused(what string) { m.refused.WithLabelValues(m.whats.value(what)).Inc() }

// SessionOpened counts a peer that came.
func (m *Metrics) SessionOpened() {
	m.opened.Inc()
	m.sessions.Inc()
}

// SessionClosed counts a peer that went.
func (m *Metrics) SessionClosed() { m.sessions.Dec() }

// Delivered counts events that a sink of this kind has acknowledged.
func (m *Metrics) Delivered(kind string, n int) {
	add(m.delivered.WithLabelValues(m.kinds.value(kind)), n)
}

// Parked counts an event that was put aside.
func (m *Metrics) Parked(kind string) { m.parked.WithLabelValues(m.kinds.value(kind)).Inc() }

// Retried counts an attempt that failed and will be made again.
func (m *Metrics) Retried(kind string) { m.retried.WithLabelValues(m.kinds.value(kind)).Inc() }

// Unjudged counts an event that a sink's filter failed on, and that was delivered.
func (m *Metrics) Unjudged(kind string) { m.unjudged.WithLabelValues(m.kinds.value(kind)).Inc() }

// Took says how long it was from storing a change until a sink of this kind
// acknowledged its event.
func (m *Metrics) Took(kind string, d time.Duration) {
	// The clocks of two replicas may differ: no time is less than none.
	m.took.WithLabelValues(m.kinds.value(kind)).Observe(max(0, d).Seconds())
}

// Lag says how far the sinks of this kind are behind, all together: how many
// events wait, what they weigh, and for how long the oldest has.
func (m *Metrics) Lag(kind string, events, bytes uint64, seconds float64) {
	kind = m.kinds.value(kind)
	m.lagEvents.WithLabelValues(kind).Set(float64(events))
	m.lagBytes.WithLabelValues(kind).Set(float64(bytes))
	m.lagSeconds.WithLabelValues(kind).Set(seconds)
}

// Incomplete says how many sinks of this kind, each in each formation, lack what
// they are owed, as far as the last comparisons tell.
func (m *Metrics) Incomplete(kind string, n int) {
	m.incomplete.WithLabelValues(m.kinds.value(kind)).Set(float64(n))
}

const prefix = "peat_gateway_"

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, labels)
}

// add does nothing for a negative number, for which a counter would panic: a
// wrong count is no reason to stop the gateway.
func add(c prometheus.Counter, n int) {
	if n > 0 {
		c.Add(float64(n))
	}
}

func knownStatus(status int) string {
	if status < 100 || status > 599 {
		return other
	}
	return strconv.Itoa(status)
}

// knownMethod is for the method as well: a caller may send any word.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return other
}
