package saml

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/backchannel"
)

// Config is what an administrator says of an identity provider that speaks SAML, and
// what the API shows.
type Config struct {
	EntityID    string `json:"entity_id,omitempty"`    // the provider's; needed where the metadata is fetched
	MetadataXML string `json:"metadata_xml,omitempty"` // one of these two
	MetadataURL string `json:"metadata_url,omitempty"`
	MaxOutage   string `json:"max_outage,omitempty"` // for how long it is believed while it cannot be fetched; 24h

	TLS *backchannel.TLS `json:"tls,omitempty"` // of the metadata's server

	OwnEntityID string `json:"sp_entity_id,omitempty"`       // ours; by default where our metadata is
	Certificate string `json:"sp_certificate_pem,omitempty"` // ours, made by us: for encryption, and for the requests' signatures

	Unsolicited       bool   `json:"allow_unsolicited,omitempty"`  // whether it may send responses that nobody asked for
	RequireEncryption bool   `json:"require_encryption,omitempty"` // whether assertions must be encrypted
	ClockSkew         string `json:"clock_skew,omitempty"`         // how far its clock may be from ours; 30s
	MaxSession        string `json:"max_session,omitempty"`        // how long after it was vouched for an identity ends at the latest; 12h

	Attributes Mapping `json:"attributes,omitzero"`
}

// Mapping says what attributes mean. A name may be a URI.
type Mapping struct {
	Subject string   `json:"subject,omitempty"` // the attribute that names the subject; by default NameID does
	Groups  []string `json:"groups,omitempty"`
	Roles   []string `json:"roles,omitempty"`
	Methods string   `json:"amr,omitempty"` // methods of authentication, beside what the context's class says
}

// secrets is what is sealed.
type secrets struct {
	Key         string `json:"key_pem"`
	Certificate string `json:"certificate_pem"`
	Before      string `json:"before_pem,omitempty"` // the key before it: what is encrypted to it still opens
}

const (
	defaultSkew = 30 * time.Second
	maxSkew     = 5 * time.Minute
	sessionLife = 12 * time.Hour
	longest     = 30 * 24 * time.Hour
	keyBits     = 3072
	keyLife     = 10 * 365 * 24 * time.Hour
	maxMapped   = 20
)

// errUnreadable is the error of a configuration that Parse did not make.
var errUnreadable = errors.New("the provider's configuration cannot be read")

// Parse checks a configuration; see identity.Parse. A new provider gets a key of ours.
func Parse(in json.RawMessage, prior []byte, s identity.Settings) (identity.Config, error) {
	var c Config
	if err := identity.DecodeConfig(in, &c); err != nil {
		return identity.Config{}, err
	}
	if s.PublicURL == nil {
		return identity.Config{}, invalid("", "needs the gateway to know its public URL")
	}
	if err := c.check(s); err != nil {
		return identity.Config{}, err
	}
	var own secrets
	if prior == nil {
		var err error
		if own, err = newKey(s.Now()); err != nil {
			return identity.Config{}, err
		}
	} else if json.Unmarshal(prior, &own) != nil {
		return identity.Config{}, errUnreadable
	}
	if c.Certificate != "" && c.Certificate != own.Certificate {
		return identity.Config{}, invalid("/sp_certificate_pem", "is made by the gateway")
	}
	c.Certificate = own.Certificate
	return identity.Config{Issuer: c.EntityID, Public: c, Secrets: own}, nil
}

// Rotate gives a provider a new key. What the provider encrypts to the old one is
// still read, until the next rotation.
func Rotate(config json.RawMessage, prior []byte, s identity.Settings) (identity.Config, error) {
	var c Config
	var old secrets
	if json.Unmarshal(config, &c) != nil || json.Unmarshal(prior, &old) != nil {
		return identity.Config{}, errUnreadable
	}
	own, err := newKey(s.Now())
	if err != nil {
		return identity.Config{}, err
	}
	own.Before, c.Certificate = old.Key, own.Certificate
	return identity.Config{Issuer: c.EntityID, Public: c, Secrets: own}, nil
}

func (c *Config) check(s identity.Settings) error {
	switch {
	case (c.MetadataXML == "") == (c.MetadataURL == ""):
		return invalid("/metadata_xml", "or metadata_url must be given, and not both")
	case c.EntityID != "" && !isEntityID(c.EntityID):
		return invalid("/entity_id", "is not the name of an entity")
	case c.OwnEntityID != "" && !isEntityID(c.OwnEntityID):
		return invalid("/sp_entity_id", "is not the name of an entity")
	case len(c.MetadataXML) > maxMetadata:
		return invalid("/metadata_xml", "is longer than 256 KiB")
	case c.MetadataXML != "":
		m, err := parseMetadata([]byte(c.MetadataXML), c.EntityID)
		if err != nil {
			return invalid("/metadata_xml", err.Error())
		}
		c.EntityID = m.EntityID
	case c.EntityID == "":
		return invalid("/entity_id", "is needed where the metadata is fetched")
	default:
		if _, err := backchannel.CheckURL(c.MetadataURL, s.AllowPrivate); err != nil {
			return invalid("/metadata_url", err.Error())
		}
	}
	if c.TLS != nil && c.MetadataURL == "" {
		return invalid("/tls", "is for metadata_url")
	}
	if err := c.TLS.Check(); err != nil {
		return err
	}
	for _, d := range []struct {
		pointer, text     string
		shortest, longest time.Duration
	}{
		{"/clock_skew", c.ClockSkew, 0, maxSkew},
		{"/max_session", c.MaxSession, time.Minute, longest},
		{"/max_outage", c.MaxOutage, 0, longest},
	} {
		if _, err := readDuration(d.text, 0, d.shortest, d.longest); err != nil {
			return invalid(d.pointer, err.Error())
		}
	}
	return c.Attributes.check()
}

func (m Mapping) check() error {
	for pointer, names := range map[string][]string{
		"/attributes/subject": {m.Subject}, "/attributes/amr": {m.Methods}, "/attributes/groups": m.Groups, "/attributes/roles": m.Roles,
	} {
		if len(names) > maxMapped {
			return invalid(pointer, fmt.Sprintf("are more than %d", maxMapped))
		}
		for _, name := range names {
			if name == "" && (pointer == "/attributes/groups" || pointer == "/attributes/roles") || name != "" && !isName(name) {
				return invalid(pointer, "holds what is not the name of an attribute")
			}
		}
	}
	return nil
}

// readDuration reads a duration within limits; empty is the default.
func readDuration(text string, normal, shortest, longest time.Duration) (time.Duration, error) {
	if text == "" {
		return normal, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < shortest || d > longest {
		return 0, fmt.Errorf("must be a duration like 30s, from %s to %s", shortest, longest)
	}
	return d, nil
}

// newKey makes our own key for a provider, with a certificate that only says which
// it is: nobody asks who signed it.
func newKey(now time.Time) (secrets, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return secrets{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return secrets{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "peat-gateway"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(keyLife),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return secrets{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return secrets{}, err
	}
	return secrets{Key: encodePEM("PRIVATE KEY", private), Certificate: encodePEM("CERTIFICATE", der)}, nil
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// privateKeys reads the keys that assertions may be encrypted to, the newest first.
func privateKeys(sealed []byte) ([]*rsa.PrivateKey, error) {
	var s secrets
	if json.Unmarshal(sealed, &s) != nil {
		return nil, errUnreadable
	}
	var out []*rsa.PrivateKey
	for _, text := range []string{s.Key, s.Before} {
		if text == "" && out != nil {
			continue
		}
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, errUnreadable
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		private, ok := key.(*rsa.PrivateKey)
		if err != nil || !ok {
			return nil, errUnreadable // and no more: it may quote the key
		}
		out = append(out, private)
	}
	return out, nil
}

// endpoints are who we are to the provider.
type endpoints struct {
	entityID string
	metadata string
	acs      string // where responses are sent
}

// read reads an opening without its secrets.
func read(o identity.Opening) (Config, endpoints, error) {
	var c Config
	if json.Unmarshal(o.Provider.Config, &c) != nil || o.PublicURL == nil {
		return c, endpoints{}, errUnreadable
	}
	base := o.PublicURL.JoinPath("orgs", url.PathEscape(string(o.Provider.Org)), "identity-providers", url.PathEscape(o.Provider.ID), "saml").String()
	at := endpoints{entityID: c.OwnEntityID, metadata: base + "/metadata", acs: base + "/acs"}
	if at.entityID == "" {
		at.entityID = at.metadata
	}
	return c, at, nil
}

// invalid says what is wrong with a field of the configuration.
func invalid(pointer, detail string) error { return identity.Invalid("config"+pointer, detail) }
