// Package mtls takes client certificates of an organization's own authorities, such as
// those of a CAC, as proof of who somebody is. That they have the certificate's key was
// proved in a TLS handshake, here or at a proxy of ours (platform/clientcert); this
// package says whose certificate it is, and whether it is still good.
//
//	config.go      the configuration, and what it may hold
//	verify.go      from a chain to claims
//	names.go       whom a certificate names: EDIPI, UPN and others
//	revocation.go  whether a certificate was revoked, from what is known
//	crl.go         lists of revocations, as the organization hands them in
//	listfiles.go   lists that the operator keeps in a folder
//	ocsp.go        asking a responder; ocspcache.go keeps what it said
//	check.go       what a provider depends on, for administrators
//
// What is not here: indirect and delta lists of revocations, fetching of lists, and
// directory names in name constraints. A chain that needs one of them is refused.
package mtls

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// Parse checks the configuration of a provider. It has no secrets.
func Parse(in json.RawMessage, _ []byte, s identity.Settings) (identity.Config, error) {
	c, err := parseConfig(in, s)
	if err != nil {
		return identity.Config{}, err
	}
	if _, err := c.open(s); err != nil {
		return identity.Config{}, err
	}
	return identity.Config{Issuer: c.Issuer, Public: c}, nil
}

// Open makes a verifier ready. It reaches for nothing.
func Open(o identity.Opening) (identity.Verifier, error) {
	var c config
	if err := o.Read(&c, nil); err != nil {
		return nil, err
	}
	v, err := c.open(o.Settings)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	v.provider = o.Provider
	return v, nil
}

// verifier is a provider that is ready. Nothing of it changes but what its responder said.
type verifier struct {
	provider identity.Provider
	config   config

	roots, between  *x509.CertPool
	anchors, bundle []*x509.Certificate
	ekus            []eku
	policies        []x509.OID
	assurances      []assured
	lists           lists
	files           *listFiles // nil: there are no lists but those
	responder       *responder // nil: no responder is asked
	grace           time.Duration
	now             func() time.Time
}

// assured is what a policy says of the strength of a certificate.
type assured struct {
	policy x509.OID
	acr    string
	amr    []string
}

// Close lets go of connections to the responder.
func (v *verifier) Close() error {
	if v.responder != nil {
		v.responder.close()
	}
	return nil
}
