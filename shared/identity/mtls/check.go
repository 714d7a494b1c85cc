package mtls

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// endsSoon is how long before its end something is worth a word.
const endsSoon = 14 * 24 * time.Hour

// Check looks at the authorities, the lists and the responder.
func (v *verifier) Check(ctx context.Context) (identity.Report, error) {
	now := v.now()
	report := identity.Report{OK: true}
	find := func(name string, ok bool, format string, args ...any) {
		report.Findings = append(report.Findings, identity.Finding{Name: name, OK: ok, Detail: fmt.Sprintf(format, args...)})
		report.OK = report.OK && ok
	}
	good := 0
	for _, cert := range v.anchors {
		if !now.Before(cert.NotBefore) && now.Before(cert.NotAfter) {
			good++
		}
	}
	find("authorities", good > 0, "%d of %d that are believed are valid now, among %d certificates", good, len(v.anchors), len(v.bundle))
	for _, cert := range v.bundle {
		switch day := cert.NotAfter.UTC().Format(time.DateOnly); {
		case !now.Before(cert.NotAfter):
			find("authority", true, "%s has expired on %s; nothing that it signed is taken", cert.Subject, day)
		case cert.NotAfter.Sub(now) < endsSoon:
			find("authority", true, "%s expires on %s", cert.Subject, day)
		}
	}
	v.checkLists(find, now)
	if v.responder != nil {
		v.checkResponder(ctx, find, now)
	}
	if v.config.Revocation.Mode == off {
		find("revocation", true, "it is not looked at whether a certificate was revoked")
	}
	return report, nil
}

type find func(name string, ok bool, format string, args ...any)

func (v *verifier) checkLists(find find, now time.Time) {
	if v.files != nil {
		v.files.report(find)
	}
	for _, l := range v.known() {
		end := l.nextUpdate.UTC().Format(time.RFC3339)
		switch {
		case l.thisUpdate.After(now.Add(clockSkew)):
			find("crl", false, "the list of %s is not valid yet", l.name)
		case !now.Before(l.nextUpdate.Add(v.grace)):
			find("crl", v.config.Revocation.Mode == soft, "the list of %s ended at %s", l.name, end)
		case !now.Before(l.nextUpdate):
			find("crl", true, "the list of %s ended at %s, and is believed until %s", l.name, end, l.nextUpdate.Add(v.grace).UTC().Format(time.RFC3339))
		default:
			find("crl", true, "the list of %s is valid until %s and names %d certificates", l.name, end, len(l.revoked))
		}
	}
	if v.config.Revocation.Mode != hard || v.responder != nil {
		return
	}
	for _, cert := range v.bundle {
		if !v.hasList(cert) {
			find("crl", false, "there is no list of %s: of what it signed nothing is taken", cert.Subject)
		}
	}
}

func (v *verifier) hasList(issuer *x509.Certificate) bool {
	for _, l := range v.known() {
		if l.issuer == issuerKey(issuer) {
			return true
		}
	}
	return false
}

// checkResponder asks about an authority of the bundle, or, if there is none that was
// signed by another, about a serial that nobody has: what matters is that it answers.
func (v *verifier) checkResponder(ctx context.Context, find find, now time.Time) {
	for _, cert := range v.bundle {
		for _, issuer := range v.bundle {
			address := v.responder.address(cert)
			if address == "" || cert == issuer || cert.CheckSignatureFrom(issuer) != nil {
				continue
			}
			got, err := v.responder.fetch(ctx, address, cert, issuer, now)
			switch {
			case err != nil:
				find("ocsp", v.config.Revocation.Mode == soft, "about %s: %s", cert.Subject, err)
			case got.state == revoked:
				find("ocsp", false, "%s was revoked", cert.Subject)
			default:
				find("ocsp", true, "the responder answers about %s", cert.Subject)
			}
			return
		}
	}
	if v.responder.url == "" {
		find("ocsp", true, "each certificate names its responder; none of the bundle does, so none was asked")
		return
	}
	made := &x509.Certificate{SerialNumber: big.NewInt(1)}
	switch _, err := v.responder.fetch(ctx, v.responder.url, made, v.anchors[0], now); {
	case err == nil:
		find("ocsp", true, "the responder answers")
	case err.Error() == "the responder says: "+ocsp.Unauthorized.String():
		find("ocsp", true, "the responder answers, and does not know a certificate that does not exist")
	default:
		find("ocsp", v.config.Revocation.Mode == soft, "%s", err)
	}
}
