package event

import (
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// CertificateData tells of a certificate.
type CertificateData struct {
	Org       tenant.OrgID `json:"org_id"`
	App       tenant.AppID `json:"app_id"`
	Serial    string       `json:"serial"`
	NodeID    string       `json:"node_id"`
	PublicKey string       `json:"public_key"`
	ExpiresAt time.Time    `json:"expires_at"`
	Replaces  string       `json:"replaces,omitempty"` // of one that is renewed
	Reason    string       `json:"reason,omitempty"`   // of one that is revoked
}

// AuthorityData tells of an authority and the state that it is in now.
type AuthorityData struct {
	Org       tenant.OrgID `json:"org_id"`
	App       tenant.AppID `json:"app_id"`
	Authority string       `json:"authority_id"`
	PublicKey string       `json:"public_key"`
	State     string       `json:"state"`
}

// Certificate returns the event of the given type (CertificateIssuedType …) about a
// certificate. One that is revoked takes the others of its key with it.
func Certificate(eventType string, d CertificateData, now time.Time) cloudevents.Event {
	return with(inFormation(eventType, d.Org, d.App, d.Serial, now), d)
}

// Authority says that an authority of a formation is in another state now.
func Authority(d AuthorityData, now time.Time) cloudevents.Event {
	return with(inFormation(AuthorityChangedType, d.Org, d.App, d.Authority, now), d)
}
