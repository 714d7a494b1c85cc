package nats

import (
	"errors"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestVectorsGatewaySubjectPrefix(t *testing.T) {
	type in struct{ Value string }
	type out struct {
		Valid    bool
		Fragment string `json:"stream_fragment"`
	}
	fragments := map[string]string{}
	for _, v := range refusaltest.Vectors[in, out](t, "gateway_subject_prefix") {
		t.Run(v.ID, func(t *testing.T) {
			err := natsConfig{SubjectPrefix: v.In.Value}.checkNames()
			if v.Out.Valid != (err == nil) || err != nil && !errors.Is(err, fault.Invalid) {
				t.Errorf("got %v", err)
			}
			// peat-gateway 0.1 makes one fragment of many prefixes, so that sinks
			// collide. What we make is as plain, and of one prefix only.
			fragment := EscapeToken(v.In.Value)
			if other, taken := fragments[fragment]; taken {
				t.Errorf("%q and %q share a stream", other, v.In.Value)
			}
			fragments[fragment] = v.In.Value
		})
	}
}

// TestVectorsGatewayCDCSubject shows that who subscribed to events of
// peat-gateway 0.1 finds ours. The vectors are those of shared/event.
func TestVectorsGatewayCDCSubject(t *testing.T) {
	type in struct {
		Org      tenant.OrgID `json:"org_id"`
		App      tenant.AppID `json:"app_id"`
		Document string       `json:"document_id"`
		Prefix   string       `json:"subject_prefix"`
	}
	type out struct {
		Subject string
		Stream  string `json:"stream_subject"`
	}
	for _, v := range refusaltest.Vectors[in, out](t, "../../../../event/testdata/vectors/gateway_cdc_event") {
		t.Run(v.ID, func(t *testing.T) {
			d := &natsStream{org: v.In.Org, config: natsConfig{SubjectPrefix: v.In.Prefix}}
			got := d.subject(driver.Event{Key: tenant.Key{Org: v.In.Org, App: v.In.App}, Document: v.In.Document})
			if got != v.Out.Subject || d.ours() != v.Out.Stream {
				t.Errorf("%s in %s", got, d.ours())
			}
		})
	}
}
