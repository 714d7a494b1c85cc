package enrollment

import (
	"fmt"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Grant is what a certificate gives to the node that it is for.
type Grant struct {
	Tier        cert.Tier
	Permissions cert.Permission
}

// permissions are by the names that the API has for them, in the order in which
// they are shown.
var permissions = []struct {
	name string
	bit  cert.Permission
}{{"relay", cert.Relay}, {"emergency", cert.Emergency}, {"enroll", cert.Enroll}, {"admin", cert.Admin}}

// ParseGrant reads a grant by the names of the API. Without a tier it is the
// lowest, and without permissions (nil) the standard ones.
func ParseGrant(tier string, names []string) (Grant, []fault.Field) {
	g := Grant{Tier: cert.Edge, Permissions: cert.Standard}
	var wrong []fault.Field
	if tier != "" {
		found := false
		for t := cert.Enterprise; t.Valid(); t++ {
			if TierName(t) == tier {
				g.Tier, found = t, true
			}
		}
		if !found {
			wrong = append(wrong, fault.Field{Pointer: "/tier", Detail: "must be enterprise, regional, tactical or edge"})
		}
	}
	if names == nil {
		return g, wrong
	}
	g.Permissions = cert.NoPermission
	for i, name := range names {
		known := false
		for _, p := range permissions {
			if p.name == name {
				g.Permissions, known = g.Permissions|p.bit, true
			}
		}
		if !known {
			wrong = append(wrong, fault.Field{Pointer: fmt.Sprintf("/permissions/%d", i), Detail: "must be relay, emergency, enroll or admin"})
		}
	}
	return g, wrong
}

// TierName is the name that the API has for a tier.
func TierName(t cert.Tier) string { return strings.ToLower(t.String()) }

// PermissionNames are the names that the API has for permissions.
func PermissionNames(p cert.Permission) []string {
	out := []string{}
	for _, known := range permissions {
		if p.Has(known.bit) {
			out = append(out, known.name)
		}
	}
	return out
}
