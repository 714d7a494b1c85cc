package telemetry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/defenseunicorns/peat-gateway/shared/platform/telemetry"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

func TestLoggerWritesJSONInUTC(t *testing.T) {
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, "")
	log.Debug("not shown")
	east := time.Date(2026, 11, 23, 2, 0, 0, 0, time.FixedZone("", 2*60*60))
	log.Info("shown", "until", east, slog.Group("lease", "until", east))

	var line struct {
		Time  string
		Level string
		Msg   string
		Until string
		Lease struct{ Until string }
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if line.Msg != "shown" || line.Level != "INFO" || !strings.HasSuffix(line.Time, "Z") {
		t.Errorf("%+v", line)
	}
	if want := "2026-11-23T00:00:00Z"; line.Until != want || line.Lease.Until != want {
		t.Errorf("until %s and %s, want %s", line.Until, line.Lease.Until, want)
	}
}

func TestLogNamesTheTrace(t *testing.T) {
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, "").With("function", "x")
	log.InfoContext(t.Context(), "outside")
	log.InfoContext(tracing.With(t.Context(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), "inside")
	type line struct {
		Msg, Function string
		Trace         string `json:"trace_id"`
		Span          string `json:"span_id"`
	}
	var got []line
	for text := range strings.Lines(out.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	want := []line{{"outside", "x", "", ""}, {"inside", "x", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[string]string{
		"":      "IWE",
		"debug": "DIWE",
		"INFO":  "IWE",
		"warn":  "WE",
		"error": "E",
		"loud":  "WIWE", // the warning comes first
	} {
		var out bytes.Buffer
		log := telemetry.NewLogger(&out, level)
		log.Debug("x")
		log.Info("x")
		log.Warn("x")
		log.Error("x")
		var got string
		for line := range strings.Lines(out.String()) {
			var record struct{ Level string }
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			got += record.Level[:1]
		}
		if got != want {
			t.Errorf("level %q: %s, want %s", level, got, want)
		}
	}
}

// used returns metrics each of which has counted something.
func used() *telemetry.Metrics {
	m := telemetry.NewMetrics()
	m.Request("GET /orgs/{org}", "GET", 200, 3*time.Millisecond)
	m.Request("/orgs/{org}", "GET", 404, 3*time.Millisecond)
	m.Captured(3)
	m.Captured(-1)
	m.Refused("message")
	m.SessionOpened()
	m.SessionOpened()
	m.SessionClosed()
	m.Delivered("webhook", 2)
	m.Delivered("webhook", 0)
	m.Parked("webhook")
	m.Retried("nats")
	m.Lag("nats", 7, 70, 1.5)
	m.Lag("nats", 5, 50, 0.5)
	m.Took("nats", 2*time.Millisecond)
	m.Took("nats", -time.Second)
	m.Took("nats", 2*time.Hour)
	return m
}

func scrape(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestEverythingIsCounted(t *testing.T) {
	got := "\n" + scrape(t, used())
	for _, want := range []string{
		`peat_gateway_http_requests_total{method="GET",pattern="/orgs/{org}",status="200"} 1`,
		`peat_gateway_http_requests_total{method="GET",pattern="/orgs/{org}",status="404"} 1`,
		`peat_gateway_http_request_duration_seconds_count{method="GET",pattern="/orgs/{org}"} 2`,
		`peat_gateway_http_request_duration_seconds_bucket{method="GET",pattern="/orgs/{org}",le="0.005"} 2`,
		`peat_gateway_changes_captured_total 3`,
		`peat_gateway_inputs_refused_total{what="message"} 1`,
		`peat_gateway_sync_sessions 1`,
		`peat_gateway_sync_sessions_opened_total 2`,
		`peat_gateway_deliveries_total{kind="webhook"} 2`,
		`peat_gateway_deliveries_parked_total{kind="webhook"} 1`,
		`peat_gateway_delivery_retries_total{kind="nats"} 1`,
		`peat_gateway_delivery_lag_events{kind="nats"} 5`,
		`peat_gateway_delivery_lag_seconds{kind="nats"} 0.5`,
		`peat_gateway_delivery_lag_bytes{kind="nats"} 50`,
		`peat_gateway_delivery_seconds_bucket{kind="nats",le="0.001"} 1`,
		`peat_gateway_delivery_seconds_bucket{kind="nats",le="0.0025"} 2`,
		`peat_gateway_delivery_seconds_bucket{kind="nats",le="3600"} 2`,
		`peat_gateway_delivery_seconds_count{kind="nats"} 3`,
	} {
		if !strings.Contains(got, "\n"+want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	for _, want := range []string{"\ngo_goroutines ", "\ngo_build_info{"} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
}

func TestNamesFollowThePromisesOfThePackage(t *testing.T) {
	doc, err := os.ReadFile("telemetry.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	var ours int
	text := scrape(t, used())
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(line, "# TYPE ")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, " ")
		if !strings.HasPrefix(name, "peat_gateway_") {
			continue // of the runtime
		}
		ours++
		if !bytes.Contains(doc, []byte("\t"+name)) {
			t.Errorf("%s is not in the package's comment", name)
		}
		if !bytes.Contains(page, []byte("| `"+strings.TrimPrefix(name, "peat_gateway_")+"` |")) {
			t.Errorf("%s is not in docs/observability.md", name)
		}
	}
	if want := bytes.Count(doc, []byte("\tpeat_gateway_")); ours != want {
		t.Errorf("%d metrics, the package's comment has %d", ours, want)
	}

	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "peat_gateway_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestLabelsAreBounded(t *testing.T) {
	m := telemetry.NewMetrics()
	for i := range 1000 {
		word := fmt.Sprintf("word-%d", i)
		m.Request("/"+word, "GET", 200, 0)
		m.Request("/", word, i+600, 0)
		m.Refused(word)
		m.Delivered(word, 1)
		m.Parked(word)
		m.Retried(word)
		m.Lag(word, 1, 1, 1)
		m.Took(word, 1)
	}
	for _, odd := range []string{"", "\xff", strings.Repeat("x", 201)} {
		m.Request(odd, odd, -1, 0)
		m.Refused(odd)
		m.Delivered(odd, 1)
	}
	text := scrape(t, m)
	for name, max := range map[string]int{
		"peat_gateway_http_requests_total":               203,
		"peat_gateway_inputs_refused_total":              31,
		"peat_gateway_deliveries_total":                  31,
		"peat_gateway_deliveries_parked_total":           31,
		"peat_gateway_delivery_retries_total":            31,
		"peat_gateway_delivery_lag_events":               31,
		"peat_gateway_delivery_lag_seconds":              31,
		"peat_gateway_delivery_lag_bytes":                31,
		"peat_gateway_delivery_seconds_sum":              31,
		"peat_gateway_http_request_duration_seconds_sum": 203,
	} {
		series := strings.Count(text, "\n"+name+"{")
		if series == 0 || series > max {
			t.Errorf("%s has %d series, want up to %d", name, series, max)
		}
		if !strings.Contains(text, `"other"`) {
			t.Errorf("%s has no other", name)
		}
	}
	if want := `peat_gateway_inputs_refused_total{what="other"} 973`; !strings.Contains(text, want) {
		t.Errorf("missing: %s", want)
	}
}

func TestTwoGatewaysInOneProcessCountApart(t *testing.T) {
	a, b := telemetry.NewMetrics(), telemetry.NewMetrics()
	a.Captured(1)
	const nothing = "# HELP peat_gateway_changes_captured_total Changes of peers that were kept in the log.\n" +
		"# TYPE peat_gateway_changes_captured_total counter\npeat_gateway_changes_captured_total 0\n"
	server := httptest.NewServer(b.Handler())
	defer server.Close()
	if err := testutil.ScrapeAndCompare(server.URL, strings.NewReader(nothing), "peat_gateway_changes_captured_total"); err != nil {
		t.Error(err)
	}
}

func TestManyCountAtOnce(t *testing.T) {
	m := telemetry.NewMetrics()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				m.Request(fmt.Sprintf("/%d", j), "GET", 200, 0)
				m.Delivered(fmt.Sprint(i), 1)
			}
		})
	}
	wg.Wait()
	if got, want := strings.Count(scrape(t, m), "\npeat_gateway_http_requests_total{"), 100; got != want {
		t.Errorf("%d series, want %d", got, want)
	}
}
