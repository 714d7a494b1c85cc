// Package access says who calls the administration API and what they may do. An
// organization that a caller has nothing to do with does not exist for them: the
// answer is the one for an organization that was never made.
//
//	access.go  who calls, and the one token from the environment
//	role.go    what a caller may do
package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Principal is a caller whose credential was checked.
type Principal struct {
	Name    string // as the audit trail names them
	Gateway bool   // gateway-admin: everything, in every organization
	Orgs    map[tenant.OrgID]web.Role
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

// Bootstrap lets in whoever has the one token that the operator set, to do
// everything.
type Bootstrap struct {
	digest [sha256.Size]byte
	set    bool
}

// NewBootstrap returns the guard of a token. The empty token lets nobody in.
func NewBootstrap(token string) Bootstrap {
	return Bootstrap{digest: sha256.Sum256([]byte(token)), set: token != ""}
}

// Authorize checks the request's bearer token. Whoever has it is gateway-admin.
func (b Bootstrap) Authorize(r *http.Request, need web.Role) (context.Context, error) {
	shown := r.Header.Values("Authorization")
	if len(shown) > 1 {
		// What stands before us may have believed the other one.
		return nil, fault.Unauthenticated.New("there is more than one Authorization header")
	}
	scheme, token, _ := strings.Cut(strings.Join(shown, ""), " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, fault.Unauthenticated.New("a bearer token is needed")
	}
	// Digests have one length, so the comparison tells nothing about the token's.
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if !b.set || subtle.ConstantTimeCompare(got[:], b.digest[:]) != 1 {
		return nil, fault.Unauthenticated.New("the bearer token is not known")
	}
	return Principal{Name: "bootstrap-admin", Gateway: true}.enter(r, need)
}
