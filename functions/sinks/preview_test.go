package sinks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestPreview(t *testing.T) {
	o := newOffice(t)
	o.write("a", "b", "a", "c")
	medical := tenant.Key{Org: "acme", App: "medical"}
	o.addFormation(medical)
	o.addFormation(tenant.Key{Org: "rival", App: "logistics"})
	for name, tc := range map[string]struct {
		path, body string
		want       string // document/seq, + is let pass, ? could not be judged
		counts     [3]int
	}{
		"everything":             {ofFormation, `{}`, "a/1+ b/1+ a/2+ c/1+", [3]int{4, 4, 0}},
		"by document":            {ofFormation, `{"filter":{"documents":["!a"]}}`, "a/1 b/1+ a/2 c/1+", [3]int{4, 2, 0}},
		"the latest two":         {ofFormation, `{"filter":{"where":"event.seq == 1"},"limit":2}`, "a/2 c/1+", [3]int{2, 1, 0}},
		"a filter that stumbles": {ofFormation, `{"filter":{"documents":["a"],"where":"patches[0].action == 'put'"}}`, "a/1? b/1 a/2? c/1", [3]int{4, 0, 2}},
		"all formations":         {ofOrg, `{"limit":1}`, "c/1+", [3]int{1, 1, 0}},
		"one of them":            {ofOrg, `{"formation":"logistics","limit":1}`, "c/1+", [3]int{1, 1, 0}},
		"an empty log":           {ofOrg, `{"formation":"medical"}`, "", [3]int{}},
		"of another's":           {"/orgs/rival/cdc/sinks", `{}`, "", [3]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			var got previewWire
			o.call("POST", tc.path+"/preview", tc.body, 200, &got)
			items := []string{}
			for _, i := range got.Items {
				text := fmt.Sprintf("%s/%d", i.Document, i.Seq)
				if i.Matched {
					text += "+"
				}
				if i.Error != "" {
					text += "?"
				}
				items = append(items, text)
				if sent := i.Matched || i.Error != ""; sent != (i.Event != nil) {
					t.Errorf("%s: event %s", text, i.Event)
				}
			}
			if diff := cmp.Diff(strings.Fields(tc.want), items); diff != "" || tc.counts != [3]int{got.Of, got.Matched, got.Failed} {
				t.Errorf("%+v\n%s", got, diff)
			}
		})
	}
	if len(o.outbox())+len(o.trail()) != 0 {
		t.Error("a preview left something")
	}
}

func TestPreviewShowsTheEventInTheFormatAskedFor(t *testing.T) {
	o := newOffice(t)
	o.write("a")
	for format, fields := range map[string][2]bool{"patches": {true, false}, "raw": {false, true}, "both": {true, true}} {
		var got previewWire
		o.call("POST", ofFormation+"/preview", `{"format":"`+format+`"}`, 200, &got)
		var e struct{ Data map[string]json.RawMessage }
		if err := json.Unmarshal(got.Items[0].Event, &e); err != nil {
			t.Fatal(err)
		}
		if _, patches := e.Data["patches"]; patches != fields[0] {
			t.Errorf("%q: %s", format, got.Items[0].Event)
		}
		if _, raw := e.Data["change"]; raw != fields[1] {
			t.Errorf("%q: %s", format, got.Items[0].Event)
		}
	}
}

func TestPreviewRefuses(t *testing.T) {
	o := newOffice(t)
	for name, tc := range map[string]struct {
		path, body string
		want       int
		says       string
	}{
		"no filter that compiles": {ofFormation, `{"filter":{"documents":["a","["],"where":"event.colour"}}`, 422, "/filter/where"},
		"another format":          {ofFormation, `{"format":"xml"}`, 422, "/format"},
		"no events":               {ofFormation, `{"limit":0}`, 422, "/limit"},
		"too many":                {ofFormation, `{"limit":201}`, 422, "/limit"},
		"another formation":       {ofFormation, `{"formation":"medical"}`, 422, "/formation"},
		"none such":               {ofOrg, `{"formation":"medical"}`, 404, ""},
		"nobody":                  {"/orgs/nobody/cdc/sinks", `{}`, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer o.as(t)()
			if text := o.call("POST", tc.path+"/preview", tc.body, tc.want, nil); !strings.Contains(text, tc.says) {
				t.Error(text)
			}
		})
	}
	for i := range previewFormations {
		o.addFormation(tenant.Key{Org: "acme", App: tenant.AppID(fmt.Sprint("f", i))})
	}
	o.call("POST", ofOrg+"/preview", `{}`, 422, nil)
}

func TestAPreviewIsBounded(t *testing.T) {
	large := bytes.Repeat([]byte("x"), previewBytes/8*3/4)
	var log []happened
	for i := range uint64(20) {
		c := change.Follow(change.Change{Raw: large}, "a", i+1, nil)
		c.ReceivedAt = time.Unix(int64(i), 0)
		log = append(log, happened{"logistics", c})
	}
	out := try(nil, "acme", delivery.Raw, log)
	size, with := 0, 0
	for _, i := range out.Items {
		size += len(i.Event)
		if i.Event != nil {
			with++
		}
	}
	if len(out.Items) != 20 || with == 0 || with == 20 || size > previewBytes {
		t.Errorf("%d items, %d events of %d bytes", len(out.Items), with, size)
	}
	// Nor is more than that read.
	o := newOffice(t)
	o.tx(func(tx *store.Tx) error {
		var all []change.Settled
		for _, h := range log {
			h.Origin, h.Patches = change.Sync, []byte("[]")
			h.Hash = hashOf("a", h.Seq)
			all = append(all, h.Settled)
		}
		_, err := tx.AppendChanges(t.Context(), key, all)
		return err
	})
	read, err := o.store.LastChanges(t.Context(), key, 20, previewBytes)
	if err != nil || len(read) != 11 || read[10].Seq != 20 {
		t.Errorf("%d read, %v", len(read), err)
	}
}
