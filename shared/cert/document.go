package cert

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// Peers pass certificates and revocations on as documents of these collections,
// one for each key. Such a document is unsigned: a certificate in it proves
// itself, a revocation proves nothing. The signed form is RevocationList.
const (
	CertificateCollection = "certificates"
	RevocationCollection  = "revocations"

	// MaxDocumentSize is the longest JSON that is read.
	MaxDocumentSize = 16 << 10
	// MaxReasonBytes is the longest reason in a revocation's document.
	MaxReasonBytes = 1 << 10
)

// CertificateDocument is what the mesh keeps of a certificate. Peers read the
// bytes only; the rest is for people.
type CertificateDocument struct {
	Data        string `json:"cert_data"` // the certificate in standard base64
	NodeID      string `json:"node_id"`
	Tier        string `json:"tier"`
	Subject     string `json:"subject"` // hexadecimal, as is the issuer
	Issuer      string `json:"issuer"`
	Permissions uint8  `json:"permissions"`
	ExpiresAtMS int64  `json:"expires_at_ms"` // 0: never
	WrittenAtMS int64  `json:"written_at_ms"`
}

// RevocationDocument is what the mesh keeps of a revocation. Peers take it for all
// the key has and ever will have.
type RevocationDocument struct {
	Subject     string `json:"subject"`
	Reason      string `json:"reason"`
	TimestampMS int64  `json:"timestamp_ms"`
}

// Document returns c as the mesh keeps it. Its times must fit into the integers
// of a document, which have a sign.
func (c Certificate) Document(writtenAt time.Time) (CertificateDocument, error) {
	b, err := c.Encode()
	if err != nil {
		return CertificateDocument{}, err
	}
	written, err := documentMillis(writtenAt)
	if err != nil {
		return CertificateDocument{}, err
	}
	var expires int64
	if !c.ExpiresAt.IsZero() {
		if expires, err = documentMillis(c.ExpiresAt); err != nil {
			return CertificateDocument{}, err
		}
	}
	return CertificateDocument{
		Data: base64.StdEncoding.EncodeToString(b), NodeID: c.NodeID, Tier: c.Tier.String(),
		Subject: hex.EncodeToString(c.Subject[:]), Issuer: hex.EncodeToString(c.Issuer[:]),
		Permissions: uint8(c.Permissions), ExpiresAtMS: expires, WrittenAtMS: written,
	}, nil
}

// Document returns r as the mesh keeps it, and whether it can: a revocation of one
// certificate among others of its key cannot be said there.
func (r Revocation) Document() (RevocationDocument, bool) {
	at, err := documentMillis(r.RevokedAt)
	if err != nil || !r.wholeKey() {
		return RevocationDocument{}, false
	}
	return RevocationDocument{Subject: hex.EncodeToString(r.Subject[:]), Reason: r.Reason.String(), TimestampMS: at}, true
}

// Key returns the document's name in the mesh.
func (d CertificateDocument) Key() string { return CertificateCollection + ":" + d.Subject }

// Key returns the document's name in the mesh.
func (d RevocationDocument) Key() string { return RevocationCollection + ":" + d.Subject }

// Certificate returns the certificate of a document that was found under key. What
// peat-mesh ignores is held against the certificate: a name or tier that it does
// not have, or the place of another key.
func (d CertificateDocument) Certificate(key string) (Certificate, error) {
	b, err := strictBase64(d.Data)
	if err != nil {
		return Certificate{}, err
	}
	c, err := DecodeExact(b)
	if err != nil {
		return Certificate{}, err
	}
	want, err := c.Document(time.UnixMilli(d.WrittenAtMS))
	if err != nil {
		return Certificate{}, err
	}
	if d != want || d.Key() != key {
		return Certificate{}, refusal.Certificate.New("the document says something else than its certificate")
	}
	return c, nil
}

// Revoked returns the key that a document found under key revokes.
func (d RevocationDocument) Revoked(key string) ([ed25519.PublicKeySize]byte, error) {
	subject, err := hex.DecodeString(d.Subject)
	switch {
	case err != nil || len(subject) != ed25519.PublicKeySize || hex.EncodeToString(subject) != d.Subject:
		return [ed25519.PublicKeySize]byte{}, refusal.InvalidPublicKey.New("revocation: subject must be 64 lower-case hexadecimal characters")
	case d.Key() != key:
		return [ed25519.PublicKeySize]byte{}, refusal.Certificate.New("the document revokes another key than that of its name")
	case len(d.Reason) > MaxReasonBytes || d.TimestampMS < 0:
		return [ed25519.PublicKeySize]byte{}, refusal.Serialization.New("revocation: reason too long, or time before 1970")
	}
	return [ed25519.PublicKeySize]byte(subject), nil
}

// ParseCertificateDocument reads the JSON of a document.
func ParseCertificateDocument(b []byte) (CertificateDocument, error) {
	return parseDocument[CertificateDocument](b)
}

// ParseRevocationDocument reads the JSON of a document.
func ParseRevocationDocument(b []byte) (RevocationDocument, error) {
	return parseDocument[RevocationDocument](b)
}

// parseDocument takes fields that are not known here for those of a later version.
func parseDocument[T any](b []byte) (d T, err error) {
	if len(b) > MaxDocumentSize {
		return d, refusal.Serialization.New("document of %d bytes is longer than %d", len(b), MaxDocumentSize)
	}
	if !utf8.Valid(b) {
		return d, refusal.Serialization.New("document is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	var none T
	if err := dec.Decode(&d); err != nil {
		return none, refusal.Serialization.New("document is not JSON of this form")
	}
	if _, err := dec.Token(); err != io.EOF {
		return none, refusal.Serialization.New("document followed by something else")
	}
	return d, nil
}

func documentMillis(t time.Time) (int64, error) {
	ms, err := toMillis(t)
	if err != nil || ms > math.MaxInt64 {
		return 0, refusal.Serialization.New("a time that does not fit into a document")
	}
	return int64(ms), nil
}

// strictBase64 refuses what encoding/base64 forgives even when strict.
func strictBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, refusal.Serialization.New("cert_data is not base64")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, refusal.Serialization.New("cert_data is not base64")
	}
	return b, nil
}
