package automerge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// DocumentID names a document among automerge-repo peers: sixteen bytes and a
// checksum, in base 58.
type DocumentID string

// ErrDocumentID says that a string is no document id.
var ErrDocumentID = errors.New("automerge: not a document id")

const (
	base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

	documentIDBytes    = 16
	documentIDChecksum = 4
	// Twenty bytes take 28 digits at most; leading zeros take one each.
	maxDocumentID = 28
)

// ParseDocumentID checks a document id, without the prefix "automerge:".
func ParseDocumentID(s string) (DocumentID, error) {
	if len(s) > maxDocumentID {
		return "", fmt.Errorf("%w: %d characters", ErrDocumentID, len(s))
	}
	b, ok := decodeBase58(s)
	if !ok || len(b) != documentIDBytes+documentIDChecksum {
		return "", fmt.Errorf("%w: %q", ErrDocumentID, s)
	}
	if encodeDocumentID([documentIDBytes]byte(b)) != s {
		return "", fmt.Errorf("%w: checksum of %q", ErrDocumentID, s)
	}
	return DocumentID(s), nil
}

// NewDocumentID writes sixteen bytes, a random UUID as a rule, as a document id.
func NewDocumentID(b [16]byte) DocumentID { return DocumentID(encodeDocumentID(b)) }

func (id DocumentID) String() string { return string(id) }

func encodeDocumentID(id [documentIDBytes]byte) string {
	once := sha256.Sum256(id[:])
	twice := sha256.Sum256(once[:])
	return encodeBase58(append(id[:], twice[:documentIDChecksum]...))
}

func encodeBase58(b []byte) string {
	var digits []byte
	n, mod, radix := new(big.Int).SetBytes(b), new(big.Int), big.NewInt(int64(len(base58)))
	for n.Sign() > 0 {
		n.DivMod(n, radix, mod)
		digits = append(digits, base58[mod.Int64()])
	}
	for i := 0; i < len(b) && b[i] == 0; i++ {
		digits = append(digits, base58[0])
	}
	for i, j := 0, len(digits)-1; i < j; i, j = i+1, j-1 {
		digits[i], digits[j] = digits[j], digits[i]
	}
	return string(digits)
}

func decodeBase58(s string) ([]byte, bool) {
	n, radix := new(big.Int), big.NewInt(int64(len(base58)))
	zeros := 0
	for i, c := range []byte(s) {
		d := strings.IndexByte(base58, c)
		if d < 0 {
			return nil, false
		}
		if d == 0 && zeros == i {
			zeros++
		}
		n.Mul(n, radix).Add(n, big.NewInt(int64(d)))
	}
	return append(make([]byte, zeros), n.Bytes()...), true
}
