package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

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
	return Gate{Bootstrap: b}.Authorize(r, need)
}

// is tells whether the text is the token.
func (b Bootstrap) is(text string) bool {
	// Digests have one length, so the comparison tells nothing about the token's.
	got := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(got[:], b.digest[:]) == 1 && b.set
}

// Gate lets in whoever has the bootstrap token, a service token, a token of the
// gateway's identity provider, or a login.
type Gate struct {
	Bootstrap Bootstrap
	Services  *Checker // nil: there are no service tokens here
	People    *People  // nil: people are not known here
}

// Authorize finds out who makes the request and whether they may. A request that has
// a token is not made in a session, whatever cookies come with it.
func (g Gate) Authorize(r *http.Request, need web.Role) (context.Context, error) {
	if len(r.Header.Values("Authorization")) == 0 {
		if p, some, err := g.People.session(r); err != nil {
			return nil, err
		} else if some {
			return p.enter(r, need)
		}
	}
	text, err := bearer(r)
	if err != nil {
		return nil, err
	}
	if g.Bootstrap.is(text) {
		return Principal{Name: "bootstrap-admin", Gateway: true}.enter(r, need)
	}
	if isJWT(text) && g.People != nil {
		p, err := g.People.bearer(r.Context(), text)
		if err != nil {
			return nil, err
		}
		return p.enter(r, need)
	}
	if !ServiceKind.Is(text) {
		return nil, errUnknown
	}
	if g.Services == nil {
		return nil, fault.Unavailable.New("service tokens are not set up here")
	}
	t, err := g.Services.Check(r.Context(), text)
	if err != nil {
		return nil, err
	}
	return t.principal().enter(r, need)
}

// Keep answers by next, and keeps sessions going that are in use.
func (g Gate) Keep(next http.Handler) http.Handler {
	if g.People == nil || g.People.Sessions == nil {
		return next
	}
	return g.People.Sessions.Keep(next)
}

// bearer returns the token of a request.
func bearer(r *http.Request) (string, error) {
	shown := r.Header.Values("Authorization")
	if len(shown) > 1 {
		// What stands before us may have believed the other one.
		return "", fault.Unauthenticated.New("there is more than one Authorization header")
	}
	scheme, token, _ := strings.Cut(strings.Join(shown, ""), " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", fault.Unauthenticated.New("a bearer token is needed")
	}
	return strings.TrimSpace(token), nil
}
