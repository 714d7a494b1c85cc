// Package providers finds the identity provider that a proof is from, and has its
// verifier look at it. It is where all kinds come together.
//
//	providers.go  what it is made of; a proof, verified
//	kinds.go      the table of kinds
//	route.go      which providers a proof may be from
//	directory.go  an organization's providers, believed for a short time
//	open.go       verifiers, kept open between proofs
//
// What is not here: what a proof must be (a package for each kind), what follows
// from its claims (shared/policy), and how providers are administered
// (functions/federation).
package providers

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oidc"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// directory is the part of the store that this needs.
type directory interface {
	Providers(ctx context.Context, org tenant.OrgID) ([]identity.Provider, error)
}

// Deps is everything that verification needs.
type Deps struct {
	Store directory
	// Unseal opens a provider's secrets. It is asked only where there are any.
	Unseal func(ctx context.Context, p identity.Provider) ([]byte, error)
	Memory oidc.Memory // of keys beyond this process; nil: none
	Log    *slog.Logger
	identity.Settings
	// SecretsFor is how long a verifier uses secrets that were opened without asking
	// the organization's key again; default: a minute.
	SecretsFor time.Duration
}

// Providers verifies proofs for all organizations. It is safe for concurrent use.
type Providers struct {
	Deps
	kinds map[identity.Kind]kind
	known known
	kept  kept
}

// New returns one that has opened nothing yet.
func New(d Deps) *Providers { return newWith(d, newKinds(d.Memory)) }

func newWith(d Deps, kinds map[identity.Kind]kind) *Providers {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.SecretsFor == 0 {
		d.SecretsFor = time.Minute
	}
	return &Providers{Deps: d, kinds: kinds, known: newKnown(), kept: newKept()}
}

// Verify says who shows a proof to an organization, and which of its providers
// vouches. The provider is also returned with an error if it is known whose proof it
// would be; a proof that nobody can be found for is fault.Unauthenticated.
//
// The errors are for the audit trail. Whoever is outside is told identity.Refused.
func (p *Providers) Verify(ctx context.Context, org tenant.OrgID, proof identity.Proof, now time.Time) (identity.Claims, identity.Provider, error) {
	from, err := p.route(ctx, org, proof)
	if err != nil {
		return identity.Claims{}, identity.Provider{}, err
	}
	var asked identity.Provider
	var failed []error
	for _, one := range from {
		claims, err := p.verifyWith(ctx, one, proof, now)
		if err == nil {
			return claims, one, nil
		}
		if ctx.Err() != nil {
			return identity.Claims{}, one, err
		}
		asked, failed = one, append(failed, err)
	}
	if len(from) > 1 {
		asked = identity.Provider{} // it could have been any of them
	}
	return identity.Claims{}, asked, worst(failed)
}

// worst is what is said of a proof that no provider takes: that this could not be
// found out, if one of them could not.
func worst(failed []error) error {
	for _, err := range failed {
		if !errors.Is(err, fault.Unauthenticated) {
			return err
		}
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return fault.Unauthenticated.Wrap(errors.Join(failed...), "none of %d identity providers takes it", len(failed))
}

func (p *Providers) verifyWith(ctx context.Context, one identity.Provider, proof identity.Proof, now time.Time) (identity.Claims, error) {
	v, done, err := p.use(ctx, one)
	if err != nil {
		return identity.Claims{}, err
	}
	defer done()
	claims, err := v.Verify(ctx, proof, now)
	if err != nil {
		return identity.Claims{}, err
	}
	// What decides later must be able to believe this, whatever a verifier does.
	if claims.Subject == "" || !claims.ExpiresAt.After(now) {
		return identity.Claims{}, fault.Unauthenticated.New("the proof names no subject or has no time left")
	}
	claims.Provider, claims.Kind = one.ID, one.Kind
	return claims, nil
}

// Use lends a provider's open verifier, for what its kind can do beside verifying. It
// is fn's until fn returns.
func (p *Providers) Use(ctx context.Context, one identity.Provider, fn func(identity.Verifier) error) error {
	v, done, err := p.use(ctx, one)
	if err != nil {
		return err
	}
	defer done()
	if o, ok := v.(*opened); ok {
		v = o.Verifier
	}
	return fn(v)
}

// Parse checks a configuration; see identity.Parse.
func (p *Providers) Parse(k identity.Kind, in json.RawMessage, prior []byte) (identity.Config, error) {
	kind, ok := p.kinds[k]
	if !ok {
		return identity.Config{}, identity.Invalid("kind", "must be "+p.kindNames())
	}
	return kind.parse(in, prior, p.Settings)
}

// Rotate replaces what the gateway itself has made for a provider, such as the key
// that it signs requests with. fault.Conflict if the kind has nothing like that.
func (p *Providers) Rotate(one identity.Provider, prior []byte) (identity.Config, error) {
	kind := p.kinds[one.Kind]
	if kind.rotate == nil {
		return identity.Config{}, fault.Conflict.New("the gateway has made no secret for a provider of kind %s; change its configuration instead", one.Kind)
	}
	return kind.rotate(one.Config, prior, p.Settings)
}

// Check opens a provider for this once, enabled or not, and has it look at what it
// depends on.
func (p *Providers) Check(ctx context.Context, one identity.Provider) (identity.Report, error) {
	v, err := p.open(ctx, one)
	if err != nil {
		return identity.Report{}, err
	}
	defer func() { _ = v.Close() }()
	return v.Check(ctx)
}

// Opening is what a verifier of the provider would be made of, for those who need
// other things of its kind. The caller wipes its Secrets.
func (p *Providers) Opening(ctx context.Context, one identity.Provider) (identity.Opening, error) {
	o := identity.Opening{Provider: one, Settings: p.Settings}
	if one.Sealed == nil {
		return o, nil
	}
	var err error
	o.Secrets, err = p.Unseal(ctx, one)
	return o, err
}

// Close lets go of every verifier. It waits for nobody who uses one.
func (p *Providers) Close() error {
	p.kept.close()
	return nil
}
