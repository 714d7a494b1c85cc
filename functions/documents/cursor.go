package documents

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// fingerprint tells a formation's log from every other, also from the log of an
// earlier formation with the same name.
type fingerprint [8]byte

func fingerprintOf(f tenant.Formation) fingerprint {
	h := sha256.New()
	for _, part := range []string{string(f.Org), string(f.App), f.MeshID, fmt.Sprint(f.CreatedAt.UnixMicro())} {
		fmt.Fprintf(h, "%d:%s", len(part), part) // with its length, so that parts do not run into each other
	}
	return fingerprint(h.Sum(nil)[:len(fingerprint{})])
}

// cursor is a place in a log: after the event at this position. It is no secret
// and guards nothing; the fingerprint is there to notice mistakes.
type cursor struct {
	log      fingerprint
	position uint64
}

// cursorVersion lets a later release tell its cursors from these.
const cursorVersion = 1

const cursorBytes = 1 + len(fingerprint{}) + 8

// String is the text that callers get. The same place always has the same text.
func (c cursor) String() string {
	b := append([]byte{cursorVersion}, c.log[:]...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, c.position))
}

// parseCursor reads what String wrote, and nothing else.
func parseCursor(s string) (cursor, error) {
	refused := fault.Malformed.New("it is not a cursor that this API gave out")
	if len(s) != base64.RawURLEncoding.EncodedLen(cursorBytes) || strings.ContainsAny(s, "\r\n") { // which base64 would skip
		return cursor{}, refused
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != cursorBytes || b[0] != cursorVersion {
		return cursor{}, refused
	}
	c := cursor{fingerprint(b[1 : 1+len(fingerprint{})]), binary.BigEndian.Uint64(b[cursorBytes-8:])}
	if c.position > math.MaxInt64 { // no database counts further
		return cursor{}, refused
	}
	return c, nil
}
