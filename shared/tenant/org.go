package tenant

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Org is an organization: the boundary nothing crosses.
type Org struct {
	ID          OrgID
	DisplayName string
	Quotas      Quotas
	CreatedAt   time.Time
	Revision    uint64 // grows with every change of name or quotas
}

// Quotas bound what one organization may hold and do. Zero allows none, but for
// the two that say otherwise. docs/tenancy.md says where each is enforced.
type Quotas struct {
	MaxFormations            int `json:"max_formations"`
	MaxPeersPerFormation     int `json:"max_peers_per_formation"` // sync sessions at once; and, apart, nodes with a valid certificate
	MaxDocumentsPerFormation int `json:"max_documents_per_formation"`
	MaxCDCSinks              int `json:"max_cdc_sinks"`
	MaxTokens                int `json:"max_tokens"` // service and enrollment tokens that can still be used, together
	MaxEnrollmentsPerHour    int `json:"max_enrollments_per_hour"`
	MaxBytesStored           int `json:"max_bytes_stored"`         // of all logs, changes and patches; 0: no limit
	MaxCDCBytesPerSecond     int `json:"max_cdc_bytes_per_second"` // that leave, all sinks together; 0: no limit
}

// The names of the quotas, as they are written in JSON and in refusals.
const (
	MaxFormations            = "max_formations"
	MaxPeersPerFormation     = "max_peers_per_formation"
	MaxDocumentsPerFormation = "max_documents_per_formation"
	MaxCDCSinks              = "max_cdc_sinks"
	MaxTokens                = "max_tokens"
	MaxEnrollmentsPerHour    = "max_enrollments_per_hour"
	MaxBytesStored           = "max_bytes_stored"
	MaxCDCBytesPerSecond     = "max_cdc_bytes_per_second"
)

// Exceeded is the refusal of what would go over a quota.
func Exceeded(name string, value int) error {
	return &fault.Error{
		Kind:    fault.Exhausted,
		Message: fmt.Sprintf("the organization's quota %s is %d", name, value),
		Limit:   &fault.Limit{Name: name, Value: value},
	}
}

// DefaultQuotas are what an organization gets that asks for nothing else.
func DefaultQuotas() Quotas {
	return Quotas{
		MaxFormations:            10,
		MaxPeersPerFormation:     100,
		MaxDocumentsPerFormation: 10_000,
		MaxCDCSinks:              20,
		MaxTokens:                100,
		MaxEnrollmentsPerHour:    1_000,
	}
}

// Bounds of quotas: sums stay far from overflow, also in a client that keeps
// numbers in 32 bits, or bytes in a double.
const (
	maxQuota = 1_000_000_000
	maxBytes = 1 << 50
)

// Validate reports the first quota that is out of range.
func (q Quotas) Validate() error {
	for _, f := range []struct {
		name    string
		n, most int
	}{
		{MaxFormations, q.MaxFormations, maxQuota},
		{MaxPeersPerFormation, q.MaxPeersPerFormation, maxQuota},
		{MaxDocumentsPerFormation, q.MaxDocumentsPerFormation, maxQuota},
		{MaxCDCSinks, q.MaxCDCSinks, maxQuota},
		{MaxTokens, q.MaxTokens, maxQuota},
		{MaxEnrollmentsPerHour, q.MaxEnrollmentsPerHour, maxQuota},
		{MaxBytesStored, q.MaxBytesStored, maxBytes},
		{MaxCDCBytesPerSecond, q.MaxCDCBytesPerSecond, maxQuota},
	} {
		if f.n < 0 || f.n > f.most {
			return invalid("quotas/"+f.name, fmt.Sprintf("must be between 0 and %d", f.most))
		}
	}
	return nil
}

// MaxDisplayNameBytes is the longest display name, in bytes.
const MaxDisplayNameBytes = 1024

// ParseDisplayName returns s if it can be shown as an organization's name.
func ParseDisplayName(s string) (string, error) {
	switch {
	case s == "":
		return "", invalid("display_name", "must not be empty")
	case len(s) > MaxDisplayNameBytes:
		return "", invalid("display_name", "is longer than 1024 bytes")
	case !utf8.ValidString(s):
		return "", invalid("display_name", "is not valid UTF-8")
	}
	for _, r := range s {
		// Postgres cannot keep NUL, and no control character belongs in a name.
		if r < 0x20 || r == 0x7f {
			return "", invalid("display_name", "must not hold control characters")
		}
	}
	return s, nil
}
