package access

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// personPrefix is what the names of people begin with, so that nobody's subject can
// make them look like a service token or the administrator.
const personPrefix = "person:"

// PersonName is how the audit trail names who has the subject.
func PersonName(subject string) string { return personPrefix + subject }

// Person is who somebody is at the gateway's identity provider.
type Person struct {
	Subject string
	Label   string // their name, to show
}

// People knows persons: by a token of their identity provider, or by a login.
type People struct {
	Verifier identity.Verifier // of bearer tokens
	Mapping  Mapping
	Sessions *Sessions // nil: nobody logs in here
	Log      *slog.Logger
	Now      func() time.Time
}

// errRefused is all that is said of a token that does not let in.
var errRefused = fault.Unauthenticated.New("the bearer token is not accepted")

// bearer returns who has a token.
func (p *People) bearer(ctx context.Context, text string) (Principal, error) {
	c, err := p.Verifier.Verify(ctx, identity.Proof{Token: text}, p.Now())
	if errors.Is(err, fault.Unavailable) {
		return Principal{}, fault.Unavailable.Wrap(err, "the bearer token cannot be checked now")
	}
	if err != nil {
		p.Log.DebugContext(ctx, "a bearer token is refused", "err", err)
		return Principal{}, errRefused
	}
	who, err := p.Mapping.Principal(c)
	if err != nil {
		return Principal{}, errRefused
	}
	return who, nil
}

// session returns who is logged in; some is false for a request without a cookie of
// a session.
func (p *People) session(r *http.Request) (who Principal, some bool, err error) {
	if p == nil || p.Sessions == nil || !box.Sent(r) {
		return Principal{}, false, nil
	}
	s, err := p.Sessions.Check(r)
	if err == nil {
		err = p.Sessions.Guard(r, s)
	}
	return s.principal(), true, err
}

// isJWT tells a JWT from other texts by its form.
func isJWT(text string) bool { return strings.Count(text, ".") == 2 }
