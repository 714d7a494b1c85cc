package clientcert

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
)

// envoy reads X-Forwarded-Client-Cert.
//
// Each proxy writes a part about whoever called it. With n proxies of ours, the part
// that counts is the first of exactly n. Subject, URI and DNS in it are not looked at:
// the certificate itself says that, and more.
func (s *shown) envoy() ([]*x509.Certificate, error) {
	text, err := s.one(headerXFCC)
	if err != nil || text == "" {
		return nil, err
	}
	parts, err := parseXFCC(text)
	if err != nil {
		return nil, err
	}
	if hops := cmp.Or(s.source.Hops, 1); len(parts) != hops {
		return nil, refuse("the header has %d parts, and %d proxies write into it; the first ones may be the caller's own", len(parts), hops)
	}
	return parts[0].chain()
}

// part is what one proxy says. Only what is used is kept.
type part struct {
	hash, cert, certs string
}

// chain returns the certificates of a part, after seeing that what it says agrees.
func (p part) chain() ([]*x509.Certificate, error) {
	if p.cert == "" && p.certs == "" {
		return nil, refuse("the proxy does not forward it (Envoy: set_current_client_cert_details with cert and chain)")
	}
	var chain []*x509.Certificate
	if p.certs != "" {
		var err error
		if chain, err = certificates(p.certs); err != nil {
			return nil, err
		}
	}
	if p.cert != "" {
		leaf, err := certificates(p.cert)
		switch {
		case err != nil:
			return nil, err
		case len(leaf) != 1:
			return nil, refuse("Cert holds more than one")
		case chain == nil:
			chain = leaf
		case !chain[0].Equal(leaf[0]):
			return nil, refuse("Cert and Chain are of different callers")
		}
	}
	if p.hash != "" {
		sum := sha256.Sum256(chain[0].Raw)
		if !strings.EqualFold(p.hash, hex.EncodeToString(sum[:])) {
			return nil, refuse("Hash is not that of the certificate")
		}
	}
	return chain, nil
}

// Bounds of the header.
const (
	maxParts  = 8
	maxFields = 32
)

// parseXFCC divides the header: parts with commas between them, in each fields with
// semicolons between them, in each a key, "=" and a value that may stand in quotes.
func parseXFCC(text string) ([]part, error) {
	var parts []part
	for more := true; more; {
		var p part
		seen := map[string]bool{}
		for n := 0; ; n++ {
			key, value, end, rest, err := field(text)
			if err != nil {
				return nil, err
			}
			text = rest
			if n == maxFields {
				return nil, refuse("the header has too many fields")
			}
			// A proxy names what it knows once. By, URI and DNS may come several times.
			key = strings.ToLower(key)
			var into *string
			switch key {
			case "hash":
				into = &p.hash
			case "cert":
				into = &p.cert
			case "chain":
				into = &p.certs
			case "subject", "uri", "dns", "by":
			default:
				return nil, refuse("the header has a field that is not known")
			}
			if into != nil {
				if seen[key] {
					return nil, refuse("the header says something twice")
				}
				seen[key], *into = true, value
			}
			if end != ';' {
				more = end == ','
				break
			}
		}
		if parts = append(parts, p); len(parts) > maxParts {
			return nil, refuse("the header has more than %d parts", maxParts)
		}
	}
	return parts, nil
}

// field reads one field and what ends it: ';', ',' or 0 for the end of the header.
func field(text string) (key, value string, end byte, rest string, err error) {
	key, text, ok := strings.Cut(text, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" || strings.ContainsAny(key, "\",; \t") {
		return "", "", 0, "", refuse("the header cannot be read")
	}
	if strings.HasPrefix(text, `"`) {
		if value, text, err = quoted(text[1:]); err != nil {
			return "", "", 0, "", err
		}
		text = strings.TrimLeft(text, " \t")
	} else {
		n := strings.IndexAny(text, ",;")
		if n < 0 {
			n = len(text)
		}
		value, text = strings.TrimSpace(text[:n]), text[n:]
		if strings.ContainsRune(value, '"') {
			return "", "", 0, "", refuse("the header cannot be read")
		}
	}
	if text == "" {
		return key, value, 0, "", nil
	}
	if text[0] != ';' && text[0] != ',' {
		return "", "", 0, "", refuse("the header cannot be read")
	}
	return key, value, text[0], text[1:], nil
}

// quoted reads up to the quote that ends a value; a backslash takes the next character
// as it is.
func quoted(text string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return "", "", refuse("the header cannot be read")
			}
		}
		b.WriteByte(text[i])
	}
	return "", "", refuse("the header cannot be read")
}
