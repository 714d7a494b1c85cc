package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/certfile"
	"github.com/defenseunicorns/peat-gateway/shared/platform/clientcert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// TransportSettings say who is at the other end of a connection, and how that is known.
type TransportSettings struct {
	Proxies    web.Proxies
	CertFormat clientcert.Format
	CertHops   int

	TLSCertFile, TLSKeyFile string
	TLSAddress              string
	TLSAskClients           bool

	CRLDir string
}

func readTransport(e *env.Reader) TransportSettings {
	var s TransportSettings
	var err error
	if s.Proxies, err = web.ParseProxies(e.String("PEAT_TRUSTED_PROXIES", "",
		"proxies before the gateway, by address range (CIDR, a comma between them): only they are believed in X-Forwarded-For and about client certificates")); err != nil {
		e.Wrong("PEAT_TRUSTED_PROXIES", err.Error())
	}
	if s.CertFormat, err = clientcert.ParseFormat(e.String("PEAT_CLIENT_CERT_HEADER", "none",
		"how those proxies forward client certificates: none, envoy (X-Forwarded-Client-Cert) or nginx (ssl-client-cert, as ingress-nginx does); they must overwrite what callers send")); err != nil {
		e.Wrong("PEAT_CLIENT_CERT_HEADER", err.Error())
	}
	if s.CertFormat != clientcert.None && len(s.Proxies) == 0 {
		e.Wrong("PEAT_CLIENT_CERT_HEADER", "needs PEAT_TRUSTED_PROXIES, which says from whom")
	}
	s.CertHops = e.Int("PEAT_CLIENT_CERT_HOPS", 1, "how many of those proxies in a row append to X-Forwarded-Client-Cert")
	if s.CertHops < 1 || s.CertHops > 8 {
		e.Wrong("PEAT_CLIENT_CERT_HOPS", "must be from 1 to 8")
	}
	s.TLSCertFile = e.String("PEAT_TLS_CERT_FILE", "", "certificate of the gateway and its chain, PEM: then it also listens with TLS; read again when it changes")
	s.TLSKeyFile = e.String("PEAT_TLS_KEY_FILE", "", "key of that certificate, PEM")
	s.TLSAddress = e.String("PEAT_TLS_LISTEN", ":8443", "address that is listened on with TLS")
	switch e.String("PEAT_TLS_CLIENT_AUTH", "none", "whether callers with TLS are asked for a certificate: none or request; whose is good is said by each organization's identity providers") {
	case "request":
		s.TLSAskClients = true
	case "none":
	default:
		e.Wrong("PEAT_TLS_CLIENT_AUTH", "must be none or request")
	}
	s.CRLDir = e.String("PEAT_CRL_DIR", "", "folder with lists of revocations (CRL, PEM or DER) that identity providers of kind mtls may name; for air gaps")
	switch {
	case (s.TLSCertFile == "") != (s.TLSKeyFile == ""):
		e.Wrong("PEAT_TLS_KEY_FILE", "and PEAT_TLS_CERT_FILE are set together or not at all")
	case s.TLSAskClients && s.TLSCertFile == "":
		e.Wrong("PEAT_TLS_CLIENT_AUTH", "needs PEAT_TLS_CERT_FILE")
	}
	return s
}

// clientCerts says where callers' certificates are found.
func (s TransportSettings) clientCerts() clientcert.Source {
	return clientcert.Source{Proxies: s.Proxies, Format: s.CertFormat, Hops: s.CertHops}
}

// ListenTLS listens with the gateway's own certificate; nil if it has none.
func (h *Host) ListenTLS() (net.Listener, error) {
	s := h.Settings.Transport
	if s.TLSCertFile == "" {
		return nil, nil
	}
	pair, err := certfile.Open(s.TLSCertFile, s.TLSKeyFile, h.Log, time.Now)
	if err != nil {
		return nil, fmt.Errorf("PEAT_TLS_CERT_FILE: %w", err)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: pair.Certificate,
		// WebSockets take over the connection, which HTTP/2 does not give away.
		NextProtos: []string{"http/1.1"},
	}
	if s.TLSAskClients {
		// Chains are not checked here, for authorities are the organizations'. That the
		// client has the key is. It proves so each time: a resumed session would not.
		config.ClientAuth, config.SessionTicketsDisabled = tls.RequestClientCert, true
	}
	listener, err := net.Listen("tcp", s.TLSAddress)
	if err != nil {
		return nil, errors.Join(errors.New("PEAT_TLS_LISTEN"), err)
	}
	h.Log.Info("serving with TLS", "address", listener.Addr().String(), "asks_for_certificates", s.TLSAskClients)
	return tls.NewListener(listener, config), nil
}
