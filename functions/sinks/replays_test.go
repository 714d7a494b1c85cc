package sinks

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestLifeOfAReplay(t *testing.T) {
	o := newOffice(t)
	o.write("a", "b", "a")
	o.deliver()
	o.write("c") // not delivered yet, so not to be repeated
	path := ofFormation + "/" + o.pair.sink + "/replays"
	var count countWire
	if o.call("POST", path, `{"dry_run":true}`, 200, &count); count.Count != 3 {
		t.Errorf("%d", count.Count)
	}
	if len(o.outbox())+len(o.trail()) != 0 {
		t.Error("a dry run left something")
	}
	var made, got replayWire
	o.call("POST", path, `{"from":2,"to":900,"rate":1}`, 201, &made)
	if made.From != 2 || made.To != 3 || made.Count != 2 || made.State != delivery.Running || made.App != "logistics" || made.Rate != 1 {
		t.Errorf("%+v", made)
	}
	if diff := cmp.Diff([]string{event.LogAppendedType}, o.outbox()); diff != "" {
		t.Error(diff)
	}
	o.driver.take()
	o.deliver()
	wantGot(t, o.world, "c/1 b/1")
	if o.call("GET", path+"/"+made.ID, "", 200, &got); got.Delivered != 1 || got.Position != 2 || got.NextAttemptAt.IsZero() {
		t.Errorf("%+v", got)
	}
	if o.call("POST", ofOrg+"/"+o.pair.sink+"/replays/"+made.ID+"/cancel", "", 200, &got); got.State != delivery.Cancelled || got.EndedAt.IsZero() {
		t.Errorf("%+v", got)
	}
	o.call("POST", path+"/"+made.ID+"/cancel", "", 409, nil)
	o.clock.advance(time.Hour)
	o.deliver()
	wantGot(t, o.world, "")
	var list web.List[replayWire]
	if o.call("GET", path+"?limit=1", "", 200, &list); len(list.Items) != 1 || list.Items[0].State != delivery.Cancelled {
		t.Errorf("%+v", list)
	}
	if diff := cmp.Diff([]string{"replay.create", "replay.cancel"}, o.trail()); diff != "" {
		t.Error(diff)
	}
	o.addFormation(tenant.Key{Org: "acme", App: "medical"})
	elsewhere := "/orgs/acme/formations/medical/cdc/sinks/" + o.pair.sink + "/replays"
	o.call("GET", elsewhere+"/"+made.ID, "", 404, nil)
	o.call("POST", elsewhere+"/"+made.ID+"/cancel", "", 404, nil)
	if o.call("GET", elsewhere, "", 200, &list); len(list.Items) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestReplayByTime(t *testing.T) {
	o := newOffice(t)
	for range 4 {
		o.write("a")
		o.clock.advance(time.Minute)
	}
	o.deliver()
	at := func(minutes int) string { return start.Add(time.Duration(minutes) * time.Minute).Format(time.RFC3339) }
	for name, tc := range map[string]struct {
		body     string
		from, to uint64
	}{
		"since":          {fmt.Sprintf(`{"since":%q}`, at(1)), 2, 4},
		"until":          {fmt.Sprintf(`{"until":%q}`, at(2)), 1, 2},
		"both":           {fmt.Sprintf(`{"since":%q,"until":%q}`, at(1), at(3)), 2, 3},
		"since a place":  {fmt.Sprintf(`{"from":3,"until":%q}`, at(9)), 3, 4},
		"before it all":  {fmt.Sprintf(`{"until":%q}`, at(-9)), 1, 0},
		"from the first": {`{"from":0}`, 1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			var got replayWire
			o.call("POST", ofFormation+"/"+o.pair.sink+"/replays", tc.body, 201, &got)
			if got.From != tc.from || got.To != tc.to {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestReplayRefuses(t *testing.T) {
	o := newOffice(t)
	path := "/" + o.pair.sink + "/replays"
	o.addFormation(tenant.Key{Org: "acme", App: "medical"})
	o.write("a")
	o.call("POST", ofFormation+path, `{}`, 201, nil) // its cursor is at the beginning
	o.call("POST", "/orgs/acme/formations/medical/cdc/sinks"+path, `{}`, 409, nil)
	o.deliver()
	for name, tc := range map[string]struct {
		base, body string
		want       int
	}{
		"no formation":               {ofOrg, `{}`, 422},
		"a formation that is not":    {ofOrg, `{"formation":"nothing"}`, 404},
		"not a name":                 {ofOrg, `{"formation":"A/B"}`, 422},
		"another than the path's":    {ofFormation, `{"formation":"medical"}`, 422},
		"two beginnings":             {ofFormation, `{"from":1,"since":"2026-01-01T00:00:00Z"}`, 422},
		"two ends":                   {ofFormation, `{"to":1,"until":"2026-01-01T00:00:00Z"}`, 422},
		"a position beyond numbers":  {ofFormation, `{"from":18446744073709551615}`, 422},
		"a rate below zero":          {ofFormation, `{"rate":-1}`, 422},
		"a rate above all":           {ofFormation, `{"rate":100001}`, 422},
		"a document of no database":  {ofFormation, `{"document":"a\u0000"}`, 422},
		"an author of no database":   {ofFormation, `{"actor":"a\u0000"}`, 422},
		"a field that is misspelt":   {ofFormation, `{"dryrun":true}`, 422},
		"not a time":                 {ofFormation, `{"since":"noon"}`, 422},
		"a replay that is not":       {ofFormation, `{`, 400},
		"a formation that it covers": {ofOrg, `{"formation":"logistics","dry_run":true}`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			o.call("POST", tc.base+path, tc.body, tc.want, nil)
		})
	}
}

func TestASinkForOneFormationNeedsNoName(t *testing.T) {
	o := newOffice(t)
	var made sinkWire
	var count countWire
	o.call("POST", ofFormation, `{"kind":"stdout"}`, 201, &made)
	o.call("POST", ofOrg+"/"+made.ID+"/replays", `{"dry_run":true}`, 200, &count)
	o.addFormation(tenant.Key{Org: "acme", App: "medical"})
	o.call("POST", ofOrg+"/"+made.ID+"/replays", `{"formation":"medical"}`, 422, nil)
}

func TestReplaysAreFewAtATime(t *testing.T) {
	o := newOffice(t)
	o.write("a")
	o.deliver()
	path := ofFormation + "/" + o.pair.sink + "/replays"
	var made replayWire
	for range maxRunningReplays {
		o.call("POST", path, `{}`, 201, &made)
	}
	o.call("POST", path, `{}`, 429, nil)
	o.call("POST", path+"/"+made.ID+"/cancel", "", 200, nil)
	o.call("POST", path, `{}`, 201, nil)
}

func TestTheSweepRingsForAReplay(t *testing.T) {
	w := delivered(t, "a")
	a := New(Deps{Store: w.store, Bus: w.bus, Now: w.clock.now})
	w.replay(func(p *delivery.Replay) { p.NextAttemptAt = w.clock.now().Add(time.Minute) })
	rings := func() int {
		t.Helper()
		w.bus.rings = nil
		if err := a.onPing(t.Context(), event.LogAppended(key, 0, start)); err != nil {
			t.Fatal(err)
		}
		return len(w.bus.rings)
	}
	if n := rings(); n != 0 {
		t.Errorf("%d rings before it is due", n)
	}
	w.clock.advance(time.Minute)
	if n := rings(); n != 1 {
		t.Errorf("%d rings", n)
	}
}

func TestOldReplaysAreForgotten(t *testing.T) {
	w := delivered(t, "a")
	var ids []string
	w.tx(func(tx *store.Tx) error {
		for i := range 205 {
			p := delivery.Replay{Org: key.Org, App: key.App, Sink: w.pair.sink, ID: fmt.Sprintf("r%03d", i), State: delivery.Done}
			if i == 0 {
				p.State = delivery.Running
			}
			if err := tx.CreateReplay(t.Context(), p); err != nil {
				return err
			}
		}
		return nil
	})
	list, err := w.store.Replays(t.Context(), key.Org, w.pair.sink, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	if len(ids) != 201 || ids[0] != "r000" || slices.Contains(ids, "r004") || !slices.Contains(ids, "r005") {
		t.Errorf("%d: %v", len(ids), ids)
	}
}
