package clientcert

import (
	"crypto/x509"
	"strings"
)

// nginx reads what ingress-nginx sends: the leaf, and what it thinks of its chain.
//
// What it thinks does not matter here, where each organization has authorities of its
// own, but that it says so does: with "NONE" there was no certificate, and without the
// header the ingress is not set to ask for one, and passes on what the caller sends.
func (s *shown) nginx() ([]*x509.Certificate, error) {
	text, err := s.one(headerCert)
	if err != nil {
		return nil, err
	}
	verdict, err := s.one(headerVerify)
	if err != nil {
		return nil, err
	}
	switch {
	case text == "" && (verdict == "" || verdict == "NONE"):
		return nil, nil
	case text == "":
		return nil, refuse("the proxy does not forward it (ingress-nginx: auth-tls-pass-certificate-to-upstream)")
	case verdict != "SUCCESS" && !strings.HasPrefix(verdict, "FAILED:"):
		return nil, refuse("the proxy forwards one and does not say that it was shown it")
	}
	chain, err := certificates(text)
	if err != nil {
		return nil, err
	}
	if len(chain) != 1 {
		return nil, refuse("the header holds more than one")
	}
	return chain, nil
}
