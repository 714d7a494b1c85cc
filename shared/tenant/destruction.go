package tenant

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Destruction says that a formation has ended: which one, when, by whose word, and
// what ended with it. Every certificate of its authorities is void from then on.
type Destruction struct {
	Key
	MeshID       string
	Authority    []byte // the Ed25519 key that signed for the formation last, and signs this
	CreatedAt    time.Time
	At           time.Time
	By           string // the principal
	RequestID    string
	Certificates uint64 // that were good until then
	Position     uint64 // the last of the log
}

// SignedDestruction is a Destruction as it is kept and handed out: the statement,
// and the authority's signature over all of it. The signature is empty if the
// authority's key could not be opened any more.
type SignedDestruction struct {
	ID        string
	At        time.Time
	Statement []byte
	Signature []byte
}

// destructionDomain begins every statement. Its first 32 bytes are no point of the
// curve, and a certificate begins with a key: no signature over the one is ever one
// over the other.
var destructionDomain = pad("peat-gateway formation destruction record v1", 64)

func pad(s string, n int) []byte { return append([]byte(s), make([]byte, n-len(s))...) }

// maxStatement is longer than any statement: three texts of a few hundred bytes.
const maxStatement = 2048

// Encode returns the statement: the domain, then texts with their lengths (two
// bytes) and numbers (eight bytes), big-endian; times are microseconds since 1970.
func (d Destruction) Encode() []byte {
	b := bytes.Clone(destructionDomain)
	for _, s := range []string{string(d.Org), string(d.App), d.MeshID, string(d.Authority), d.By, d.RequestID} {
		s = s[:min(len(s), 255)] // of a principal's name and a request's id: the others are shorter
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	for _, n := range []uint64{uint64(d.CreatedAt.UnixMicro()), uint64(d.At.UnixMicro()), d.Certificates, d.Position} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// DecodeDestruction reads a statement. It takes what Encode writes and nothing else.
func DecodeDestruction(statement []byte) (Destruction, error) {
	rest, ok := bytes.CutPrefix(statement, destructionDomain)
	if !ok || len(statement) > maxStatement {
		return Destruction{}, fault.Malformed.New("this is no record of a formation's destruction")
	}
	cut := fault.Malformed.New("the record of a destruction is cut off, or goes on after its end")
	var texts [6]string
	for i := range texts {
		if len(rest) < 2 {
			return Destruction{}, cut
		}
		n := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; n > 255 || len(rest) < n {
			return Destruction{}, cut
		}
		texts[i], rest = string(rest[:n]), rest[n:]
	}
	var numbers [4]uint64
	if len(rest) != 8*len(numbers) {
		return Destruction{}, cut
	}
	for i := range numbers {
		numbers[i] = binary.BigEndian.Uint64(rest[8*i:])
	}
	d := Destruction{
		MeshID: texts[2], Authority: []byte(texts[3]), By: texts[4], RequestID: texts[5],
		CreatedAt: time.UnixMicro(int64(numbers[0])).UTC(), At: time.UnixMicro(int64(numbers[1])).UTC(), Certificates: numbers[2], Position: numbers[3],
	}
	var errs [2]error
	d.Org, errs[0] = ParseOrgID(texts[0])
	d.App, errs[1] = ParseAppID(texts[1])
	if err := errors.Join(errs[:]...); err != nil {
		return Destruction{}, err
	}
	if len(d.Authority) != ed25519.PublicKeySize {
		return Destruction{}, fault.Malformed.New("the record of a destruction names an authority of a wrong length")
	}
	return d, nil
}

// Sign signs a statement with the authority's key.
func (d Destruction) Sign(key ed25519.PrivateKey, id string) SignedDestruction {
	statement := d.Encode()
	return SignedDestruction{ID: id, At: d.At, Statement: statement, Signature: ed25519.Sign(key, statement)}
}

// Unsigned is Sign for a formation whose key cannot be opened any more.
func (d Destruction) Unsigned(id string) SignedDestruction {
	return SignedDestruction{ID: id, At: d.At, Statement: d.Encode(), Signature: []byte{}}
}

// Verify reads a signed statement and fails unless the authority that it names
// signed it. Whose authority that was is for the caller to know.
func (s SignedDestruction) Verify() (Destruction, error) {
	d, err := DecodeDestruction(s.Statement)
	if err != nil {
		return Destruction{}, err
	}
	if !ed25519.Verify(d.Authority, s.Statement, s.Signature) {
		return Destruction{}, fault.Invalid.New("the record of a destruction is not signed by the authority it names")
	}
	return d, nil
}
