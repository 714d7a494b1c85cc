// Package tenant says what an organization and a formation are: their names,
// quotas and states. It does no I/O; shared/store keeps what is described here.
package tenant

import (
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// OrgID names an organization. It becomes a NATS subject token and a path
// segment, so it may hold nothing that either would read as structure.
type OrgID string

// AppID names a formation within its organization, under the same rules.
type AppID string

// MaxIDBytes is the longest identifier, in bytes.
const MaxIDBytes = 128

// reserved is the name the mesh's control subjects use for "the organization itself".
const reserved = "_org"

// ParseOrgID returns s as an OrgID, or a fault.Invalid that says which rule it breaks.
func ParseOrgID(s string) (OrgID, error) {
	return OrgID(s), check("org_id", s)
}

// ParseAppID returns s as an AppID, or a fault.Invalid that says which rule it breaks.
func ParseAppID(s string) (AppID, error) {
	return AppID(s), check("app_id", s)
}

// check applies the rules in the order in which the mesh applies them, since
// clients of both sides compare messages.
func check(field, s string) error {
	switch {
	case s == "":
		return invalid(field, "must not be empty")
	case len(s) > MaxIDBytes:
		return invalid(field, "is longer than 128 bytes")
	case s == reserved:
		return invalid(field, "'_org' is reserved by the gateway and cannot be used")
	case !isAlphanumeric(s[0]):
		return invalid(field, "must start with an alphanumeric character")
	}
	for i := 1; i < len(s); i++ {
		if !isAlphanumeric(s[i]) && s[i] != '-' && s[i] != '_' {
			return invalid(field, "contains invalid characters (allowed: a-zA-Z0-9_-)")
		}
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func invalid(field, detail string) error {
	return &fault.Error{
		Kind:    fault.Invalid,
		Message: strings.Join([]string{field, detail}, " "),
		Fields:  []fault.Field{{Pointer: "/" + field, Detail: detail}},
	}
}
