package tenant

import (
	"time"
	"unicode/utf8"
)

// Org is an organization: the boundary nothing crosses.
type Org struct {
	ID          OrgID
	DisplayName string
	Quotas      Quotas
	CreatedAt   time.Time
}

// Quotas bound what one organization may hold and do. All are counts.
type Quotas struct {
	MaxFormations            int `json:"max_formations"`
	MaxPeersPerFormation     int `json:"max_peers_per_formation"`
	MaxDocumentsPerFormation int `json:"max_documents_per_formation"`
	MaxCDCSinks              int `json:"max_cdc_sinks"`
	MaxEnrollmentsPerHour    int `json:"max_enrollments_per_hour"`
	MaxCDCBytesPerSecond     int `json:"max_cdc_bytes_per_second"` // that leave, all sinks together; 0: no limit
}

// DefaultQuotas are what an organization gets that asks for nothing else.
func DefaultQuotas() Quotas {
	return Quotas{
		MaxFormations:            10,
		MaxPeersPerFormation:     100,
		MaxDocumentsPerFormation: 10_000,
		MaxCDCSinks:              20,
		MaxEnrollmentsPerHour:    1_000,
	}
}

// maxQuota keeps sums of quotas far from overflow, also in a 32-bit client.
const maxQuota = 1_000_000_000

// Validate reports the first quota that is out of range.
func (q Quotas) Validate() error {
	for name, n := range map[string]int{
		"max_formations":              q.MaxFormations,
		"max_peers_per_formation":     q.MaxPeersPerFormation,
		"max_documents_per_formation": q.MaxDocumentsPerFormation,
		"max_cdc_sinks":               q.MaxCDCSinks,
		"max_enrollments_per_hour":    q.MaxEnrollmentsPerHour,
		"max_cdc_bytes_per_second":    q.MaxCDCBytesPerSecond,
	} {
		if n < 0 || n > maxQuota {
			return invalid("quotas/"+name, "must be between 0 and 1000000000")
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
