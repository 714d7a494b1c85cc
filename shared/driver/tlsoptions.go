package driver

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// TLSConfig is how a sink's target is met over TLS, as an organization says it in
// the field "tls" of a configuration. A nil one is the usual: the system's roots,
// and no certificate of our own.
type TLSConfig struct {
	CA         string `json:"ca_pem,omitempty"`          // instead of the system's roots, not beside them
	ClientCert string `json:"client_cert_pem,omitempty"` // the chain, our own certificate first
	ClientKey  string `json:"client_key_pem,omitempty"`  // sealed; Sealed in what is shown
	ServerName string `json:"server_name,omitempty"`     // whom the target's certificate must name; empty: the URL's host
}

// Sealed stands in a shown configuration for a value that is kept secret. Sent
// back, it means: as it was.
const Sealed = "[sealed]"

// A certificate bundle may be longer than a key: checking a key costs far more than
// its length.
const (
	maxCertPEM = 64 << 10
	maxKeyPEM  = 16 << 10
)

// Parse checks the options and takes the private key out of them, to be sealed by
// the driver. prior is the key that was sealed before; it stays what it was if
// ClientKey is left out or Sealed. Fields are named below "config/tls".
func (c *TLSConfig) Parse(prior string, now time.Time) (key string, err error) {
	if c == nil {
		return "", nil
	}
	if c.CA != "" {
		if _, err := certificates("ca_pem", c.CA); err != nil {
			return "", err
		}
	}
	if !isServerName(c.ServerName) {
		return "", Invalid("config/tls/server_name", "is neither a name nor an IP address")
	}
	if c.ClientKey == "" || c.ClientKey == Sealed {
		c.ClientKey = prior
	}
	if c.ClientCert == "" {
		if c.ClientKey != "" && c.ClientKey != prior {
			return "", Invalid("config/tls/client_key_pem", "needs client_cert_pem")
		}
		c.ClientKey = ""
		return "", nil
	}
	leaf, err := c.parsePair()
	if err != nil {
		return "", err
	}
	if !now.Before(leaf.NotAfter) {
		return "", Invalid("config/tls/client_cert_pem", "has expired")
	}
	key, c.ClientKey = c.ClientKey, Sealed
	return key, nil
}

// parsePair returns the certificate that is ours, once the key is known to be its.
func (c *TLSConfig) parsePair() (*x509.Certificate, error) {
	chain, err := certificates("client_cert_pem", c.ClientCert)
	if err != nil {
		return nil, err
	}
	if c.ClientKey == "" {
		return nil, Invalid("config/tls/client_key_pem", "is missing")
	}
	if len(c.ClientKey) > maxKeyPEM {
		return nil, Invalid("config/tls/client_key_pem", "is longer than 16 KiB")
	}
	block, _ := pem.Decode([]byte(c.ClientKey))
	switch {
	case block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, Invalid("config/tls/client_key_pem", "is not a private key in PEM")
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["Proc-Type"] != "":
		return nil, Invalid("config/tls/client_key_pem", "must not be protected by a passphrase")
	}
	// What exactly is wrong with a key is not told: the error might quote it.
	if _, err := tls.X509KeyPair([]byte(c.ClientCert), []byte(c.ClientKey)); err != nil {
		return nil, Invalid("config/tls/client_key_pem", "is not the key of client_cert_pem")
	}
	return chain[0], nil
}

// certificates reads PEM that holds certificates and nothing else.
func certificates(field, text string) ([]*x509.Certificate, error) {
	pointer := "config/tls/" + field
	if len(text) > maxCertPEM {
		return nil, Invalid(pointer, "is longer than 64 KiB")
	}
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, Invalid(pointer, "holds something other than certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, Invalid(pointer, "holds a certificate that cannot be read")
		}
		out = append(out, cert)
	}
	if out == nil {
		return nil, Invalid(pointer, "holds no certificate in PEM")
	}
	return out, nil
}

// isServerName reports whether s may be whom a certificate names; it may be empty.
func isServerName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	for i := range len(s) {
		if !IsPlain(s[i]) && s[i] != '.' {
			return false
		}
	}
	return len(s) <= 253
}

// Open makes the options ready for use; key is what Parse returned. A client that
// dials by address must set ServerName itself if it is empty.
func (c *TLSConfig) Open(key string) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c == nil {
		return out, nil
	}
	out.ServerName = c.ServerName
	if c.CA != "" {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, errors.New("the certificate authority cannot be read")
		}
	}
	if c.ClientCert != "" {
		pair, err := tls.X509KeyPair([]byte(c.ClientCert), []byte(key))
		if err != nil {
			return nil, errors.New("the client's certificate or key cannot be read") // and no more: it may quote the key
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// expiresSoon is how long before its end a certificate is worth a word.
const expiresSoon = 14 * 24 * time.Hour

// Note adds to what is said of a target which certificates, its or ours, end soon.
// No grade follows from that.
func (c *TLSConfig) Note(d *Durability, peer tls.ConnectionState, now time.Time) {
	if len(peer.PeerCertificates) > 0 {
		d.noteEnd("the target's certificate", peer.PeerCertificates[0].NotAfter, now)
	}
	if c != nil && c.ClientCert != "" {
		if chain, err := certificates("client_cert_pem", c.ClientCert); err == nil {
			d.noteEnd("the client's certificate", chain[0].NotAfter, now)
		}
	}
}

func (d *Durability) noteEnd(whose string, end, now time.Time) {
	day := end.UTC().Format(time.DateOnly)
	switch {
	case !now.Before(end):
		d.Reasons = append(d.Reasons, fmt.Sprintf("%s has expired on %s", whose, day))
	case end.Sub(now) < expiresSoon:
		d.Reasons = append(d.Reasons, fmt.Sprintf("%s expires on %s", whose, day))
	}
}
