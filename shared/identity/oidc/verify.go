package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// verifier implements identity.Verifier.
type verifier struct {
	config     Config
	issuer     *issuer
	audiences  []string
	algorithms []jose.SignatureAlgorithm
}

// Open makes a verifier that shares its issuer's keys with all others of s.
func (s *Issuers) Open(o identity.Opening) (identity.Verifier, error) {
	var c Config
	if err := o.Read(&c, nil); err != nil {
		return nil, err
	}
	if err := c.prepare(o.Settings); err != nil {
		return nil, err
	}
	i, err := s.of(c, o.Settings)
	if err != nil {
		return nil, err
	}
	v := &verifier{config: c, issuer: i, audiences: c.audiences(o.Settings)}
	for _, a := range c.algorithms() {
		v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(a))
	}
	return v, nil
}

// Close implements identity.Verifier. The keys are not this verifier's alone.
func (v *verifier) Close() error {
	v.issuer.client.Close()
	return nil
}

// errNoJWT is all that is said of what cannot be read: it may be anything.
var errNoJWT = fault.Unauthenticated.New("the token is not a JWT that can be read")

// Verify implements identity.Verifier.
func (v *verifier) Verify(ctx context.Context, p identity.Proof, now time.Time) (identity.Claims, error) {
	if p.Token == "" {
		return identity.Claims{}, fault.Unauthenticated.New("an OpenID provider vouches by a token, and none was shown")
	}
	h, err := readHeader(p.Token)
	if err != nil {
		return identity.Claims{}, err
	}
	if err := v.acceptable(h); err != nil {
		return identity.Claims{}, err
	}
	signed := &signature{v: v, header: h, now: now}
	token, err := gooidc.NewVerifier(v.config.Issuer, signed, &gooidc.Config{
		SupportedSigningAlgs: v.config.algorithms(), Now: func() time.Time { return now },
		// These are judged below, with words for each.
		SkipClientIDCheck: true, SkipExpiryCheck: true, SkipIssuerCheck: true,
	}).Verify(ctx, p.Token)
	switch {
	case signed.err != nil:
		return identity.Claims{}, signed.err
	case signed.payload == nil:
		return identity.Claims{}, errNoJWT
	}
	set, decodeErr := tokenclaims.Decode(signed.payload)
	if decodeErr != nil {
		return identity.Claims{}, decodeErr
	}
	audiences := v.audiences
	if len(p.Expect.Audiences) > 0 {
		audiences = p.Expect.Audiences
	}
	claims, judged := v.config.Judge(set, tokenclaims.Case{Issuer: v.config.Issuer, Audiences: audiences, Nonce: p.Expect.Nonce}, now)
	if judged != nil {
		return identity.Claims{}, judged
	}
	// go-oidc reads names in any case, we in theirs only. Where that makes a difference
	// somebody wants us to be taken in.
	if err != nil || token.Issuer != claims.Issuer {
		return identity.Claims{}, fault.Unauthenticated.New("the token's claims can be read in two ways")
	}
	claims.Kind, claims.Grace = identity.OIDC, signed.grace
	return claims, nil
}

// header is what a token says of its signature.
type header struct {
	Algorithm string
	KeyID     string
	Type      string
}

// maxKeyID is longer than any name of a key.
const maxKeyID = 512

// readHeader reads the header of a JWT. Keys that it brings with it, and places to
// fetch some from, are not read at all.
func readHeader(token string) (header, error) {
	if len(token) > identity.MaxTokenBytes {
		return header{}, fault.Unauthenticated.New("the token is longer than %d bytes", identity.MaxTokenBytes)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return header{}, errNoJWT
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil {
		return header{}, errNoJWT
	}
	set, err := tokenclaims.Decode(raw)
	if err != nil {
		return header{}, errNoJWT
	}
	var h header
	for name, to := range map[string]*string{"alg": &h.Algorithm, "kid": &h.KeyID, "typ": &h.Type} {
		if v, ok := set[name]; ok && json.Unmarshal(v, to) != nil {
			return header{}, errNoJWT
		}
	}
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, ok := set[name]; ok {
			return header{}, fault.Unauthenticated.New("the token's header asks for something that is not done here (%s)", name)
		}
	}
	return h, nil
}

// acceptable refuses a header before any key is looked for.
func (v *verifier) acceptable(h header) error {
	switch strings.ToLower(strings.TrimPrefix(strings.ToLower(h.Type), "application/")) {
	case "", "jwt", "at+jwt":
	default:
		return fault.Unauthenticated.New("the token is of another type, %s", identity.Shown(h.Type))
	}
	return v.signable(h)
}

// signable refuses a header by which no signature would be checked.
func (v *verifier) signable(h header) error {
	if !slices.Contains(v.config.algorithms(), h.Algorithm) {
		return fault.Unauthenticated.New("the token is signed with %s, which is not accepted", identity.Shown(h.Algorithm))
	}
	if len(h.KeyID) > maxKeyID {
		return fault.Unauthenticated.New("the token's key has a name longer than %d bytes", maxKeyID)
	}
	return nil
}

// signature is the check of one token's signature, in the form that go-oidc wants.
type signature struct {
	v      *verifier
	header header
	now    time.Time

	payload []byte
	grace   time.Time
	err     error
}

var errSignature = fault.Unauthenticated.New("the token's signature is not its issuer's")

// VerifySignature implements oidc.KeySet.
func (s *signature) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	var found []key
	found, s.grace, s.err = s.v.issuer.find(ctx, s.header.KeyID, s.header.Algorithm, s.v.config.outage, s.now)
	if s.err != nil {
		return nil, s.err
	}
	parsed, err := jose.ParseSignedCompact(token, s.v.algorithms)
	if err != nil || len(parsed.Signatures) != 1 || parsed.Signatures[0].Header.Algorithm != s.header.Algorithm || parsed.Signatures[0].Header.KeyID != s.header.KeyID {
		s.err = errNoJWT
		return nil, s.err
	}
	for _, k := range found {
		if payload, err := parsed.Verify(k.public); err == nil {
			s.payload = payload
			return payload, nil
		}
	}
	s.err = errSignature
	return nil, s.err
}
