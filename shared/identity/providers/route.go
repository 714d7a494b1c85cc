package providers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// maxAsked is how many providers may be asked about one proof that does not say whose
// it is: each may cost a request.
const maxAsked = 8

// route returns the providers that a proof may be from: those of its kind that it
// names, or all of its kind if it cannot name any.
func (p *Providers) route(ctx context.Context, org tenant.OrgID, proof identity.Proof) ([]identity.Provider, error) {
	kinds, err := kindsOf(proof)
	if err != nil {
		return nil, err
	}
	issuer, err := p.issuerOf(kinds, proof)
	if err != nil {
		return nil, err
	}
	meant := func(all []identity.Provider) (out []identity.Provider) {
		for _, one := range all {
			if one.Enabled && fits(one, kinds, issuer, proof.Provider) {
				out = append(out, one)
			}
		}
		return out
	}
	all, fresh, err := p.providersOf(ctx, org, false)
	if err != nil {
		return nil, err
	}
	out := meant(all)
	if len(out) == 0 && !fresh { // it may have been added meanwhile
		if all, _, err = p.providersOf(ctx, org, true); err != nil {
			return nil, err
		}
		out = meant(all)
	}
	switch {
	case len(out) == 0 && issuer != "":
		return nil, fault.Unauthenticated.New("no enabled identity provider of the organization has the proof's issuer, %s", identity.Shown(issuer))
	case len(out) == 0:
		return nil, fault.Unauthenticated.New("the organization has no enabled identity provider for such a proof")
	case len(out) > maxAsked:
		return nil, fault.Unauthenticated.New("the proof does not say whose it is, and %d identity providers could be meant: it must name one", len(out))
	}
	return out, nil
}

// kindsOf are the kinds that a proof may be of.
func kindsOf(p identity.Proof) ([]identity.Kind, error) {
	var kinds []identity.Kind
	n := 0
	if p.Token != "" {
		n, kinds = n+1, []identity.Kind{identity.OIDC, identity.Introspection}
	}
	if len(p.SAML) > 0 {
		n, kinds = n+1, []identity.Kind{identity.SAML}
	}
	if len(p.Chain) > 0 {
		n, kinds = n+1, []identity.Kind{identity.MTLS}
	}
	switch {
	case n != 1:
		return nil, fault.Unauthenticated.New("a proof is one token, one SAML response or one client certificate, and %d were shown", n)
	case len(p.Token) > identity.MaxTokenBytes:
		return nil, fault.Unauthenticated.New("the token is longer than %d bytes", identity.MaxTokenBytes)
	}
	return kinds, nil
}

// issuerOf is whom a proof names; empty if it names nobody.
func (p *Providers) issuerOf(kinds []identity.Kind, proof identity.Proof) (string, error) {
	if proof.Token != "" {
		return TokenIssuer(proof.Token), nil
	}
	read := p.kinds[kinds[0]].issuer
	if read == nil {
		return "", nil
	}
	return read(proof)
}

// fits tells whether a proof with this issuer may be from the provider. One that is
// named by its id must fit all the same: a token is shown to no provider but its own.
func fits(one identity.Provider, kinds []identity.Kind, issuer, id string) bool {
	if id != "" && one.ID != id {
		return false
	}
	for _, k := range kinds {
		if k != one.Kind {
			continue
		}
		switch {
		case k == identity.Introspection:
			// Its tokens need not be read by us, so its issuer may be a name that we have
			// for it. A token that says whose it is goes elsewhere only if told to.
			return issuer == "" || issuer == one.Issuer || id != ""
		case k == identity.OIDC:
			return issuer == one.Issuer && issuer != ""
		default:
			return issuer == "" || issuer == one.Issuer
		}
	}
	return false
}

// TokenIssuer is whom a token says it is from; empty if it is not a JWT or does not
// say. Nothing of it is verified.
func TokenIssuer(token string) string {
	parts := strings.Split(token, ".")
	if len(token) > identity.MaxTokenBytes || len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	// Into a map, since a struct would take "ISS" for "iss".
	var claims map[string]json.RawMessage
	var issuer string
	if json.Unmarshal(payload, &claims) != nil || json.Unmarshal(claims["iss"], &issuer) != nil {
		return ""
	}
	return issuer
}
