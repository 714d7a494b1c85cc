// Package access says who calls the administration API and what they may do. An
// organization that a caller has nothing to do with does not exist for them: the
// answer is the one for an organization that was never made. So it is with a
// formation that a service token is not for.
//
//	access.go   who calls
//	role.go     what a caller may do
//	scope.go    parts of the API, and how a token is kept to some of them
//	service.go  service tokens: what they may be
//	gate.go     from a request to its caller; the one token from the environment
//	people.go   persons, whom the gateway's identity provider vouches for
//	mapping.go  from what it says of them to what they may do
//	session.go  logins, as browsers carry them
//	checker.go  from a service token's text to what it allows, without asking the store each time
//	recent.go   what was asked lately, bounded
package access

import (
	"context"

	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Principal is a caller whose credential was checked.
type Principal struct {
	Name    string // as the audit trail names them
	Gateway bool   // gateway-admin: everything, in every organization
	Orgs    map[tenant.OrgID]web.Role

	// Token is the service token that they call by, which may narrow what the role
	// allows; nil for everybody else.
	Token *ServiceToken

	// Person is who calls, if it is a person; nil for programs.
	Person *Person
}

type contextKey struct{}

// With returns a context that carries the caller.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the caller; one who showed no credential is anonymous.
func FromContext(ctx context.Context) Principal {
	if p, ok := ctx.Value(contextKey{}).(Principal); ok {
		return p
	}
	return Principal{Name: "anonymous"}
}

// NameOf is the name of the caller.
func NameOf(ctx context.Context) string { return FromContext(ctx).Name }
