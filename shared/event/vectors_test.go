package event_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// differs is what of an event of peat-gateway 0.1 is something else in ours, though
// it has the same name, and why. All other fields are equal, and none is missing.
var differs = map[string]string{
	"change_hash": "0.1 has 64 bits that depend on the clock; ours is Automerge's hash of the change, 64 characters",
	"patches":     "0.1 has the whole document; ours are the steps of the change",
	"actor_id":    "0.1 has a field of the document that anybody can write; ours is Automerge's actor",
}

func TestVectorsGatewayCDCEvent(t *testing.T) {
	type in struct {
		Org       tenant.OrgID     `json:"org_id"`
		App       tenant.AppID     `json:"app_id"`
		Document  string           `json:"document_id"`
		Actor     string           `json:"actor_id"`
		Timestamp refusaltest.Uint `json:"timestamp_ms"`
	}
	type out struct{ Body string }
	for _, v := range refusaltest.Vectors[in, out](t, "gateway_cdc_event") {
		t.Run(v.ID, func(t *testing.T) {
			e := event.DocumentChanged(tenant.Key{Org: v.In.Org, App: v.In.App}, change.Settled{
				Change: change.Change{
					Hash: change.Hash{1}, Actor: "c0ffee", Time: int64(v.In.Timestamp / 1000), Patches: []byte(`[]`),
				},
				Document: v.In.Document, Seq: 1, Position: 1, ReceivedAt: time.Unix(0, 0), Origin: change.Sync,
			}, delivery.Patches)
			var theirs, ours map[string]json.RawMessage
			if err := json.Unmarshal([]byte(v.Out.Body), &theirs); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(e.Data(), &ours); err != nil {
				t.Fatal(err)
			}
			for field, want := range theirs {
				got, ok := ours[field]
				diff := cmp.Diff(string(want), string(got))
				switch why := differs[field]; {
				case !ok:
					t.Errorf("there is no %s", field)
				case why == "" && diff != "":
					t.Errorf("%s: %s", field, diff)
				case why != "" && diff == "":
					t.Errorf("%s is the same; it was to differ: %s", field, why)
				}
			}
		})
	}
}
