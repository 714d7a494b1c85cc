// Package identity says who somebody is, in one shape whatever vouched for them.
// An organization has identity providers; each is of a kind, and each kind is a
// package below with its configuration and its verifier. identitytest holds what
// every verifier must refuse.
//
// A verifier establishes who somebody is and how strongly, and no more. What they
// are given is decided by package policy, and signed elsewhere.
//
//	identity.go   claims, proofs and what a verifier promises
//	provider.go   an organization's provider, as it is kept
package identity

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Claims is what a provider says of somebody. Its lists are sorted and without
// repeats, its times UTC; what a provider does not say is the zero value.
type Claims struct {
	Provider string // the id of the provider in its organization
	Kind     Kind
	Issuer   string // who vouches: the OIDC issuer, the SAML entity, the CA's name
	Subject  string // stable within the issuer; never empty

	Groups, Roles []string
	// Attributes is everything else, by name, as JSON values. Verifiers bound it
	// (MaxAttributesBytes) and leave out what no policy may depend on, such as nonces.
	Attributes map[string]any

	ACR             string   // authentication context, as the provider names it
	AMR             []string // authentication methods, such as "mfa", "hwk", "x509"
	AuthenticatedAt time.Time

	// ExpiresAt is the end of the identity's session: nothing that is decided on these
	// claims outlives it unless a provider's refresh says so.
	ExpiresAt time.Time
	Session   string // the provider's session, by which a log-out names it
	ID        string // of the proof: a jti or an assertion's id; empty if it has none
	// Once says that the proof with this ID may be used once only. Whoever acts on the
	// claims sees to that, in the transaction of the act.
	Once bool
	// Grace is zero unless the provider did not answer when its keys or lists were to be
	// looked at anew. Then it is the time until which the last answer is believed.
	Grace time.Time
}

// MaxAttributesBytes bounds Attributes as JSON.
const MaxAttributesBytes = 16 << 10

// MaxTokenBytes bounds a token that is looked at.
const MaxTokenBytes = 16 << 10

// Proof is what somebody shows. One of Token, SAML and Chain is set.
type Proof struct {
	Token string              // a JWT or an opaque access token
	SAML  []byte              // a SAML response, as XML
	Chain []*x509.Certificate // a client certificate whose key the TLS handshake proved, its leaf first

	// Provider is the id of the provider that the proof is said to be from; empty: the
	// proof itself tells, or every provider that could be meant is asked.
	Provider string

	// Expect is what the proof must be bound to besides the provider's own settings.
	Expect Expect
}

// Expect narrows which proofs are accepted. Empty fields ask for nothing.
type Expect struct {
	Nonce        string   // OIDC: the nonce of the login that this answers
	Audiences    []string // OIDC: instead of the provider's own
	InResponseTo []string // SAML: the requests that may be answered; empty: unsolicited, if the provider allows it
}

// Verifier checks the proofs of one provider. It is used by many at once.
//
// Verify returns a fault: Unauthenticated if the proof is not good, with why in
// words that an administrator may see and that hold nothing of the proof;
// Unavailable if that could not be found out now. It tells apart no more than that
// to whoever is outside: callers answer with Refused.
type Verifier interface {
	Verify(ctx context.Context, p Proof, now time.Time) (Claims, error)
	// Check tries what the provider depends on (discovery, keys, sign-in) and says
	// what it found. It changes nothing.
	Check(ctx context.Context) (Report, error)
	Close() error
}

// Report is what a provider's check found, in words for an administrator.
type Report struct {
	OK       bool
	Findings []Finding
}

// Finding is one thing that was looked at.
type Finding struct {
	Name   string // such as "discovery", "keys", "clock"
	OK     bool
	Detail string
}

// Refused is all that somebody outside is told about a proof that is not good. Why
// is for the audit trail.
func Refused(why error) error {
	return fault.Unauthenticated.Wrap(why, "the proof of identity is not accepted")
}

// Key names a provider: its organization and its id there.
type Key struct {
	Org tenant.OrgID
	ID  string
}
