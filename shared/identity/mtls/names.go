package mtls

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

var (
	oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidUPN = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}

	oidCN = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOU = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidO  = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidC  = asn1.ObjectIdentifier{2, 5, 4, 6}
)

// maxSubject bounds a subject, which is kept with whatever it was given.
const maxSubject = 512

// holder is whom a certificate names. Names are as the certificate writes them, each in
// the order in which it does.
type holder struct {
	cert                 *x509.Certificate
	subject, issuer      string
	common               []string
	units, organizations []string
	countries            []string
	upns, emails, uris   []string
}

// readHolder reads the names of a certificate. What could be shown as something else
// than it is, is refused.
func readHolder(cert *x509.Certificate) (holder, error) {
	h := holder{cert: cert, emails: cert.EmailAddresses}
	var subject, issuer pkix.RDNSequence
	for _, n := range []struct {
		raw  []byte
		into *pkix.RDNSequence
	}{{cert.RawSubject, &subject}, {cert.RawIssuer, &issuer}} {
		if rest, err := asn1.Unmarshal(n.raw, n.into); err != nil || len(rest) > 0 {
			return h, refuse("its names cannot be read")
		}
	}
	for _, rdn := range subject {
		for _, a := range rdn {
			for _, n := range []struct {
				oid  asn1.ObjectIdentifier
				into *[]string
			}{{oidCN, &h.common}, {oidOU, &h.units}, {oidO, &h.organizations}, {oidC, &h.countries}} {
				if !a.Type.Equal(n.oid) {
					continue
				}
				text, ok := a.Value.(string)
				if !ok {
					return h, refuse("a part of its subject is not text")
				}
				*n.into = append(*n.into, text)
			}
		}
	}
	h.subject, h.issuer = subject.String(), issuer.String()
	for _, u := range cert.URIs {
		h.uris = append(h.uris, u.String())
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSAN) {
			var ok bool
			if h.upns, ok = parseUPNs(e.Value); !ok {
				return h, refuse("its alternative names cannot be read")
			}
		}
	}
	for _, list := range [][]string{{h.subject, h.issuer}, h.common, h.units, h.organizations, h.countries, h.upns, h.emails, h.uris, cert.DNSNames} {
		for _, name := range list {
			if !plainText(name) {
				return h, refuse("it holds a name with characters that are not text")
			}
		}
	}
	return h, nil
}

// parseUPNs returns the user principal names among a certificate's alternative names.
// crypto/x509 has read the extension too, and knows nothing of them.
func parseUPNs(der []byte) ([]string, bool) {
	var names []string
	outer := cryptobyte.String(der)
	var list cryptobyte.String
	if !outer.ReadASN1(&list, cbasn1.SEQUENCE) || !outer.Empty() {
		return nil, false
	}
	other := cbasn1.Tag(0).ContextSpecific().Constructed()
	for !list.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1(&name, &tag) {
			return nil, false
		}
		if tag != other {
			continue
		}
		var kind asn1.ObjectIdentifier
		var value, text cryptobyte.String
		if !name.ReadASN1ObjectIdentifier(&kind) || !name.ReadASN1(&value, other) || !name.Empty() {
			return nil, false
		}
		if !kind.Equal(oidUPN) {
			continue
		}
		if !value.ReadASN1(&text, cbasn1.UTF8String) || !value.Empty() {
			return nil, false
		}
		names = append(names, string(text))
	}
	return names, true
}

// subjects is what somebody can be known by. Each says why a certificate has it not.
var subjects = map[string]func(holder) (string, error){
	"edipi": func(h holder) (string, error) {
		if len(h.common) != 1 {
			// Readers differ in which of several they take.
			return "", refuse("its subject has no common name, or several")
		}
		id, ok := edipi(h.common[0])
		if !ok {
			return "", refuse("its common name is not of the form LAST.FIRST.MIDDLE.NUMBER, with ten digits")
		}
		return id, nil
	},
	"upn":   func(h holder) (string, error) { return only(h.upns, "user principal name", true) },
	"email": func(h holder) (string, error) { return only(h.emails, "e-mail address", true) },
	"uri":   func(h holder) (string, error) { return only(h.uris, "URI", false) },
	"cn":    func(h holder) (string, error) { return only(h.common, "common name", false) },
	"dn":    func(h holder) (string, error) { return only([]string{h.subject}, "subject", false) },
	// A serial is an authority's own; what follows the last # is always the serial.
	"serial": func(h holder) (string, error) { return only([]string{h.issuer + "#" + h.serial()}, "serial", false) },
}

func subjectNames() []string { return slices.Sorted(maps.Keys(subjects)) }

// only returns the one name that there is.
func only(names []string, what string, lower bool) (string, error) {
	switch {
	case len(names) != 1 || names[0] == "":
		return "", refuse("it has no %s, or several", what)
	case len(names[0]) > maxSubject:
		return "", refuse("its %s is longer than %d bytes", what, maxSubject)
	case lower:
		// Two ways to write it are the same person's.
		return strings.ToLower(names[0]), nil
	}
	return names[0], nil
}

// edipi returns the number at the end of a common name as the Department of Defense
// writes it. Nothing before it may look like a number too.
func edipi(name string) (string, bool) {
	words := strings.Split(name, ".")
	id := words[len(words)-1]
	if len(words) < 3 || len(id) != 10 || strings.Trim(id, "0123456789") != "" {
		return "", false
	}
	for _, w := range words[:len(words)-1] {
		if w == "" || strings.ContainsAny(w, "0123456789,=+/\\") || strings.TrimSpace(w) != w {
			return "", false
		}
	}
	return id, true
}

func (h holder) serial() string { return strings.ToUpper(h.cert.SerialNumber.Text(16)) }

// attributes are all names and properties of a certificate, for policies to look at.
func (h holder) attributes(issuer *x509.Certificate) map[string]any {
	sum := sha256.Sum256(h.cert.Raw)
	out := map[string]any{
		"subject_dn": h.subject, "issuer_dn": h.issuer, "serial": h.serial(), "fingerprint_sha256": hex.EncodeToString(sum[:]),
	}
	if len(issuer.SubjectKeyId) > 0 {
		out["issuer_key_id"] = hex.EncodeToString(issuer.SubjectKeyId)
	}
	for name, values := range map[string][]string{
		"cn": h.common, "ou": h.units, "o": h.organizations, "c": h.countries,
		"upn": h.upns, "email": h.emails, "uri": h.uris, "dns": h.cert.DNSNames,
	} {
		if len(values) > 0 {
			out[name] = list(values)
		}
	}
	if id, err := subjects["edipi"](h); err == nil {
		out["edipi"] = id
	}
	var policies []string
	for _, p := range h.cert.Policies {
		policies = append(policies, p.String())
	}
	if len(policies) > 0 {
		out["policies"] = list(policies)
	}
	return out
}

// list is a list as JSON has it, so that a policy sees the same however it came.
func list(values []string) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}

func fitsAttributes(m map[string]any) bool {
	text, err := json.Marshal(m)
	return err == nil && len(text) <= identity.MaxAttributesBytes
}

func sorted(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// plainText reports whether a name looks like what it is: no control characters, none
// that turn the direction of writing, no broken UTF-8.
func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError
	})
}
