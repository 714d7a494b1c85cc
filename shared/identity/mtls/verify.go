package mtls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// maxShown is how many certificates somebody may show, and maxChains how many ways from
// them to an authority are looked at.
const (
	maxShown  = 10
	maxChains = 8
)

// refuse says why a certificate is not good, in words that hold nothing of it.
func refuse(format string, args ...any) error {
	return fault.Unauthenticated.New("client certificate: "+format, args...)
}

// Verify finds out whose certificate it is. Nothing is asked of the network before the
// certificate has shown to be one of the provider's authorities'.
func (v *verifier) Verify(ctx context.Context, p identity.Proof, now time.Time) (identity.Claims, error) {
	if len(p.Chain) == 0 {
		return identity.Claims{}, refuse("none was shown")
	}
	if err := admissible(p.Chain); err != nil {
		return identity.Claims{}, err
	}
	holder, err := readHolder(p.Chain[0])
	if err != nil {
		return identity.Claims{}, err
	}
	chains, err := v.chains(p.Chain, v.policies, now)
	if err != nil {
		return identity.Claims{}, err
	}
	subject, err := subjects[v.config.Subject](holder)
	if err != nil {
		return identity.Claims{}, err
	}
	var refused error
	for _, chain := range chains {
		known, err := v.standing(ctx, chain, now)
		if err == nil {
			return v.claims(holder, subject, chain, known, p.Chain, now)
		}
		refused = worse(refused, err)
	}
	return identity.Claims{}, refused
}

// worse is which of two reasons is told of a certificate that no way is good for: that
// it may be good after all comes first.
func worse(a, b error) error {
	if a == nil || !errors.Is(a, fault.Unavailable) && errors.Is(b, fault.Unavailable) {
		return b
	}
	return a
}

// admissible looks at what costs little, before a signature is checked.
func admissible(shown []*x509.Certificate) error {
	leaf := shown[0]
	if len(shown) > maxShown {
		return refuse("more than %d were shown", maxShown)
	}
	for _, cert := range shown {
		switch {
		case len(cert.Raw) > maxCertificate:
			return refuse("it or one that was shown with it is longer than 16 KiB")
		case !strongKey(cert):
			return refuse("it or one that was shown with it has a key that is too weak, or of a kind that is not known")
		case weakSignature(cert.SignatureAlgorithm) && !bytes.Equal(cert.RawIssuer, cert.RawSubject):
			return refuse("it or one that was shown with it is signed with an algorithm that is broken (MD5, SHA-1)")
		}
	}
	switch {
	case leaf.Version != 3:
		return refuse("it is of an old version, and says nothing of its use")
	case leaf.IsCA:
		return refuse("it is an authority's")
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return refuse("its key usage lacks digitalSignature")
	case bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
		return refuse("it is signed by itself")
	}
	return nil
}

// chains returns the ways from what was shown to an authority that is believed.
func (v *verifier) chains(shown []*x509.Certificate, policies []x509.OID, now time.Time) ([][]*x509.Certificate, error) {
	between := v.between
	if len(shown) > 1 {
		between = between.Clone()
		for _, cert := range shown[1:] {
			between.AddCert(cert)
		}
	}
	leaf := *shown[0]
	// Names that crypto/x509 does not know, such as UPN, are read in names.go.
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions), oidSAN.Equal)
	if len(policies) > 0 {
		// crypto/x509 asks for CertificatePolicies only where a certificate says that
		// some policy is needed. Ours says so.
		leaf.RequireExplicitPolicyZero = true
	}
	found, err := leaf.Verify(x509.VerifyOptions{
		Roots: v.roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, CertificatePolicies: policies,
	})
	if err != nil {
		return nil, explain(err, shown[0], len(policies) > 0, now)
	}
	var out [][]*x509.Certificate
	var refused error
	for _, chain := range found {
		if err := v.fits(chain); err != nil {
			refused = err
		} else if len(out) < maxChains {
			out = append(out, chain)
		}
	}
	if out == nil {
		return nil, refused
	}
	// The shortest first: it asks the least.
	slices.SortStableFunc(out, func(a, b []*x509.Certificate) int { return len(a) - len(b) })
	return out, nil
}

// fits checks what crypto/x509 does not, or not as we want it.
func (v *verifier) fits(chain []*x509.Certificate) error {
	if len(chain) > v.config.MaxChain {
		return refuse("the chain to an authority is longer than %d certificates", v.config.MaxChain)
	}
	for _, cert := range chain[1:] {
		if !strongKey(cert) {
			return refuse("an authority in its chain has a key that is too weak")
		}
	}
	for _, e := range v.ekus {
		if !e.in(chain[0], false) {
			return refuse("its extended key usage lacks %s", e.name)
		}
		for _, cert := range chain[1:] {
			if !e.in(cert, true) {
				return refuse("an authority in its chain may not give the extended key usage %s", e.name)
			}
		}
	}
	return nil
}

// explain says what crypto/x509 found, without the names that its own words hold.
func explain(err error, leaf *x509.Certificate, policies bool, now time.Time) error {
	var bad x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var critical x509.UnhandledCriticalExtension
	switch {
	case errors.As(err, &bad):
		switch bad.Reason {
		case x509.Expired:
			switch {
			case !bad.Cert.Equal(leaf):
				return refuse("an authority in its chain has expired, or is not valid yet")
			case now.Before(leaf.NotBefore):
				return refuse("it is not valid yet")
			}
			return refuse("it has expired")
		case x509.NoValidChains:
			if policies {
				return refuse("it is not issued under any of the policies that are asked for")
			}
		case x509.CANotAuthorizedForThisName, x509.UnconstrainedName, x509.NameConstraintsWithoutSANs, x509.TooManyConstraints:
			return refuse("an authority in its chain may not give its names")
		case x509.TooManyIntermediates:
			return refuse("an authority in its chain stands too far above it")
		case x509.NotAuthorizedToSign:
			return refuse("something in its chain is no authority")
		}
	case errors.As(err, &unknown):
		// What was wrong with an authority that might have been is only in its words.
		switch text := err.Error(); {
		case strings.Contains(text, "too many intermediates"):
			return refuse("an authority in its chain stands too far above it")
		case strings.Contains(text, "is not permitted"), strings.Contains(text, "is excluded"):
			return refuse("an authority in its chain may not give its names")
		case strings.Contains(text, "insecure algorithm"):
			return refuse("its chain holds a signature with an algorithm that is broken (MD5, SHA-1)")
		case strings.Contains(text, "has expired or is not yet valid"):
			return refuse("an authority in its chain has expired, or is not valid yet")
		}
		return refuse("it is signed by none of the provider's authorities")
	case errors.As(err, &critical):
		return refuse("it or an authority in its chain has a critical extension that is not known")
	}
	return refuse("its chain does not hold")
}

// claims puts what was found out into the shape of all providers.
func (v *verifier) claims(h holder, subject string, chain []*x509.Certificate, known knowledge, shown []*x509.Certificate, now time.Time) (identity.Claims, error) {
	leaf := chain[0]
	c := identity.Claims{
		Provider: v.provider.ID, Kind: identity.MTLS, Issuer: v.provider.Issuer, Subject: subject,
		AMR: []string{"x509"}, AuthenticatedAt: now.UTC(), ExpiresAt: leaf.NotAfter.UTC(), Grace: known.grace.UTC(),
	}
	for _, cert := range chain[1:] {
		if cert.NotAfter.Before(c.ExpiresAt) {
			c.ExpiresAt = cert.NotAfter.UTC()
		}
	}
	if v.config.Revocation.BoundsSession && !known.until.IsZero() && known.until.Before(c.ExpiresAt) {
		c.ExpiresAt = known.until.UTC()
	}
	if v.config.Groups == "ou" {
		c.Groups = sorted(h.units)
	}
	c.ACR, c.AMR = v.strength(chain, shown, c.AMR, now)
	c.Attributes = h.attributes(chain[1])
	c.Attributes["revocation"] = known.word()
	if !fitsAttributes(c.Attributes) {
		return identity.Claims{}, refuse("it holds more names than are taken")
	}
	return c, nil
}

// strength is what the authority's policies say, as far as the chain lets it say so.
func (v *verifier) strength(chain, shown []*x509.Certificate, amr []string, now time.Time) (string, []string) {
	acr := ""
	for _, a := range v.assurances {
		if !slices.ContainsFunc(chain[0].Policies, a.policy.Equal) {
			continue
		}
		// That the certificate says so is not enough: each authority above must have
		// been allowed to.
		valid, err := v.chains(shown, []x509.OID{a.policy}, now)
		if err != nil || !slices.ContainsFunc(valid, func(o []*x509.Certificate) bool { return slices.EqualFunc(o, chain, (*x509.Certificate).Equal) }) {
			continue
		}
		if acr == "" {
			acr = a.acr
		}
		amr = append(amr, a.amr...)
	}
	return acr, sorted(amr)
}

// eku is an extended key usage.
type eku struct {
	name  string
	known x509.ExtKeyUsage // if it is one that crypto/x509 knows
	oid   x509.OID         // if not
}

const noUsage = x509.ExtKeyUsage(-1)

var namedEKUs = map[string]string{
	"client_auth":      "1.3.6.1.5.5.7.3.2",
	"smart_card_logon": "1.3.6.1.4.1.311.20.2.2",
	"pkinit_client":    "1.3.6.1.5.2.3.4",
}

func parseEKU(name string) (eku, bool) {
	text := name
	if dotted, ok := namedEKUs[name]; ok {
		text = dotted
	}
	oid, err := x509.ParseOID(text)
	if err != nil {
		return eku{}, false
	}
	if text == namedEKUs["client_auth"] {
		return eku{name: name, known: x509.ExtKeyUsageClientAuth}, true
	}
	return eku{name: name, known: noUsage, oid: oid}, true
}

// in reports whether a certificate has the usage. An authority that names none may
// give any; a client must be told its own.
func (e eku) in(cert *x509.Certificate, authority bool) bool {
	if authority && (len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)) {
		return true
	}
	if e.known != noUsage {
		return slices.Contains(cert.ExtKeyUsage, e.known)
	}
	for _, u := range cert.UnknownExtKeyUsage {
		if e.oid.EqualASN1OID(u) {
			return true
		}
	}
	return false
}

// strongKey reports whether a key can be relied on. Very long ones are refused too: to
// check a signature with them is work that somebody else would choose for us.
func strongKey(cert *x509.Certificate) bool {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= 2048 && key.N.BitLen() <= 8192
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return true
	}
	return false
}

func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1, x509.UnknownSignatureAlgorithm:
		return true
	}
	return false
}
