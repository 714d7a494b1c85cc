package mtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// clockSkew is how far the clock of somebody who signs may be ahead of ours.
const clockSkew = 5 * time.Minute

// crl is a list of revocations that one of the bundle's authorities has signed.
type crl struct {
	issuer     [sha256.Size]byte // see issuerKey
	name       string
	thisUpdate time.Time
	nextUpdate time.Time
	scope      scope
	revoked    map[string]bool // by serial
}

// scope is which of an authority's certificates a list is about.
type scope struct {
	users, authorities bool
	points             []string // only certificates that name one of these; empty: all
}

// lists are all that an organization handed in, the newest of an authority first.
type lists []crl

// issuerKey names an authority by its name and key: cross-signed, it is still the same.
func issuerKey(cert *x509.Certificate) [sha256.Size]byte {
	h := sha256.New()
	h.Write(cert.RawSubject)
	h.Write(cert.RawSubjectPublicKeyInfo)
	return [sha256.Size]byte(h.Sum(nil))
}

// openLists reads lists and checks their signatures. Each text holds one list in DER,
// as base64, or any number in PEM.
func openLists(texts []string, bundle []*x509.Certificate) (lists, error) {
	var out lists
	for i, text := range texts {
		at := "config/revocation/crls/" + strconv.Itoa(i)
		ders, err := listsIn(at, text)
		if err != nil {
			return nil, err
		}
		for _, der := range ders {
			l, err := openList(at, der, bundle)
			if err != nil {
				return nil, err
			}
			if out = append(out, l); len(out) > maxListCount {
				return nil, invalid("config/revocation/crls", "hold more than %d lists", maxListCount)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b crl) int { return b.thisUpdate.Compare(a.thisUpdate) })
	return out, nil
}

func listsIn(at, text string) ([][]byte, error) {
	if !strings.Contains(text, "-----BEGIN") {
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil || len(der) == 0 {
			return nil, invalid(at, "is neither PEM nor DER in base64")
		}
		return [][]byte{der}, nil
	}
	var out [][]byte
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, invalid(at, "holds something other than lists of revocations")
		}
		out = append(out, block.Bytes)
	}
	if out == nil {
		return nil, invalid(at, "holds no list of revocations in PEM")
	}
	return out, nil
}

var (
	oidIDP       = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidAuthKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReason    = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalid   = asn1.ObjectIdentifier{2, 5, 29, 24}
)

func openList(at string, der []byte, bundle []*x509.Certificate) (crl, error) {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return crl{}, invalid(at, "holds a list of revocations that cannot be read")
	}
	l := crl{
		name: parsed.Issuer.String(), thisUpdate: parsed.ThisUpdate, nextUpdate: parsed.NextUpdate,
		scope: scope{users: true, authorities: true}, revoked: make(map[string]bool, len(parsed.RevokedCertificateEntries)),
	}
	if parsed.NextUpdate.IsZero() {
		return crl{}, invalid(at, "holds a list that does not say when it ends")
	}
	for _, e := range parsed.Extensions {
		switch {
		case e.Id.Equal(oidIDP):
			var ok bool
			if l.scope, ok = parseScope(e.Value); !ok {
				return crl{}, invalid(at, "holds an indirect list, or one of some reasons only, which are not read")
			}
		case e.Id.Equal(oidAuthKeyID), e.Id.Equal(oidCRLNumber):
		case e.Critical: // a delta, for one
			return crl{}, invalid(at, "holds a list with a critical extension that is not known, as deltas have")
		}
	}
	for _, entry := range parsed.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical && !e.Id.Equal(oidReason) && !e.Id.Equal(oidInvalid) {
				return crl{}, invalid(at, "holds an entry with a critical extension that is not known, as indirect lists have")
			}
		}
		l.revoked[serialKey(entry.SerialNumber)] = true // on hold is revoked as long as it lasts
	}
	if weakSignature(parsed.SignatureAlgorithm) {
		return crl{}, invalid(at, "holds a list that is signed with an algorithm that is broken (MD5, SHA-1)")
	}
	for _, cert := range bundle {
		if bytes.Equal(cert.RawSubject, parsed.RawIssuer) && parsed.CheckSignatureFrom(cert) == nil {
			l.issuer = issuerKey(cert)
			return l, nil
		}
	}
	return crl{}, invalid(at, "holds a list that is signed by no authority of ca_pem")
}

func serialKey(n *big.Int) string { return string(n.Bytes()) }

// parseScope reads an issuing distribution point. Of its choices those are read that
// only narrow what the list is about.
func parseScope(der []byte) (scope, bool) {
	s := scope{users: true, authorities: true}
	outer := cryptobyte.String(der)
	var in cryptobyte.String
	if !outer.ReadASN1(&in, cbasn1.SEQUENCE) || !outer.Empty() {
		return s, false
	}
	flag := func(n uint8) (bool, bool) {
		var value cryptobyte.String
		var there bool
		if !in.ReadOptionalASN1(&value, &there, cbasn1.Tag(n).ContextSpecific()) {
			return false, false
		}
		return there && len(value) == 1 && value[0] != 0, !there || len(value) == 1
	}
	var point cryptobyte.String
	var there bool
	if !in.ReadOptionalASN1(&point, &there, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return s, false
	}
	if there {
		var names cryptobyte.String
		if !point.ReadASN1(&names, cbasn1.Tag(0).ContextSpecific().Constructed()) || !point.Empty() {
			return s, false // a name relative to the issuer's
		}
		for !names.Empty() {
			var name cryptobyte.String
			var tag cbasn1.Tag
			if !names.ReadAnyASN1(&name, &tag) {
				return s, false
			}
			if tag == cbasn1.Tag(6).ContextSpecific() {
				s.points = append(s.points, string(name))
			}
		}
		if len(s.points) == 0 {
			return s, false
		}
	}
	onlyUsers, ok1 := flag(1)
	onlyAuthorities, ok2 := flag(2)
	if !ok1 || !ok2 || in.PeekASN1Tag(cbasn1.Tag(3).ContextSpecific()) {
		return s, false // some reasons only
	}
	indirect, ok4 := flag(4)
	attributes, ok5 := flag(5)
	if !ok4 || !ok5 || indirect || attributes || onlyUsers && onlyAuthorities || !in.Empty() {
		return s, false
	}
	s.users, s.authorities = !onlyAuthorities, !onlyUsers
	return s, true
}

// covers reports whether a list is about a certificate at all.
func (s scope) covers(cert *x509.Certificate) bool {
	if cert.IsCA && !s.authorities || !cert.IsCA && !s.users {
		return false
	}
	return len(s.points) == 0 || slices.ContainsFunc(s.points, func(p string) bool { return slices.Contains(cert.CRLDistributionPoints, p) })
}

// ask looks a certificate up. The newest list that is valid by now decides; that a
// newer one says revoked counts at once.
func (ls lists) ask(cert, issuer *x509.Certificate, now time.Time, grace time.Duration) verdict {
	early := verdict{}
	key := issuerKey(issuer)
	for _, l := range ls {
		if l.issuer != key || !l.scope.covers(cert) {
			continue
		}
		end := l.nextUpdate.Add(grace)
		switch {
		case l.revoked[serialKey(cert.SerialNumber)]:
			return verdict{state: revoked}
		case l.thisUpdate.After(now.Add(clockSkew)):
			early = verdict{state: unknown, why: "the list of revocations is not valid yet"}
		case !now.Before(end):
			return verdict{state: unknown, why: "the list of revocations ended on " + l.nextUpdate.UTC().Format(time.DateOnly)}
		case !now.Before(l.nextUpdate):
			return verdict{state: good, until: end, grace: end}
		default:
			return verdict{state: good, until: l.nextUpdate}
		}
	}
	return early
}
