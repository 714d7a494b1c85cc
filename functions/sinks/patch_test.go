package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// secrets opens what was sealed for a sink.
func (o *office) secrets(id string) (out map[string]any) {
	o.t.Helper()
	sink, err := o.store.Sink(o.t.Context(), key.Org, id)
	if err != nil {
		o.t.Fatal(err)
	}
	plain, err := o.d.unseal(o.t.Context(), sink)
	if err == nil {
		err = json.Unmarshal(plain, &out)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

func TestAPatchKeepsWhatItLeavesOut(t *testing.T) {
	o := newOffice(t)
	var made, got sinkWire
	seen := make(chan http.Header, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(srv.Close)
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+srv.URL+`","headers":{"Authorization":"Bearer hush","X-Old":"gone"}}}`, 201, &made)
	before := o.secrets(made.ID)
	for _, patch := range []string{
		`{"config":{"headers":{"X-New":"shh","X-Old":null}}}`,
		`{"config":{"headers":{"Authorization":"[sealed]"}}}`, // as GET showed it
		`{"format":"raw"}`,
	} {
		text := o.call("PATCH", ofFormation+"/"+made.ID, patch, 200, &got)
		if strings.Contains(text, "hush") || strings.Contains(text, "shh") || got.Secret != "" {
			t.Errorf("a secret in %s", text)
		}
	}
	var result testWire
	if o.call("POST", ofFormation+"/"+made.ID+"/test", "", 200, &result); !result.Delivered {
		t.Fatalf("%+v", result)
	}
	h := <-seen
	if h.Get("Authorization") != "Bearer hush" || h.Get("X-New") != "shh" || h.Get("X-Old") != "" {
		t.Errorf("%v", h)
	}
	after := o.secrets(made.ID)
	delete(before, "headers")
	delete(after, "headers")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error("the signing secret is another one")
	}
	o.call("POST", ofFormation, `{"kind":"kafka","config":{"brokers":["example.com:9092"],"topic":"t","tls":{},
		"sasl":{"mechanism":"plain","username":"u","password":"hush"}}}`, 201, &made)
	for _, patch := range []string{`{"config":{"topic":"u"}}`, `{"config":{"sasl":{"username":"v"}}}`, `{"config":{"sasl":{"password":"[sealed]"}}}`} {
		if text := o.call("PATCH", ofFormation+"/"+made.ID, patch, 200, &got); strings.Contains(text, "hush") {
			t.Errorf("a secret in %s", text)
		}
	}
	if o.secrets(made.ID)["password"] != "hush" || !strings.Contains(string(got.Config), `"v"`) {
		t.Errorf("%s", got.Config)
	}
}

func TestPatch(t *testing.T) {
	o := newOffice(t)
	path := ofFormation + "/" + o.pair.sink
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"a filter that does not compile": {`{"filter":{"where":"event.colour"}}`, 422},
		"a ladder of nothing":            {`{"retry":{"ladder":[]}}`, 422},
		"another format":                 {`{"format":"xml"}`, 422},
		"a config that is none":          {`{"config":7}`, 422},
		"a config without what it needs": {`{"config":{"url":null}}`, 422},
		"what cannot be changed":         {`{"kind":"nats"}`, 422},
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			o.call("PATCH", path, tc.body, tc.want, nil)
		})
	}
	if o.sink().Revision != 0 || len(o.outbox()) != 0 {
		t.Error("half-done")
	}
	var got sinkWire
	o.call("PATCH", path, `{"retry":{"ladder":["1s","1m"],"for":"1h"},"filter":{"documents":["a*"]}}`, 200, &got)
	if got.Retry == nil || got.Filter == nil || o.sink().Revision != 1 {
		t.Errorf("%+v", got)
	}
	o.call("PATCH", path, `{"retry":null,"filter":{}}`, 200, &got)
	var plain sinkWire
	if o.call("GET", path, "", 200, &plain); plain.Retry != nil || plain.Filter != nil {
		t.Errorf("%+v", plain)
	}
	if diff := cmp.Diff([]string{event.SinkChangedType, event.SinkChangedType}, o.outbox()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"sink.update", "sink.update"}, o.trail()); diff != "" {
		t.Error(diff)
	}
}

func TestTheSinksOwnLadderIsClimbed(t *testing.T) {
	o := newOffice(t)
	o.call("PATCH", ofFormation+"/"+o.pair.sink, `{"retry":{"ladder":["10m"],"for":"15m"}}`, 200, nil)
	o.driver.answer = failing(busy, "a/1")
	o.write("a")
	o.deliver()
	wait := o.held()["a"].NextAttemptAt.Sub(o.clock.now())
	if wait < 9*time.Minute || wait > 11*time.Minute {
		t.Errorf("waits %s", wait)
	}
	o.clock.advance(11 * time.Minute)
	if o.deliver(); o.held()["a"].State != delivery.Parked {
		t.Errorf("%+v", o.held()["a"])
	}
}

func TestAChangedSinkIsOpenedAnewAndLosesNothing(t *testing.T) {
	w := newWorld(t, sqlite(t))
	opened := 0
	w.d.connections.open = func(context.Context, delivery.Sink) (driver.Driver, error) { opened++; return w.driver, nil }
	w.write("a", "b", "a")
	w.driver.after = func([]driver.Event) { // while the batch is under way
		w.driver.after = nil
		w.tx(func(tx *store.Tx) error {
			s := w.sink()
			s.Format = delivery.Raw
			_, err := tx.UpdateSink(t.Context(), s)
			return err
		})
	}
	if _, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute)); !errors.Is(err, fault.Stale) {
		t.Errorf("what was sent under the old sink was written down: %v", err)
	}
	w.deliver()
	wantGot(t, w, "a/1 b/1 a/2 a/1 b/1 a/2")
	if opened != 2 || w.driver.closed != 1 {
		t.Errorf("opened %d times, closed %d times", opened, w.driver.closed)
	}
	if r := w.compare(); !r.Complete {
		t.Errorf("%+v", r)
	}
}

func TestAFilterChangedUnderWay(t *testing.T) {
	w := delivered(t, "a", "b", "a")
	w.setFilter(filter.Spec{Documents: []string{"b"}})
	w.write("a", "b", "a", "b")
	w.deliver()
	wantGot(t, w, "b/2 b/3")
	w.setFilter(filter.Spec{})
	w.write("a", "b")
	w.deliver()
	wantGot(t, w, "a/5 b/4") // what the old one left out is not owed
	if r := w.compare(); !r.Complete {
		t.Errorf("%+v", r)
	}
}
