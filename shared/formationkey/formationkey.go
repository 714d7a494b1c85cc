// Package formationkey is the proof that a peer knows a formation's secret: a
// challenge, a response that only members can make, a verdict. It shows that
// somebody is a member and never which; certificates do that (shared/cert).
//
// What is not here: the streams over which the messages travel. peat-mesh and
// peat-protocol frame them differently.
package formationkey

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

const (
	// Size is the length of a nonce and of a response, in bytes.
	Size = 32
	// MaxIDBytes is the longest formation id in a challenge.
	MaxIDBytes = math.MaxUint16
	// MaxTextBytes is the longest text of a secret that is read.
	MaxTextBytes = 4 << 10

	keyInfo = "peat-protocol-v1-formation" // part of the mesh's protocol
)

// Key makes and checks the responses of one formation. Like every secret, it does
// not print.
type Key struct {
	formation string
	secret    genesis.Secret
}

// New returns the key of a formation with this secret.
func New(formation string, secret genesis.Secret) (Key, error) {
	if len(formation) > MaxIDBytes || !utf8.ValidString(formation) {
		return Key{}, refusal.AuthFailed.New("Invalid formation ID")
	}
	key, err := hkdf.Key(sha256.New, secret[:], []byte(formation), keyInfo, genesis.SecretSize)
	if err != nil {
		return Key{}, refusal.AuthFailed.New("derive formation key: %v", err)
	}
	return Key{formation: formation, secret: genesis.Secret(key)}, nil
}

// SecretFromText reads a secret as nodes are given it: in standard base64, with
// white space around it at most. As in peat-mesh, 32 bytes are the secret, and of
// any other number it is the SHA-256; Exact tells which.
func SecretFromText(text string) (secret genesis.Secret, exact bool, err error) {
	text = strings.TrimSpace(text)
	if len(text) > MaxTextBytes {
		return genesis.Secret{}, false, refusal.AuthFailed.New("Invalid base64 shared secret: longer than %d characters", MaxTextBytes)
	}
	// encoding/base64 skips the ends of lines, even when it is strict.
	if strings.ContainsAny(text, "\r\n") {
		return genesis.Secret{}, false, refusal.AuthFailed.New("Invalid base64 shared secret")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return genesis.Secret{}, false, refusal.AuthFailed.New("Invalid base64 shared secret")
	}
	defer clear(b)
	if len(b) == genesis.SecretSize {
		return genesis.Secret(b), true, nil
	}
	return genesis.Secret(sha256.Sum256(b)), false, nil
}

// Respond returns the response to a nonce. As in peat-mesh, a nonce may have any
// length.
func (k Key) Respond(nonce []byte) [Size]byte {
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write(nonce)
	mac.Write([]byte(k.formation))
	return [Size]byte(mac.Sum(nil))
}

// Accepts tells whether response is the one to nonce, in a time that says nothing
// of how much of it was right. A nonce must be new, and of full length.
func (k Key) Accepts(nonce [Size]byte, response [Size]byte) bool {
	want := k.Respond(nonce[:])
	return hmac.Equal(want[:], response[:])
}

// Challenge asks whether somebody is a member of a formation.
type Challenge struct {
	Formation string
	Nonce     [Size]byte
}

// Challenge returns one with a fresh nonce from random.
func (k Key) Challenge(random io.Reader) (Challenge, error) {
	c := Challenge{Formation: k.formation}
	if _, err := io.ReadFull(random, c.Nonce[:]); err != nil {
		return Challenge{}, err
	}
	return c, nil
}

// Encode returns c as peat-mesh sends it: the id after its 16-bit length, then the
// nonce.
func (c Challenge) Encode() ([]byte, error) {
	if len(c.Formation) > MaxIDBytes || !utf8.ValidString(c.Formation) {
		return nil, refusal.AuthFailed.New("Invalid formation ID")
	}
	out := binary.LittleEndian.AppendUint16(make([]byte, 0, 2+len(c.Formation)+Size), uint16(len(c.Formation)))
	out = append(out, c.Formation...)
	return append(out, c.Nonce[:]...), nil
}

// DecodeChallenge reads what Challenge.Encode wrote. As in peat-mesh, bytes that
// follow are ignored.
func DecodeChallenge(b []byte) (Challenge, error) {
	if len(b) < 2 {
		return Challenge{}, refusal.AuthFailed.New("Challenge too short: %d bytes", len(b))
	}
	n := int(binary.LittleEndian.Uint16(b))
	if b = b[2:]; len(b) < n+Size {
		return Challenge{}, refusal.AuthFailed.New("Challenge truncated: %d bytes", len(b)+2)
	}
	if !utf8.Valid(b[:n]) {
		return Challenge{}, refusal.AuthFailed.New("Invalid formation ID: not UTF-8")
	}
	return Challenge{Formation: string(b[:n]), Nonce: [Size]byte(b[n:])}, nil
}

// DecodeResponse reads a response. As in peat-mesh, bytes that follow are ignored.
func DecodeResponse(b []byte) ([Size]byte, error) {
	if len(b) < Size {
		return [Size]byte{}, refusal.AuthFailed.New("Response too short: %d bytes", len(b))
	}
	return [Size]byte(b), nil
}

// EncodeVerdict returns the byte that tells a peer whether it was believed.
func EncodeVerdict(accepted bool) byte {
	if accepted {
		return 1
	}
	return 0
}

// DecodeVerdict tells whether a verdict is that one was believed, which is one
// byte of 256.
func DecodeVerdict(b byte) bool { return b == 1 }

// Format shows the formation and nothing else: secrets in unexported fields would
// print, see genesis.Secret.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "key of formation %q", k.formation) }
