package authority

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Possession is what a node signs to show that a key is its own. It names what it
// is for and where, so that it is good for nothing else and nowhere else.
type Possession struct {
	Purpose Purpose
	Key     tenant.Key
	MeshID  string
	NodeID  string
	Subject []byte // the public key
	Serial  string // of the certificate that is renewed, or that a ticket is asked for with
	Nonce   string // of the challenge that an enrollment answers, where there is one
	At      time.Time
}

// Purpose is what a proof of possession is for.
type Purpose string

// The purposes.
const (
	ForIssue   Purpose = "issue"
	ForRenewal Purpose = "renew"
	ForEnroll  Purpose = "enroll"
	ForTicket  Purpose = "sync-ticket"
)

// ProofWindow is how far the node's clock may be from ours, either way. Within it,
// what was taken once is remembered with the node id; see Node.ProvedAt.
const ProofWindow = 5 * time.Minute

// possessionContext begins every proof. Its 32 bytes are no point of the curve, so
// that no proof is ever a certificate or an enrollment request of peat-mesh, which
// begin with a key.
const possessionContext = "peat-gateway/possession/v1\x00\x00\x00\x00\x00\x00"

// Message returns the bytes that are signed: the context, then purpose,
// organization, formation, mesh id, node id, subject and what is answered, each
// after its length in two bytes, little-endian, and the time in milliseconds in
// eight. What is answered is the serial or the nonce: no purpose has both.
func (p Possession) Message() []byte {
	out := []byte(possessionContext)
	for _, part := range []string{string(p.Purpose), string(p.Key.Org), string(p.Key.App), p.MeshID, p.NodeID, string(p.Subject), cmp.Or(p.Serial, p.Nonce)} {
		out = binary.LittleEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	return binary.LittleEndian.AppendUint64(out, uint64(p.At.UnixMilli()))
}

// Fresh tells whether the proof's time is near enough to now.
func (p Possession) Fresh(now time.Time) bool {
	return p.At.Sub(now).Abs() <= ProofWindow
}

// Signed tells whether the signature is the subject's.
func (p Possession) Signed(signature []byte) bool {
	return len(p.Subject) == ed25519.PublicKeySize && ed25519.Verify(p.Subject, p.Message(), signature)
}
