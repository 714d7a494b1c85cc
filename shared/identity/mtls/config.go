package mtls

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// config is what an organization says of its authorities. All of it is shown.
type config struct {
	Issuer     string      `json:"issuer,omitempty"` // by which rules name this provider; default: of its first authority
	CA         string      `json:"ca_pem"`           // roots, and the authorities between, that clients need not send
	Anchors    string      `json:"anchors"`          // which of them are believed: roots, or all
	MaxChain   int         `json:"max_chain"`        // certificates from the client's to the anchor
	EKUs       []string    `json:"ekus"`             // each must be in the certificate
	Policies   []string    `json:"policies,omitempty"`
	Subject    string      `json:"subject"`
	Groups     string      `json:"groups,omitempty"` // "ou": the organizational units of the subject
	Assurance  []assurance `json:"assurance,omitempty"`
	Revocation revocation  `json:"revocation"`
}

// assurance is what a policy of the authority says of how strong a certificate is.
type assurance struct {
	Policy string   `json:"policy"`
	ACR    string   `json:"acr,omitempty"`
	AMR    []string `json:"amr,omitempty"`
}

// revocation says how it is found out whether a certificate was revoked.
type revocation struct {
	Mode          string   `json:"mode"`                // hard, soft or off
	Scope         string   `json:"scope"`               // chain, or the leaf alone
	CRLs          []string `json:"crls,omitempty"`      // PEM, or DER in base64
	CRLFiles      []string `json:"crl_files,omitempty"` // in the operator's folder
	CRLGrace      string   `json:"crl_grace"`           // for how long a list is believed after its end
	OCSP          bool     `json:"ocsp"`
	OCSPURL       string   `json:"ocsp_url,omitempty"` // instead of what certificates name
	OCSPNonce     bool     `json:"ocsp_nonce"`
	BoundsSession bool     `json:"bounds_session"` // what is decided lasts no longer than what is known of revocations
}

// How revocations are looked at.
const (
	hard = "hard" // what cannot be found out is refused
	soft = "soft" // what cannot be found out passes; what was revoked does not
	off  = "off"
)

const (
	rootsAreAnchors = "roots"
	allAreAnchors   = "all"

	wholeChain = "chain"
	leafAlone  = "leaf"
)

// Bounds of a configuration.
const (
	maxBundle       = 256 << 10 // bytes of PEM
	maxAuthorities  = 200
	maxLists        = 256 << 10 // bytes of all lists together, as they are sent
	maxListCount    = 64
	maxGrace        = 90 * 24 * time.Hour
	maxChainAllowed = 8
	maxOIDs         = 32
	maxIssuer       = 255
	maxCertificate  = 16 << 10 // bytes of one certificate
)

// invalid says what is wrong with a field, named as "config/ca_pem".
func invalid(pointer, format string, args ...any) error {
	return identity.Invalid(pointer, fmt.Sprintf(format, args...))
}

// parseConfig reads a configuration and fills in what it leaves out.
func parseConfig(in json.RawMessage, s identity.Settings) (config, error) {
	c := config{Anchors: rootsAreAnchors, MaxChain: 5, EKUs: []string{"client_auth"}}
	c.Revocation = revocation{Scope: wholeChain, CRLGrace: "0s"}
	if err := identity.DecodeConfig(in, &c); err != nil {
		return c, err
	}
	if c.Anchors != rootsAreAnchors && c.Anchors != allAreAnchors {
		return c, invalid("config/anchors", "must be roots or all")
	}
	if c.MaxChain < 1 || c.MaxChain > maxChainAllowed {
		return c, invalid("config/max_chain", "must be from 1 to %d", maxChainAllowed)
	}
	if _, ok := subjects[c.Subject]; !ok {
		return c, invalid("config/subject", "must be one of %s", strings.Join(subjectNames(), ", "))
	}
	if c.Groups != "" && c.Groups != "ou" {
		return c, invalid("config/groups", "must be ou, or left out")
	}
	if len(c.Issuer) > maxIssuer || !plainText(c.Issuer) {
		return c, invalid("config/issuer", "must be at most %d bytes of plain text", maxIssuer)
	}
	if err := c.Revocation.parse(s); err != nil {
		return c, err
	}
	all, err := certificates("config/ca_pem", c.CA)
	if err != nil {
		return c, err
	}
	anchors := anchorsOf(all, c.Anchors)
	if len(anchors) == 0 {
		return c, invalid("config/ca_pem", `holds no root, that is a certificate signed by itself; "anchors": "all" believes those between too`)
	}
	if c.Issuer == "" {
		// Every organization that takes this authority calls it the same.
		if c.Issuer = "x509:" + anchors[0].Subject.String(); len(c.Issuer) > maxIssuer || !plainText(c.Issuer) {
			return c, invalid("config/issuer", "is needed: the authority's name cannot stand for it")
		}
	}
	return c, nil
}

func (r *revocation) parse(s identity.Settings) error {
	const at = "config/revocation/"
	switch r.Mode {
	case hard, soft, off:
	case "":
		return invalid(at+"mode", "is missing: hard refuses what cannot be found out, soft lets it pass, off does not look")
	default:
		return invalid(at+"mode", "must be hard, soft or off")
	}
	if r.Scope != wholeChain && r.Scope != leafAlone {
		return invalid(at+"scope", "must be chain or leaf")
	}
	if grace, err := time.ParseDuration(r.CRLGrace); err != nil || grace < 0 || grace > maxGrace {
		return invalid(at+"crl_grace", "must be a duration like 72h, at most 2160h")
	}
	lists := len(r.CRLs) + len(r.CRLFiles)
	switch {
	case r.Mode == off && (lists > 0 || r.OCSP):
		return invalid(at+"mode", "must not be off where there are crls, crl_files or ocsp")
	case r.Mode != off && lists == 0 && !r.OCSP:
		return invalid(at+"mode", "must be off where there are neither crls, crl_files nor ocsp")
	case !r.OCSP && (r.OCSPURL != "" || r.OCSPNonce):
		return invalid(at+"ocsp", "must be true where ocsp_url or ocsp_nonce is set")
	case r.Mode == off && r.BoundsSession:
		return invalid(at+"bounds_session", "has no bounds where mode is off")
	}
	if r.OCSPURL != "" {
		// A responder signs what it says, so that HTTP will do, as is usual.
		if _, err := netguard.New(s.AllowPrivate).URL(r.OCSPURL, "http", "https"); err != nil {
			return invalid(at+"ocsp_url", "%s", err)
		}
	}
	if len(r.CRLs) > maxListCount {
		return invalid(at+"crls", "must be at most %d", maxListCount)
	}
	switch {
	case len(r.CRLFiles) > maxListCount:
		return invalid(at+"crl_files", "must be at most %d", maxListCount)
	case len(r.CRLFiles) > 0 && s.CRLDir == "":
		return invalid(at+"crl_files", "cannot be used: the operator has set no folder for them (PEAT_CRL_DIR)")
	}
	for i, name := range r.CRLFiles {
		if !listName.MatchString(name) || slices.Contains(r.CRLFiles[:i], name) {
			return invalid(at+"crl_files/"+strconv.Itoa(i), "must be the name of a file, once, of letters, digits, '.', '-' and '_'")
		}
	}
	size := 0
	for i, text := range r.CRLs {
		if size += len(text); size > maxLists {
			return invalid(at+"crls/"+strconv.Itoa(i), "makes all together longer than 256 KiB; larger ones can be files (crl_files)")
		}
	}
	return nil
}

// open makes a configuration ready. Its errors name fields, for Parse.
func (c config) open(s identity.Settings) (*verifier, error) {
	v := &verifier{config: c, now: s.Now, roots: x509.NewCertPool(), between: x509.NewCertPool()}
	var err error
	if v.bundle, err = certificates("config/ca_pem", c.CA); err != nil {
		return nil, err
	}
	v.anchors = anchorsOf(v.bundle, c.Anchors)
	for _, cert := range v.bundle {
		v.between.AddCert(cert)
	}
	for _, cert := range v.anchors {
		v.roots.AddCert(cert)
	}
	if len(c.EKUs) > maxOIDs || len(c.Policies) > maxOIDs || len(c.Assurance) > maxOIDs {
		return nil, invalid("config", "holds a list of more than %d", maxOIDs)
	}
	for i, name := range c.EKUs {
		e, ok := parseEKU(name)
		if !ok {
			return nil, invalid("config/ekus/"+strconv.Itoa(i), "must be client_auth, smart_card_logon, pkinit_client or an OID such as 1.3.6.1.5.5.7.3.2")
		}
		v.ekus = append(v.ekus, e)
	}
	for i, text := range c.Policies {
		oid, err := x509.ParseOID(text)
		if err != nil {
			return nil, invalid("config/policies/"+strconv.Itoa(i), "must be an OID such as 2.16.840.1.101.3.2.1.3.13")
		}
		v.policies = append(v.policies, oid)
	}
	for i, a := range c.Assurance {
		at := "config/assurance/" + strconv.Itoa(i)
		oid, err := x509.ParseOID(a.Policy)
		if err != nil {
			return nil, invalid(at+"/policy", "must be an OID such as 2.16.840.1.101.3.2.1.3.13")
		}
		if len(a.AMR) > 8 || slices.ContainsFunc(append([]string{a.ACR}, a.AMR...), func(s string) bool { return len(s) > 128 || !plainText(s) }) {
			return nil, invalid(at, "must hold at most 8 methods, each of at most 128 bytes of plain text")
		}
		v.assurances = append(v.assurances, assured{oid, a.ACR, a.AMR})
	}
	if v.grace, err = time.ParseDuration(c.Revocation.CRLGrace); err != nil {
		return nil, invalid("config/revocation/crl_grace", "must be a duration like 72h")
	}
	if v.lists, err = openLists(c.Revocation.CRLs, v.bundle); err != nil {
		return nil, err
	}
	if len(c.Revocation.CRLFiles) > 0 {
		v.files = &listFiles{dir: s.CRLDir, names: c.Revocation.CRLFiles, bundle: v.bundle, fixed: v.lists, now: s.Now}
	}
	if c.Revocation.OCSP {
		v.responder = newResponder(c.Revocation, netguard.New(s.AllowPrivate), s.Patience)
	}
	return v, nil
}

// certificates reads PEM that holds authorities and nothing else.
func certificates(pointer, text string) ([]*x509.Certificate, error) {
	if len(text) > maxBundle {
		return nil, invalid(pointer, "is longer than 256 KiB")
	}
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, invalid(pointer, "holds something other than certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, invalid(pointer, "holds a certificate that cannot be read, number %d", len(out)+1)
		case !cert.BasicConstraintsValid || !cert.IsCA:
			return nil, invalid(pointer, "holds a certificate that is no authority's, number %d", len(out)+1)
		case !strongKey(cert):
			return nil, invalid(pointer, "holds an authority whose key is too weak, number %d", len(out)+1)
		}
		if out = append(out, cert); len(out) > maxAuthorities {
			return nil, invalid(pointer, "holds more than %d certificates", maxAuthorities)
		}
	}
	if out == nil {
		return nil, invalid(pointer, "holds no certificate in PEM")
	}
	return out, nil
}

// anchorsOf returns those whose word is believed.
func anchorsOf(all []*x509.Certificate, which string) []*x509.Certificate {
	var out []*x509.Certificate
	for _, cert := range all {
		if which == allAreAnchors || selfSigned(cert) {
			out = append(out, cert)
		}
	}
	return out
}

// selfSigned reports whether a certificate was signed with its own key. The signature
// of a root is never checked again, so that an old algorithm does no harm there.
func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) &&
		cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}
