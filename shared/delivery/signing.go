package delivery

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// SigningKey is a key pair by which receivers know an organization.
type SigningKey struct {
	Org       tenant.OrgID
	ID        string // sorts by age
	Public    []byte
	Sealed    []byte // the private half, in an envelope
	CreatedAt time.Time
	RetiresAt time.Time // zero: it is not replaced
}
