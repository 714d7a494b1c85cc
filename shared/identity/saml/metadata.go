package saml

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
)

// Metadata is what is used of an identity provider's metadata: who it is, which keys
// its signatures are by, and where people sign in.
type Metadata struct {
	EntityID   string
	Signing    []*x509.Certificate // for their keys; who signed them is not asked
	Redirect   string              // where a request goes by redirection; empty: nowhere
	ValidUntil time.Time           // zero: without end
	Cache      time.Duration       // for how long it asks to be kept; zero: it does not say
}

const (
	maxEntityID = 1024 // SAML's own limit
	maxKeys     = 16
	minRSABits  = 2048
	maxRSABits  = 8192
)

// parseMetadata reads metadata of one entity, or finds in that of several the one
// with the name. Its errors are written to stand behind a field's name.
func parseMetadata(text []byte, entityID string) (*Metadata, error) {
	root, err := metadataLimits.read(text)
	if err != nil {
		return nil, err
	}
	var found []*etree.Element
	until := time.Time{}
	switch {
	case is(root, nsMetadata, "EntityDescriptor"):
		found = []*etree.Element{root}
	case is(root, nsMetadata, "EntitiesDescriptor"):
		if entityID == "" {
			return nil, errors.New("is of several entities: entity_id must say which one is meant")
		}
		if until, err = validUntil(root, until); err != nil {
			return nil, err
		}
		_ = walk(root, func(el *etree.Element) error {
			if is(el, nsMetadata, "EntityDescriptor") && value(el, "entityID") == entityID {
				found = append(found, el)
			}
			return nil
		})
	default:
		return nil, errors.New("is not SAML metadata")
	}
	if len(found) != 1 {
		return nil, errors.New("does not hold exactly one entity with the name entity_id")
	}
	out := &Metadata{EntityID: value(found[0], "entityID"), ValidUntil: until}
	if !isEntityID(out.EntityID) {
		return nil, errors.New("names an entity that cannot be one")
	}
	if entityID != "" && out.EntityID != entityID {
		return nil, errors.New("is of another entity than entity_id")
	}
	return out, out.read(found[0])
}

// isEntityID tells whether s may name an entity: printable, without spaces.
func isEntityID(s string) bool {
	return s != "" && len(s) <= maxEntityID && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func (m *Metadata) read(entity *etree.Element) error {
	var err error
	if m.ValidUntil, err = validUntil(entity, m.ValidUntil); err != nil {
		return err
	}
	role := only(entity, nsMetadata, "IDPSSODescriptor")
	if role == nil {
		return errors.New("does not hold exactly one description of an identity provider for single sign-on")
	}
	if m.ValidUntil, err = validUntil(role, m.ValidUntil); err != nil {
		return err
	}
	if text, ok := attr(entity, "cacheDuration"); ok {
		var d saml.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d < 0 {
			return errors.New("holds a cacheDuration that cannot be read")
		}
		m.Cache = time.Duration(d)
	}
	if err := m.keys(role); err != nil {
		return err
	}
	for _, at := range children(role, nsMetadata, "SingleSignOnService") {
		if value(at, "Binding") == saml.HTTPRedirectBinding && m.Redirect == "" {
			m.Redirect = value(at, "Location")
		}
	}
	return nil
}

func (m *Metadata) keys(role *etree.Element) error {
	for _, described := range children(role, nsMetadata, "KeyDescriptor") {
		if use := value(described, "use"); use != "" && use != "signing" {
			continue
		}
		info := only(described, nsSignature, "KeyInfo")
		if info == nil {
			return errors.New("holds a key that cannot be read")
		}
		for _, data := range children(info, nsSignature, "X509Data") {
			for _, el := range children(data, nsSignature, "X509Certificate") {
				cert, err := parseCertificate(el)
				if err != nil {
					return err
				}
				m.Signing = append(m.Signing, cert)
			}
		}
	}
	switch {
	case len(m.Signing) == 0:
		return errors.New("holds no certificate for signatures")
	case len(m.Signing) > maxKeys:
		return fmt.Errorf("holds more than %d certificates for signatures", maxKeys)
	}
	return nil
}

func parseCertificate(el *etree.Element) (*x509.Certificate, error) {
	s, ok := text(el)
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	if !ok || err != nil {
		return nil, errors.New("holds a certificate that cannot be read")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("holds a certificate that cannot be read")
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("holds a certificate with an RSA key that is not of %d to %d bits", minRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey:
	default:
		return nil, errors.New("holds a certificate whose key is neither RSA nor ECDSA")
	}
	return cert, nil
}

// validUntil is the earlier of a time and an element's own.
func validUntil(el *etree.Element, until time.Time) (time.Time, error) {
	text, ok := attr(el, "validUntil")
	if !ok {
		return until, nil
	}
	own, err := parseTime(text)
	if err != nil {
		return until, errors.New("holds a validUntil that cannot be read")
	}
	if until.IsZero() || own.Before(until) {
		until = own
	}
	return until, nil
}

// parseTime reads a time as SAML has it, in UTC; one without a zone is in UTC too.
func parseTime(s string) (time.Time, error) {
	if len(s) > 40 {
		return time.Time{}, errors.New("is no time")
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05.999999999", s)
	}
	if err != nil {
		return time.Time{}, errors.New("is no time")
	}
	return t.UTC(), nil
}

// good tells whether metadata may still be relied on.
func (m *Metadata) good(now time.Time) bool {
	return m.ValidUntil.IsZero() || now.Before(m.ValidUntil)
}
