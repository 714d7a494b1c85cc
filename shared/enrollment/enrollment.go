// Package enrollment is how a node comes into a formation: the tokens that let it
// in, what it is given, and, in the bytes of peat-mesh, what it and an authority say
// to each other: a request, which is signed by the node, and a response, which is
// only as good as the connection.
//
//	token.go       tokens, and how often they may be used
//	grant.go       what a token gives
//	application.go a node that waits for an administrator
//	voucher.go     what an identity provider said of whose a key is
//	challenge.go   what a node's proof of its key answers
//	enrollment.go  what is said in a message, and what is believed of it
//	request.go     the bytes of a request
//	response.go    the bytes of a response
//	frame.go       either of them on a stream
//
// What is not here: the API over HTTP (functions/enroll), and the certificates
// themselves (shared/cert).
package enrollment

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// MaxMessageSize is the longest request or response that peat-mesh sends or takes.
const MaxMessageSize = 64 << 10

// Request is a node's wish to be a member. Its signature shows that the node has
// the key that it wants to have certified.
type Request struct {
	Subject   [ed25519.PublicKeySize]byte
	MeshID    string
	NodeID    string
	Tier      cert.Tier // which the node would like
	Token     TokenText // what lets it in; at most 65535 bytes
	At        time.Time // to the millisecond
	Signature [ed25519.SignatureSize]byte
}

// TokenText is a token as it stands in a request: it lets a node in, and does not print.
type TokenText string

const redacted = "[token]"

// Format hides the token from every verb of fmt.
func (TokenText) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText hides the token from encoders.
func (TokenText) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Sign returns r signed by the node whose key is to be certified.
func (r Request) Sign(key ed25519.PrivateKey) (Request, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Request{}, refusal.Keypair.New("signing key of %d bytes, must be %d", len(key), ed25519.PrivateKeySize)
	}
	r.Subject = [ed25519.PublicKeySize]byte(key.Public().(ed25519.PublicKey))
	r.At = r.At.UTC().Truncate(time.Millisecond)
	body, err := r.appendBody(nil)
	if err != nil {
		return Request{}, err
	}
	r.Signature = [ed25519.SignatureSize]byte(ed25519.Sign(key, body))
	return r, nil
}

// Verify tells whether whoever sent r has the key that it names. That the request
// is a new one it does not tell: see Fresh and ID.
func (r Request) Verify() error {
	body, err := r.appendBody(nil)
	if err != nil {
		return err
	}
	switch {
	case !point.OnCurve(r.Subject[:]):
		return refusal.InvalidPublicKey.New("subject: not a point of the curve")
	case point.Weak(r.Subject[:]):
		return refusal.InvalidPublicKey.New("subject: anybody can sign for it")
	case !ed25519.Verify(r.Subject[:], body, r.Signature[:]):
		return refusal.InvalidSignature.New("request: the signature is not the subject's")
	}
	return nil
}

// Fresh tells whether r was signed at most maxAge ago, and at most skew ahead of
// our clock. peat-mesh does not ask, so that a request that was overheard is good
// for as long as its token. Within that time, remember ID.
func (r Request) Fresh(now time.Time, maxAge, skew time.Duration) error {
	switch age := now.Sub(r.At); {
	case age > maxAge:
		return refusal.AuthFailed.New("request is more than %s old", maxAge)
	case age < -skew:
		return refusal.AuthFailed.New("request is more than %s ahead of our time", skew)
	}
	return nil
}

// ID names what was signed. A second request of the same id is a repetition, also
// if it is spelled differently.
func (r Request) ID() ([sha256.Size]byte, error) {
	body, err := r.appendBody(nil)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(body), nil
}

// Status is what became of a request.
type Status uint8

// The statuses.
const (
	Pending Status = iota
	Approved
	Denied
	Revoked
)

var statusNames = [...]string{"Pending", "Approved", "Denied", "Revoked"}

// String returns the name that peat-mesh has for the status.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// Response is the answer to a request.
type Response struct {
	Status          Status
	Reason          string            // for Denied and Revoked
	Certificate     *cert.Certificate // for Approved, as is the secret
	FormationSecret Secret            // empty if there is none
	At              time.Time         // to the millisecond
}

// Secret is a formation's secret as it is sent, of any length. It does not print.
type Secret []byte

// Format hides the secret from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Check holds r to what it should be, other than the codec, which takes what
// peat-mesh takes: an approval has a certificate for whom it was asked, and
// nothing else has one or tells the secret.
func (r Response) Check(of Request) error {
	switch {
	case r.Status != Approved && (r.Certificate != nil || len(r.FormationSecret) > 0):
		return refusal.Certificate.New("a response that is %s, with a certificate or secret", r.Status)
	case r.Status != Approved:
		return nil
	case r.Certificate == nil:
		return refusal.Certificate.New("approved without a certificate")
	case r.Certificate.Subject != of.Subject || r.Certificate.MeshID != of.MeshID || r.Certificate.NodeID != of.NodeID:
		return refusal.Certificate.New("approved with the certificate of somebody else")
	}
	return r.Certificate.Verify()
}
