package event

import (
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// What a decision on a node's wish to be let in can be.
const (
	EnrollmentApproved = "approved"
	EnrollmentDenied   = "denied"
	EnrollmentPending  = "pending" // an administrator has to decide
)

// EnrollmentData tells what was decided on a node, and never what was claimed of it.
type EnrollmentData struct {
	Org        tenant.OrgID `json:"org_id"`
	App        tenant.AppID `json:"app_id"`
	Outcome    string       `json:"outcome"`
	NodeID     string       `json:"node_id"`
	PublicKey  string       `json:"public_key"`
	Rule       string       `json:"rule,omitempty"`          // that decided
	Provider   string       `json:"provider_id,omitempty"`   // of the identity that was shown
	Enrollment string       `json:"enrollment_id,omitempty"` // of one that waits or waited
	Serial     string       `json:"serial,omitempty"`        // of the certificate
}

// EnrollmentDecided says that it was decided on a node.
func EnrollmentDecided(d EnrollmentData, now time.Time) cloudevents.Event {
	return with(inFormation(EnrollmentDecidedType, d.Org, d.App, d.PublicKey, now), d)
}
