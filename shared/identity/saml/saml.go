// Package saml verifies SAML 2.0 responses of an organization's identity provider,
// and is the service provider that the identity provider knows.
//
// A response is XML, and attacks on it live on two readers that understand one
// document in two ways: one that verifies and one that believes. So there is one
// order here, and each step works on what the step before left:
//
//  1. xml.go        a document that could be understood in two ways is refused
//  2. response.go   one assertion, in its place, and no signature in any other
//  3. signature.go  signed by a key of the metadata, in the one form that is accepted
//  4. decrypt.go    an encrypted assertion is decrypted, and goes through 1 to 3 itself
//  5. assertion.go  the signed bytes are read anew; nothing else ever is
//  6. claims.go     for us, now, and an answer to what was asked; then the claims
//
// The assertion must be signed itself. That the response is signed around it is
// welcome and not enough.
//
// Beside that:
//
//	tree.go       reading a tree by namespaces and not by prefixes
//	config.go     an administrator's choices, and the keys that we make
//	metadata.go   what is read of an identity provider's metadata
//	source.go     where that comes from, and how old it may be
//	provider.go   our own metadata, and requests to sign in
//
// samltest is an identity provider for tests.
package saml

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Verifier is an identity provider that speaks SAML, and we as its service provider.
type Verifier struct {
	provider string // its id in the organization
	config   Config
	skew     time.Duration
	session  time.Duration // at most so long is somebody vouched for by one assertion
	keys     []*rsa.PrivateKey
	endpoints
	source *source
	now    func() time.Time
}

// Open makes a verifier ready; see identity.Open.
func Open(o identity.Opening) (identity.Verifier, error) { return New(o) }

// New is Open for those who need the service provider too.
func New(o identity.Opening) (*Verifier, error) {
	config, at, err := read(o)
	if err != nil {
		return nil, err
	}
	v := &Verifier{provider: o.Provider.ID, config: config, endpoints: at, now: o.Now}
	if v.keys, err = privateKeys(o.Secrets); err != nil {
		return nil, err
	}
	if v.skew, err = readDuration(config.ClockSkew, defaultSkew, 0, maxSkew); err != nil {
		return nil, errUnreadable
	}
	if v.session, err = readDuration(config.MaxSession, sessionLife, time.Minute, longest); err != nil {
		return nil, errUnreadable
	}
	if v.source, err = newSource(config, o.Settings); err != nil {
		return nil, err
	}
	return v, nil
}

// Verify checks a SAML response; see identity.Verifier.
func (v *Verifier) Verify(ctx context.Context, p identity.Proof, now time.Time) (identity.Claims, error) {
	if len(p.SAML) == 0 {
		return identity.Claims{}, fault.Unauthenticated.New("the proof is no SAML response")
	}
	m, grace, err := v.source.get(ctx, now)
	if err != nil {
		return identity.Claims{}, err
	}
	claims, err := v.verify(p, m, now)
	if errors.Is(err, errNotSigned) {
		// Its keys may have changed since.
		if newer, ok := v.source.newer(ctx, m, now); ok {
			claims, err = v.verify(p, newer, now)
		}
	}
	if err != nil {
		return identity.Claims{}, fault.Unauthenticated.New("%s", err)
	}
	claims.Grace = grace
	return claims, nil
}

func (v *Verifier) verify(p identity.Proof, m *Metadata, now time.Time) (identity.Claims, error) {
	around, signed, err := v.open(p.SAML, m, now)
	if err != nil {
		return identity.Claims{}, err
	}
	a, err := readAssertion(signed)
	if err != nil {
		return identity.Claims{}, fmt.Errorf("the assertion %w", err)
	}
	if err := v.check(around, a, m, p.Expect, now); err != nil {
		return identity.Claims{}, err
	}
	return v.claims(a, now)
}

// Check fetches the metadata, if it is to be fetched, and looks at it.
func (v *Verifier) Check(ctx context.Context) (identity.Report, error) {
	now := v.now()
	report := identity.Report{OK: true}
	find := func(name string, ok bool, detail string) {
		report.OK = report.OK && ok
		report.Findings = append(report.Findings, identity.Finding{Name: name, OK: ok, Detail: detail})
	}
	m, err := v.source.fetch(ctx)
	if err != nil {
		find("metadata", false, describe(err))
		return report, nil
	}
	find("metadata", m.good(now), "of "+m.EntityID+validity(m, now))
	if v.source.client != nil {
		ahead := v.source.client.Ahead()
		find("clock", ahead.Abs() <= v.skew, fmt.Sprintf("its server's clock is %s ahead of ours, to about a second", ahead))
	}
	good, soon := 0, ""
	for _, cert := range m.Signing {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			continue
		}
		good++
		if cert.NotAfter.Sub(now) < expiresSoon {
			soon = "; one ends on " + cert.NotAfter.UTC().Format(time.DateOnly)
		}
	}
	find("keys", good > 0, fmt.Sprintf("%d of %d certificates for signatures are good now%s", good, len(m.Signing), soon))
	if m.Redirect == "" {
		find("sign-in", v.config.Unsolicited, "the metadata names no place to send requests to by redirection")
	} else {
		find("sign-in", true, "requests go to "+strings.SplitN(m.Redirect, "?", 2)[0])
	}
	return report, nil
}

// expiresSoon is how long before its end a certificate is worth a word.
const expiresSoon = 14 * 24 * time.Hour

func validity(m *Metadata, now time.Time) string {
	switch {
	case m.ValidUntil.IsZero():
		return ""
	case !m.good(now):
		return ", not valid since " + m.ValidUntil.Format(time.RFC3339)
	default:
		return ", valid until " + m.ValidUntil.Format(time.RFC3339)
	}
}

// describe is an error in words for an administrator.
func describe(err error) string {
	if f := fault.Of(err); f != nil {
		return f.Message
	}
	return "it cannot be read"
}

// Close lets connections go.
func (v *Verifier) Close() error {
	v.source.close()
	return nil
}
