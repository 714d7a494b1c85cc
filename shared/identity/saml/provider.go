package saml

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"encoding/xml"
	"net/url"
	"time"

	"github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// OwnMetadata is what the identity provider is told of us. It needs no secret.
func OwnMetadata(o identity.Opening) ([]byte, error) {
	c, at, err := read(o)
	if err != nil {
		return nil, err
	}
	sp, err := at.serviceProvider(c)
	if err != nil {
		return nil, err
	}
	described := sp.Metadata()
	for i := range described.SPSSODescriptors {
		keys := described.SPSSODescriptors[i].KeyDescriptors
		for k := range keys {
			if keys[k].Use == "encryption" {
				keys[k].EncryptionMethods = []saml.EncryptionMethod{
					{Algorithm: "http://www.w3.org/2009/xmlenc11#aes256-gcm"}, {Algorithm: "http://www.w3.org/2009/xmlenc11#aes128-gcm"},
					{Algorithm: "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"},
				}
			}
		}
	}
	out, err := xml.MarshalIndent(described, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(out, '\n')...), nil
}

// serviceProvider is us, as the library has it. It makes what we say; what is said
// to us it does not get to read.
func (at endpoints) serviceProvider(c Config) (*saml.ServiceProvider, error) {
	block, _ := pem.Decode([]byte(c.Certificate))
	if block == nil {
		return nil, errUnreadable
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errUnreadable
	}
	own, acs, metadata := at.entityID, parsed(at.acs), parsed(at.metadata)
	return &saml.ServiceProvider{
		EntityID: own, Certificate: cert, AcsURL: acs, MetadataURL: metadata, SignatureMethod: dsig.RSASHA256SignatureMethod,
		AssertionConsumerServiceBindings: []string{saml.HTTPPostBinding}, MetadataOmitValidUntil: true,
		AuthnNameIDFormat: saml.UnspecifiedNameIDFormat, SendUnspecifiedNameIDFormat: true,
	}, nil
}

func parsed(text string) url.URL {
	u, err := url.Parse(text)
	if err != nil {
		return url.URL{}
	}
	return *u
}

// SignIn is where to send somebody's browser so that they sign in, and the provider
// answers the request with the ID.
func (v *Verifier) SignIn(ctx context.Context, requestID, relayState string, now time.Time) (string, error) {
	m, _, err := v.source.get(ctx, now)
	if err != nil {
		return "", err
	}
	target, err := url.Parse(m.Redirect)
	if err != nil || target.Host == "" || target.Scheme != "https" && target.Scheme != "http" {
		return "", fault.Conflict.New("the identity provider's metadata names no place to send requests to by redirection")
	}
	sp, err := v.serviceProvider(v.config)
	if err != nil {
		return "", err
	}
	sp.Key, sp.Clock = v.keys[0], dsig.NewFakeClockAt(now)
	request, err := sp.MakeAuthenticationRequest(m.Redirect, saml.HTTPRedirectBinding, saml.HTTPPostBinding)
	if err != nil {
		return "", err
	}
	request.ID = requestID
	to, err := request.Redirect(relayState, sp)
	if err != nil {
		return "", err
	}
	return to.String(), nil
}

// RequestID is the ID of the request that goes with a challenge, or with any other
// text that was made for one sign-in. Who answers the challenge shows a response to
// that request, and to no other, without anybody having kept it.
func RequestID(challenge string) string {
	sum := sha256.Sum256([]byte("peat-gateway/saml-request/v1\x00" + challenge))
	return "_" + hex.EncodeToString(sum[:])
}

// ExpectFor is what a response must be bound to that is shown with a challenge: to the
// challenge's request, or, if it answers none, to nothing; whether it may answer none
// is the provider's configuration.
func ExpectFor(response []byte, challenge string) identity.Expect {
	if said, err := Peek(response); err == nil && said.InResponseTo == "" {
		return identity.Expect{}
	}
	return identity.Expect{InResponseTo: []string{RequestID(challenge)}}
}
