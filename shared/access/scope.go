package access

import (
	"slices"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Scope is one part of the API, to look at or to change: an area and ":read" or
// ":write". Who may change may look.
type Scope string

// area is a part of the API that a token can be kept to.
type area string

// The areas. Service tokens are in none: a token that is kept to a part of the API
// cannot make itself another. Nor is the organization's key, on which all depends.
const (
	organization area = "org"
	formations   area = "formations"
	documents    area = "documents"
	sinks        area = "sinks"
	tickets      area = "tickets"
	enrollment   area = "enrollment"
	policies     area = "policy"
	providers    area = "identity-providers"
	certificates area = "certificates"
	audit        area = "audit"
	unscoped     area = ""
)

// areas says which area a path is in: the longest of these that it begins with
// decides. A path that is only below the first two of their lines is in none, so
// that what is added to the API is closed to tokens with scopes until it is here.
var areas = []struct {
	path  string
	area  area
	whole bool // the path itself, and nothing below
}{
	{"/orgs/{org}", organization, true},
	{"/orgs/{org}/formations/{app}", formations, true},
	{"/orgs/{org}/formations", formations, true},
	{"/orgs/{org}/formations/{app}/suspend", formations, false},
	{"/orgs/{org}/formations/{app}/resume", formations, false},
	{"/orgs/{org}/destructions", formations, false},
	{"/orgs/{org}/formations/{app}/cdc", documents, false},
	{"/orgs/{org}/formations/{app}/cdc/sinks", sinks, false},
	{"/orgs/{org}/cdc", sinks, false},
	{"/orgs/{org}/formations/{app}/sync-tickets", tickets, false},
	{"/orgs/{org}/formations/{app}/enrollment", enrollment, false},
	{"/orgs/{org}/formations/{app}/enroll", enrollment, false},
	{"/orgs/{org}/formations/{app}/enrollments", enrollment, false},
	{"/orgs/{org}/identity", enrollment, false},
	{"/orgs/{org}/policy", policies, false},
	{"/orgs/{org}/formations/{app}/policy", policies, false},
	{"/orgs/{org}/formations/{app}/certificates", certificates, false},
	{"/orgs/{org}/formations/{app}/revocations", certificates, false},
	{"/orgs/{org}/formations/{app}/authority", certificates, false},
	{"/orgs/{org}/identity-providers", providers, false},
	{"/orgs/{org}/audit", audit, false},
	{"/orgs/{org}/tokens", unscoped, false},
	{"/orgs/{org}/key", unscoped, false},
}

// readOnly are areas in which nothing needs the role org-admin.
var readOnly = []area{organization, audit}

// Scopes lists every scope there is.
func Scopes() []Scope {
	var out []Scope
	for _, a := range areas {
		if a.area == unscoped {
			continue
		}
		out = append(out, Scope(a.area+":read"))
		if !slices.Contains(readOnly, a.area) {
			out = append(out, Scope(a.area+":write"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ScopeOf is the scope that a route needs of a token with scopes: who may take it
// as a viewer only looks. Known is false for a route that has no line among the
// areas; then, and where the scope is empty, no token with scopes may take it.
func ScopeOf(pattern string, need web.Role) (s Scope, known bool) {
	_, path, ok := strings.Cut(pattern, " ")
	if !ok {
		path = pattern
	}
	best := -1
	for i, a := range areas {
		under := path == a.path || !a.whole && strings.HasPrefix(path, a.path+"/")
		if under && (best < 0 || len(a.path) > len(areas[best].path)) {
			best = i
		}
	}
	if best < 0 {
		return "", false
	}
	switch a := areas[best].area; {
	case a == unscoped || need == web.GatewayAdmin:
		return "", true
	case need == web.Viewer:
		return Scope(a + ":read"), true
	default:
		return Scope(a + ":write"), true
	}
}

// includes tells whether s is enough for what needs the other.
func (s Scope) includes(needed Scope) bool {
	if s == needed {
		return true
	}
	what, isRead := strings.CutSuffix(string(needed), ":read")
	return isRead && string(s) == what+":write"
}

// allows returns nil if the token's limits let it take a route. That its role
// does is known.
func (t *ServiceToken) allows(pattern string, need web.Role, app tenant.AppID) error {
	if app == "" && !t.EveryFormation() {
		return fault.Forbidden.New("this token is kept to formations, and this is of the whole organization")
	}
	if len(t.Scopes) == 0 {
		return nil
	}
	needed, _ := ScopeOf(pattern, need)
	if needed == "" {
		return fault.Forbidden.New("no token with scopes may do this")
	}
	if !slices.ContainsFunc(t.Scopes, func(s Scope) bool { return s.includes(needed) }) {
		return fault.Forbidden.New("this needs the scope %s", needed)
	}
	return nil
}
