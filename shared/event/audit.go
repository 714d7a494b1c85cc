package event

import (
	"encoding/json"
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// AuditData is a doorbell: an organization's audit trail has grown. Whoever hears it
// reads the trail from its own cursor.
type AuditData struct {
	Org tenant.OrgID `json:"org_id"`
}

// AuditLinked rings for the sinks of an audit trail.
func AuditLinked(org tenant.OrgID, now time.Time) cloudevents.Event {
	e := newEvent(AuditLinkedType, OrgSource(org), string(org), now)
	e.SetExtension("peatorg", string(org))
	return with(e, AuditData{org})
}

// EncodeAudit is an entry of an audit trail, ready to leave. Its data is the line
// that an export has of it, so that what a sink has kept can be checked as an export
// can. The same entry always has the same id.
func EncodeAudit(e audit.Entry) (Encoded, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return Encoded{}, fmt.Errorf("encode audit entry: %w", err)
	}
	org := string(e.Org)
	return Encoded{Data: data, Attributes: []Attribute{
		{"specversion", "1.0"}, {"id", deterministicID("audit", org, sequence(e.Seq), e.Hash.String())},
		{"source", OrgSource(e.Org) + "/audit"}, {"type", AuditRecordedType}, {"subject", e.ID},
		{"datacontenttype", cloudevents.ApplicationJSON}, {"time", e.At.UTC().Format(time.RFC3339Nano)},
		{"partitionkey", org + "/audit"}, {"sequence", sequence(e.Seq)}, {"peatorg", org},
	}}, nil
}
