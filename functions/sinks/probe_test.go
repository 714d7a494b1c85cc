package sinks

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// assessed is a script that can be graded.
type assessed struct {
	*script
	found driver.Durability
	err   error
}

func (a assessed) Assess(context.Context) (driver.Durability, error) { return a.found, a.err }

func TestExamine(t *testing.T) {
	var graded driver.Durability
	graded.Worst("C", "one replica")
	graded.Worst("B", "no fsync")
	const silent = "this kind of sink does not tell how it keeps events"
	step := func(name string, ok bool, detail string) stepWire {
		return stepWire{Name: name, OK: ok, Detail: detail}
	}
	answers := func(o driver.Outcome) *script { return &script{answer: func(driver.Event) driver.Outcome { return o }} }
	for name, tc := range map[string]struct {
		driver driver.Driver
		want   checkWire
	}{
		"all is well": {assessed{&script{}, graded, nil}, checkWire{OK: true, Grade: "C", Reasons: []string{"one replica", "no fsync"},
			Steps: []stepWire{step("reach", true, ""), step("durability", true, "grade C"), step("test_event", true, "")}}},
		"nobody there": {assessed{answers(down), driver.Durability{}, errors.New("refused")}, checkWire{Reasons: []string{},
			Steps: []stepWire{step("reach", false, "refused"), step("durability", false, "could not be learned"), step("test_event", false, "down")}}},
		"it is there, and takes no event": {assessed{answers(bad), graded, nil}, checkWire{Grade: "C", Reasons: []string{"one replica", "no fsync"},
			Steps: []stepWire{step("reach", true, ""), step("durability", true, "grade C"), step("test_event", false, "400")}}},
		"it tells nothing": {&script{}, checkWire{OK: true, Reasons: []string{silent},
			Steps: []stepWire{step("reach", true, ""), step("durability", false, silent), step("test_event", true, "")}}},
		"it tells nothing and is not there": {answers(down), checkWire{Reasons: []string{silent},
			Steps: []stepWire{step("reach", false, "down"), step("durability", false, silent), step("test_event", false, "down")}}},
		"it tells nothing and refuses": {answers(bad), checkWire{Reasons: []string{silent},
			Steps: []stepWire{step("reach", true, ""), step("durability", false, silent), step("test_event", false, "400")}}},
		"time was up": {answers(driver.Outcome{}), checkWire{Reasons: []string{silent},
			Steps: []stepWire{step("reach", false, "no answer in time"), step("durability", false, silent), step("test_event", false, "no answer in time")}}},
	} {
		got := New(Deps{}).examine(t.Context(), tc.driver, driver.Event{})
		for i := range got.Steps {
			got.Steps[i].DurationMS = 0
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestCheck(t *testing.T) {
	o := newOffice(t)
	var made sinkWire
	var got checkWire
	o.call("POST", ofFormation, `{"kind":"file","config":{"path":"x.ndjson"}}`, 201, &made)
	o.call("POST", ofFormation+"/"+made.ID+"/pause", "", 200, nil) // whatever its state
	o.call("POST", ofFormation+"/"+made.ID+"/check", "", 200, &got)
	text, err := os.ReadFile(filepath.Join(o.dir, "x.ndjson"))
	if !got.OK || len(got.Steps) != 4 || got.Steps[0].Name != "open" || err != nil || !strings.Contains(string(text), event.SinkTestType) {
		t.Errorf("%+v %s %v", got, text, err)
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+srv.URL+`/?token=hush"}}`, 201, &made)
	answer := o.call("POST", ofOrg+"/"+made.ID+"/check", "", 200, &got)
	if got.OK || !got.Steps[0].OK || got.Steps[1].OK || strings.Contains(answer, "hush") || strings.Contains(answer, "127.0.0.1") {
		t.Errorf("%s", answer)
	}
	// A sink whose secrets are not ours to open.
	o.tx(func(tx *store.Tx) error {
		s, err := tx.Sink(t.Context(), key.Org, made.ID)
		s.Sealed = []byte("not an envelope")
		_, updateErr := tx.UpdateSinkAndSecrets(t.Context(), s)
		return errors.Join(err, updateErr)
	})
	o.call("POST", ofOrg+"/"+made.ID+"/check", "", 200, &got)
	if got.OK || len(got.Steps) != 1 || got.Steps[0].OK || got.Steps[0].Detail == "" {
		t.Errorf("%+v", got)
	}
}
