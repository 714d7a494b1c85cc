package mtls

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

const (
	maxOCSP = 64 << 10 // bytes of an answer
	// An answer is used until it ends, but not longer than this: some last for days.
	maxAnswerAge = time.Hour
)

// responder asks whether certificates were revoked. It may be used by several
// goroutines.
type responder struct {
	url   string // empty: the one that the certificate names
	nonce bool
	limit time.Duration // for one answer
	guard *netguard.Guard
	carry *http.Transport // by itself: a client would follow redirects
	cache answers
}

// patience is how long a responder may take, unless the operator says otherwise.
const patience = 5 * time.Second

func newResponder(c revocation, guard *netguard.Guard, limit time.Duration) *responder {
	limit = cmp.Or(limit, patience)
	return &responder{url: c.OCSPURL, nonce: c.OCSPNonce, limit: limit, guard: guard, carry: &http.Transport{
		// No proxy: it would be the proxy that resolves the name, behind the guard's back.
		DialContext:            guard.DialContext,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		TLSHandshakeTimeout:    limit,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
	}}
}

func (r *responder) close() { r.carry.CloseIdleConnections() }

// ask finds out about a certificate, from what was said before if that still holds.
func (r *responder) ask(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) verdict {
	address := r.address(cert)
	if address == "" {
		return verdict{state: noSource}
	}
	key := answerKey(cert, issuer)
	if v, ok := r.cache.get(key, address, now); ok {
		return v
	}
	v, err := r.fetch(ctx, address, cert, issuer, now)
	switch {
	case err != nil && ctx.Err() != nil:
		// Whoever asked is gone, which says nothing of the responder.
		return verdict{state: unknown, why: "the responder was not waited for"}
	case err != nil:
		r.cache.down(address, now)
		return verdict{state: unknown, why: err.Error()}
	}
	r.cache.put(key, v, now)
	return v
}

// address is where to ask about a certificate; empty if nowhere.
func (r *responder) address(cert *x509.Certificate) string {
	if r.url != "" {
		return r.url
	}
	for _, text := range cert.OCSPServer {
		if _, err := r.guard.URL(text, "http", "https"); err == nil {
			return text
		}
	}
	return ""
}

// fetch asks. Its errors are for administrators; they hold no address.
func (r *responder) fetch(ctx context.Context, address string, cert, issuer *x509.Certificate, now time.Time) (verdict, error) {
	body, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: crypto.SHA1}) // which names the issuer, and protects nothing
	if err != nil {
		return verdict{}, errors.New("the responder cannot be asked about such a certificate")
	}
	var nonce []byte
	if r.nonce {
		nonce = make([]byte, 16)
		_, _ = rand.Read(nonce) // it cannot fail
		if body, err = withNonce(body, nonce); err != nil {
			return verdict{}, err
		}
	}
	der, err := r.post(ctx, address, body)
	if err != nil {
		return verdict{}, err
	}
	return readAnswer(der, cert, issuer, nonce, now)
}

func (r *responder) post(ctx context.Context, address string, body []byte) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the responder's address cannot be read")
	}
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	req := (&http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: http.Header{"Content-Type": {"application/ocsp-request"}, "Accept": {"application/ocsp-response"}, "User-Agent": {"peat-gateway"}},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	resp, err := r.carry.RoundTrip(req)
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return nil, netguard.ErrForbidden
	case errors.Is(err, context.DeadlineExceeded):
		return nil, errors.New("the responder does not answer")
	case err != nil:
		return nil, errors.New("the responder cannot be reached")
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("the responder answers with a status other than 200")
	}
	der, err := io.ReadAll(io.LimitReader(resp.Body, maxOCSP+1))
	switch {
	case err != nil:
		return nil, errors.New("the responder broke off its answer")
	case len(der) > maxOCSP:
		return nil, errors.New("the responder's answer is longer than 64 KiB")
	}
	return der, nil
}

// readAnswer reads what a responder says. Anybody can answer in its place, so what
// counts is who signed: the issuer of the certificate, or one whom that issuer has
// certified to do so.
func readAnswer(der []byte, cert, issuer *x509.Certificate, nonce []byte, now time.Time) (verdict, error) {
	// Given an issuer, the parser would take any certificate of it for a responder's,
	// also that of the client which is asked about.
	resp, err := ocsp.ParseResponseForCert(der, cert, nil)
	var said ocsp.ResponseError
	switch {
	case errors.As(err, &said):
		return verdict{}, errors.New("the responder says: " + said.Status.String())
	case err != nil:
		return verdict{}, errors.New("the responder's answer cannot be read, or is not about this certificate")
	case weakSignature(resp.SignatureAlgorithm):
		return verdict{}, errors.New("the responder signs with an algorithm that is broken (MD5, SHA-1)")
	}
	if err := signedFor(resp, issuer, now); err != nil {
		return verdict{}, err
	}
	if nonce != nil {
		got, ok := nonceOf(resp.TBSResponseData)
		if !ok || !bytes.Equal(got, nonce) {
			return verdict{}, errors.New("the responder's answer is to another question")
		}
	}
	until := resp.NextUpdate
	if until.IsZero() {
		until = resp.ThisUpdate.Add(maxAnswerAge)
	}
	switch {
	case resp.ThisUpdate.After(now.Add(clockSkew)):
		return verdict{}, errors.New("the responder's answer is not valid yet")
	case !now.Before(until):
		return verdict{}, errors.New("the responder's answer is an old one")
	}
	switch resp.Status {
	case ocsp.Good:
		return verdict{state: good, until: until}, nil
	case ocsp.Revoked:
		return verdict{state: revoked, until: until}, nil
	}
	return verdict{state: unknown, until: until, why: "the responder does not know the certificate"}, nil
}

// signedFor checks who signed an answer about a certificate of the issuer.
func signedFor(resp *ocsp.Response, issuer *x509.Certificate, now time.Time) error {
	by := resp.Certificate
	if by == nil || bytes.Equal(by.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
		if resp.CheckSignatureFrom(issuer) != nil {
			return errors.New("the responder's answer is not signed by the certificate's issuer")
		}
		return nil
	}
	switch {
	case resp.CheckSignatureFrom(by) != nil || by.CheckSignatureFrom(issuer) != nil:
		return errors.New("the responder's answer is not signed by the certificate's issuer, nor by one whom it certified")
	case !strongKey(by):
		return errors.New("the responder's key is too weak")
	case !slices.Contains(by.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the responder's certificate is not one for responders")
	case now.Before(by.NotBefore) || now.After(by.NotAfter):
		return errors.New("the responder's certificate has expired, or is not valid yet")
	}
	return nil
}

var oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

var extensionsOfRequest = cbasn1.Tag(2).ContextSpecific().Constructed()

// withNonce adds a nonce to a request (RFC 8954).
func withNonce(request, nonce []byte) ([]byte, error) {
	in := cryptobyte.String(request)
	var outer, tbs cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return nil, errors.New("the request cannot be given a nonce")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddASN1(extensionsOfRequest, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidNonce)
						b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.Bytes()
}

// nonceOf finds the nonce in the signed part of an answer.
func nonceOf(tbs []byte) ([]byte, bool) {
	in := cryptobyte.String(tbs)
	var data, list cryptobyte.String
	var there bool
	context := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	if !in.ReadASN1(&data, cbasn1.SEQUENCE) || !data.SkipOptionalASN1(context(0)) {
		return nil, false
	}
	var responder cryptobyte.String
	var tag cbasn1.Tag
	if !data.ReadAnyASN1(&responder, &tag) || !data.SkipASN1(cbasn1.GeneralizedTime) || !data.SkipASN1(cbasn1.SEQUENCE) ||
		!data.ReadOptionalASN1(&list, &there, context(1)) || !there || !list.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil, false
	}
	for !list.Empty() {
		var e, value, nonce cryptobyte.String
		var id asn1.ObjectIdentifier
		if !list.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&id) || !e.SkipOptionalASN1(cbasn1.BOOLEAN) ||
			!e.ReadASN1(&value, cbasn1.OCTET_STRING) {
			return nil, false
		}
		if id.Equal(oidNonce) {
			return nonce, value.ReadASN1(&nonce, cbasn1.OCTET_STRING)
		}
	}
	return nil, false
}
