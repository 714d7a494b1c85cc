package sinks

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/openapi/openapitest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// office is a world with its administration.
type office struct {
	*world
	http.Handler
	dir string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{world: newWorld(t, sqlite(t)), dir: t.TempDir()}
	a := New(Deps{
		Store: o.store, Keys: testKeys(t), Bus: o.bus, Now: o.clock.now, Notify: func() { o.lost++ },
		Settings: Settings{Settings: driver.Settings{SinkDir: o.dir, AllowPrivate: drivertest.Loopback, Stdout: &bytes.Buffer{}}},
	})
	h := web.Mux(a.Routes(), web.Options{Authorize: access.NewBootstrap("token").Authorize})
	o.Handler = openapitest.New(t).Handler(t, h)
	return o
}

// as lets a subtest answer for what fails, until the function it returns is called.
func (o *office) as(t testing.TB) func() {
	before := o.t
	o.t = t
	return func() { o.t = before }
}

func (o *office) call(method, path, body string, want int, into any) string {
	o.t.Helper()
	o.clock.advance(time.Millisecond) // the audit trail is in order by the millisecond
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	out := httptest.NewRecorder()
	o.ServeHTTP(out, r)
	if out.Code != want {
		o.t.Fatalf("%s %s: %d, want %d\n%s", method, path, out.Code, want, out.Body)
	}
	if into != nil {
		if err := json.Unmarshal(out.Body.Bytes(), into); err != nil {
			o.t.Fatal(err)
		}
	}
	return out.Body.String()
}

const (
	ofOrg       = "/orgs/acme/cdc/sinks"
	ofFormation = "/orgs/acme/formations/logistics/cdc/sinks"
)

func (o *office) outbox() []string {
	o.t.Helper()
	out, err := o.store.Outbox(context.Background(), 100)
	if err != nil {
		o.t.Fatal(err)
	}
	var types []string
	for _, e := range out {
		types = append(types, e.Event.Type())
	}
	return types
}

func TestLifeOfASink(t *testing.T) {
	o := newOffice(t)
	o.write("a", "b", "c")
	var made, got sinkWire
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"https://example.com/x","headers":{"Authorization":"Bearer hush"}},"start":"beginning"}`, 201, &made)
	if made.Secret == "" || made.State != delivery.Active || made.Lag.Events != 3 || made.Format != delivery.Patches || made.Formations[0] != "logistics" {
		t.Errorf("%+v", made)
	}
	text := o.call("GET", ofFormation+"/"+made.ID, "", 200, &got)
	if strings.Contains(text, "hush") || strings.Contains(text, made.Secret) {
		t.Errorf("a secret in %s", text)
	}
	if diff := cmp.Diff(made, got, cmp.FilterPath(func(p cmp.Path) bool { return slices.Contains([]string{"Secret", "Config", "Lag.Seconds"}, p.String()) }, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
	o.call("POST", ofOrg+"/"+made.ID+"/pause", "", 200, &got)
	if got.State != delivery.Paused {
		t.Errorf("%+v", got)
	}
	o.call("POST", ofFormation+"/"+made.ID+"/resume", "", 200, &got)
	if got.State != delivery.Active {
		t.Errorf("%+v", got)
	}
	var list web.List[sinkWire]
	if o.call("GET", ofOrg+"?limit=1", "", 200, &list); len(list.Items) != 1 || list.Next == nil {
		t.Errorf("%+v", list)
	}
	o.call("DELETE", ofFormation+"/"+made.ID, "", 204, nil)
	o.call("GET", ofFormation+"/"+made.ID, "", 404, nil)
	if diff := cmp.Diff([]string{event.SinkCreatedType, event.SinkChangedType, event.SinkResumedType, event.SinkDeletedType}, o.outbox()); diff != "" {
		t.Error(diff)
	}
	trail, err := o.store.AuditTrail(t.Context(), "acme", 10)
	if err != nil || len(trail) != 4 || trail[0].Action != "sink.create" || trail[0].Actor != "bootstrap-admin" {
		t.Errorf("%+v %v", trail, err)
	}
}

func TestSinksOfOneFormationAreNotSeenFromAnother(t *testing.T) {
	o := newOffice(t)
	o.addFormation(tenant.Key{Org: "acme", App: "medical"})
	o.addFormation(tenant.Key{Org: "rival", App: "logistics"})
	var made sinkWire
	o.call("POST", ofFormation, `{"kind":"stdout"}`, 201, &made)
	for _, path := range []string{"/orgs/acme/formations/medical/cdc/sinks/", "/orgs/rival/formations/logistics/cdc/sinks/", "/orgs/rival/cdc/sinks/", "/orgs/nobody/cdc/sinks/"} {
		for _, end := range []string{"/pause", "/resume", "/test", "/dead-letters/01ARZ3NDEKTSV4RRFFQ69G5FAV/skip"} {
			o.call("POST", path+made.ID+end, "", 404, nil)
		}
		o.call("GET", path+made.ID, "", 404, nil)
		o.call("DELETE", path+made.ID, "", 404, nil)
	}
	var list web.List[sinkWire]
	if o.call("GET", "/orgs/acme/formations/medical/cdc/sinks", "", 200, &list); len(list.Items) != 1 || list.Items[0].ID != o.pair.sink {
		t.Errorf("%+v", list)
	}
}

func TestWhatIsRefused(t *testing.T) {
	o := newOffice(t)
	o.call("POST", ofFormation, `{"kind":"file","config":{"path":"Taken"}}`, 201, nil)
	for name, tc := range map[string]struct {
		path, body string
		want       int
	}{
		"not JSON":                   {ofFormation, `{`, 400},
		"unknown kind":               {ofFormation, `{"kind":"pigeon"}`, 422},
		"unknown field":              {ofFormation, `{"kind":"stdout","filter":"true"}`, 422},
		"unknown option":             {ofFormation, `{"kind":"stdout","config":{"colour":"red"}}`, 422},
		"wrong type":                 {ofFormation, `{"kind":7}`, 422},
		"formations said twice":      {ofFormation, `{"kind":"stdout","formations":["logistics"]}`, 422},
		"no formations":              {ofOrg, `{"kind":"stdout"}`, 422},
		"star among others":          {ofOrg, `{"kind":"stdout","formations":["*","logistics"]}`, 422},
		"a formation that is not":    {ofOrg, `{"kind":"stdout","formations":["nothing"]}`, 404},
		"an organization that isn't": {"/orgs/nobody/cdc/sinks", `{"kind":"stdout","formations":["*"]}`, 404},
		"a later start":              {ofFormation, `{"kind":"stdout","start":"yesterday"}`, 422},
		"another format":             {ofFormation, `{"kind":"stdout","format":"xml"}`, 422},
		"a path that is taken":       {ofFormation, `{"kind":"file","config":{"path":"taken"}}`, 409},
		"a path outside":             {ofFormation, `{"kind":"file","config":{"path":"../x"}}`, 422},
		"another signature":          {ofFormation, `{"kind":"webhook","config":{"url":"https://example.com","signing":"rsa"}}`, 422},
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			before := len(o.outbox())
			o.call("POST", tc.path, tc.body, tc.want, nil)
			if len(o.outbox()) != before {
				t.Error("half-done")
			}
		})
	}
	for _, id := range []string{"nothing", "%00", "%ff", strings.Repeat("x", 3000)} {
		o.call("GET", ofFormation+"/"+id, "", 404, nil)
	}
}

func TestQuotaOfSinks(t *testing.T) {
	o := newOffice(t)
	o.tx(func(tx *store.Tx) error {
		org, err := tx.Org(context.Background(), "acme")
		if err != nil {
			return err
		}
		org.Quotas.MaxCDCSinks = 2
		return tx.UpdateOrg(context.Background(), org)
	})
	o.call("POST", ofFormation, `{"kind":"stdout"}`, 201, nil)
	o.call("POST", ofFormation, `{"kind":"stdout"}`, 429, nil)
}

func TestTestEvent(t *testing.T) {
	o := newOffice(t)
	var made sinkWire
	var result testWire
	o.call("POST", ofFormation, `{"kind":"file","config":{"path":"x.ndjson"}}`, 201, &made)
	o.call("POST", ofFormation+"/"+made.ID+"/test", "", 200, &result)
	text, err := os.ReadFile(filepath.Join(o.dir, "x.ndjson"))
	if !result.Delivered || err != nil || !strings.Contains(string(text), event.SinkTestType) {
		t.Errorf("%+v %s %v", result, text, err)
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+srv.URL+`"}}`, 201, &made)
	o.call("POST", ofFormation+"/"+made.ID+"/test", "", 200, &result)
	if result.Delivered || result.Error == "" {
		t.Errorf("%+v", result)
	}
}

func TestSweepRingsForWhatIsBehind(t *testing.T) {
	o := newOffice(t)
	a := New(Deps{Store: o.store, Bus: o.bus, Now: o.clock.now, Metrics: &lags{}})
	ring := func() int {
		t.Helper()
		o.bus.rings = nil
		if err := a.onPing(t.Context(), event.LogAppended(key, 0, start)); err != nil {
			t.Fatal(err)
		}
		return len(o.bus.rings)
	}
	if n := ring(); n != 0 {
		t.Errorf("%d rings for nothing", n)
	}
	o.write("a")
	if n := ring(); n != 1 || o.bus.rings[0].Type() != event.LogAppendedType {
		t.Errorf("%d rings", n)
	}
	if got := a.Metrics.(*lags).events["webhook"]; got != 1 {
		t.Errorf("a lag of %d", got)
	}
	o.deliver()
	if n := ring(); n != 0 || a.Metrics.(*lags).events["webhook"] != 0 {
		t.Errorf("%d rings, lag %v", n, a.Metrics)
	}
}

type lags struct {
	noMetrics
	events map[string]uint64
}

func (l *lags) Lag(kind string, events, _ uint64, _ float64) {
	if l.events == nil {
		l.events = map[string]uint64{}
	}
	l.events[kind] = events
}
