// Package clientcert finds the certificate that a caller has shown: in the TLS
// connection, if it ends here, or in what a proxy of ours says of the connection that
// ended there. Whoever else sends such a header is not believed.
//
// What is found says that the caller has the certificate's key, since a TLS handshake
// proved it. It says nothing of who signed it: that is checked by whoever asks.
//
//	clientcert.go  where a certificate may be, and who may say so
//	xfcc.go        the header of Envoy
//	nginx.go       the headers of ingress-nginx
package clientcert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// Format is how proxies say what certificate they were shown.
type Format string

// The formats. With None nobody is believed, and only a TLS connection that ends here
// shows a certificate.
const (
	None  Format = ""
	Envoy Format = "envoy" // X-Forwarded-Client-Cert, with Cert or Chain in it
	Nginx Format = "nginx" // ssl-client-cert and ssl-client-verify, as ingress-nginx sends them
)

// ParseFormat reads the name of a format; "none" is None.
func ParseFormat(text string) (Format, error) {
	switch f := Format(text); f {
	case None, Envoy, Nginx:
		return f, nil
	case "none":
		return None, nil
	}
	return None, errors.New("must be none, envoy or nginx")
}

// Bounds of what a proxy may say.
const (
	maxHeader       = 64 << 10 // bytes
	maxCertificates = 10
)

// Source says where certificates may be.
type Source struct {
	Proxies web.Proxies
	Format  Format
	// Hops is how many proxies in a row write into the header, each after the one
	// before; 0 is 1. Only Envoys do. There must be exactly so many parts: one more, and
	// the first comes from outside.
	Hops int
}

// The headers, as http.Header writes them.
const (
	headerXFCC   = "X-Forwarded-Client-Cert"
	headerCert   = "Ssl-Client-Cert"
	headerVerify = "Ssl-Client-Verify"
)

// headers are taken out of every request, so that nothing behind reads them by itself.
var headers = []string{headerXFCC, headerCert, headerVerify}

type shownKey struct{}

// shown is what a request says of certificates, before anybody has looked at it.
type shown struct {
	source Source
	header http.Header
	proxy  bool // whether it comes from a proxy of ours
	tls    *tls.ConnectionState
}

// Wrap lets h and all below ask Of.
func (s Source) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := &shown{source: s, proxy: s.Proxies.Trust(web.Peer(r)), tls: r.TLS}
		r = r.WithContext(context.WithValue(r.Context(), shownKey{}, what))
		for _, name := range headers {
			if values, ok := r.Header[name]; ok {
				if what.header == nil {
					what.header, r.Header = http.Header{}, r.Header.Clone()
				}
				what.header[name] = values
				delete(r.Header, name)
			}
		}
		h.ServeHTTP(w, r)
	})
}

// With returns a context whose request has shown a certificate, as tests of what lies
// below need it.
func With(ctx context.Context, chain []*x509.Certificate) context.Context {
	return context.WithValue(ctx, shownKey{}, &shown{tls: &tls.ConnectionState{PeerCertificates: chain}})
}

// Of returns the certificate that the caller of a request has shown, its leaf first and
// what was sent with it behind; none if none was shown. fault.Unauthenticated, in words
// for an administrator, if somebody who is not believed says that there was one, or a
// proxy says it so that it cannot be read.
func Of(r *http.Request) ([]*x509.Certificate, error) {
	what, ok := r.Context().Value(shownKey{}).(*shown)
	if !ok {
		return nil, nil
	}
	if what.proxy {
		// A certificate in the connection would be the proxy's own.
		switch what.source.Format {
		case Envoy:
			return what.envoy()
		case Nginx:
			return what.nginx()
		}
		if len(what.header) > 0 {
			return nil, refuse("a proxy forwards a client certificate, and the setting that says in which header is not set")
		}
		return nil, nil
	}
	if len(what.header) > 0 {
		return nil, refuse("a header that only a proxy of ours may send came from somebody else")
	}
	if what.tls == nil {
		return nil, nil
	}
	if len(what.tls.PeerCertificates) > maxCertificates {
		return nil, refuse("the client sent too many certificates")
	}
	return what.tls.PeerCertificates, nil
}

// one returns the only value of a header; empty if it is not there.
func (s *shown) one(name string) (string, error) {
	values := s.header[name]
	switch {
	case len(values) > 1:
		return "", refuse("the header %s is there twice", name)
	case len(values) == 0:
		return "", nil
	case len(values[0]) > maxHeader:
		return "", refuse("the header %s is longer than 64 KiB", name)
	}
	return values[0], nil
}

// refuse says why, in words that hold nothing of what was sent.
func refuse(format string, args ...any) error {
	return fault.Unauthenticated.New("forwarded client certificate: "+format, args...)
}

// certificates reads PEM in the form of a URL, which holds certificates and no more.
func certificates(escaped string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, refuse("it is not URL-encoded")
	}
	var out []*x509.Certificate
	for rest := []byte(text); len(strings.TrimSpace(string(rest))) > 0; {
		// pem.Decode would skip what stands before a block.
		if !strings.HasPrefix(strings.TrimLeft(string(rest), " \t\r\n"), "-----BEGIN CERTIFICATE-----") {
			return nil, refuse("it is not a certificate in PEM")
		}
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return nil, refuse("it is not a certificate in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, refuse("it cannot be read")
		}
		if out = append(out, cert); len(out) > maxCertificates {
			return nil, refuse("there are more than %d", maxCertificates)
		}
	}
	if out == nil {
		return nil, refuse("it is empty")
	}
	return out, nil
}
