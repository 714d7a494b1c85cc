// Package audit is the record of administrative acts: what an entry says, how each
// is linked to the one before, and how anybody can tell later that none was
// changed, left out or put in.
//
// Each organization has a chain of its own. An entry's hash covers the entry and
// the hash before it; a head, the hash of the newest entry signed with the
// gateway's audit key, so covers all. Where entries are kept is the store's matter,
// and when they are linked and signed that of functions/federation.
//
//	audit.go   acts, entries and their hash
//	redact.go  what of an act is not written down
//	head.go    heads, signed
//	key.go     the key they are signed with
//	export.go  a chain as lines of JSON
//	verify.go  what is wrong with such lines; finding.go, how that is said
package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Gateway stands where an organization would for acts that concern none. No
// organization can have this name.
const Gateway tenant.OrgID = "_gateway"

// Act is one administrative act, as whoever does it reports it. Detail says what
// was and what is now, under "before" and "after" where there is both.
type Act struct {
	Org       tenant.OrgID // empty: Gateway
	At        time.Time
	Actor     string
	Action    string // a verb on a noun, such as formation.create
	Target    string
	RequestID string
	Detail    map[string]any
}

// OrgCreate is the act with which an organization begins. What one of the same
// name did before is not its business.
const OrgCreate = "org.create"

// Hash is the hash of an entry, which covers the one before. That of no entry is
// all zeros.
type Hash [sha256.Size]byte

// ParseHash reads 64 hexadecimal characters.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if err := h.UnmarshalText([]byte(s)); err != nil {
		return Hash{}, err
	}
	return h, nil
}

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(h) {
		return errors.New("a hash is 64 hexadecimal characters")
	}
	*h = Hash(b)
	return nil
}

// Entry is an act at its place in the chain.
type Entry struct {
	Org       tenant.OrgID    `json:"org_id"`
	Seq       uint64          `json:"seq"`
	ID        string          `json:"id"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	Action    string          `json:"action"`
	Target    string          `json:"target"`
	RequestID string          `json:"request_id"`
	Detail    json.RawMessage `json:"detail"`
	Prev      Hash            `json:"prev"`
	Hash      Hash            `json:"hash"`
}

// Link returns the entry as the one after prev, at seq.
func (e Entry) Link(seq uint64, prev Hash) Entry {
	e.Seq, e.Prev = seq, prev
	e.Hash = e.sum()
	return e
}

// Intact reports whether the entry's hash is that of what it says.
func (e Entry) Intact() bool { return e.Hash == e.sum() }

// What is hashed or signed begins with what it is, so that nothing that is signed
// as one thing can be shown as another, and with the version of its encoding.
const (
	entryPurpose  = "peat-gateway/audit/entry\x00\x01"
	headPurpose   = "peat-gateway/audit/head\x00\x01"
	exportPurpose = "peat-gateway/audit/export\x00\x01"
)

func (e Entry) sum() Hash {
	m := message(entryPurpose)
	m = m.raw(e.Prev[:]).number(e.Seq).text(string(e.Org)).text(e.ID).time(e.At)
	m = m.text(e.Actor).text(e.Action).text(e.Target).text(e.RequestID).text(string(e.Detail))
	return sha256.Sum256(m)
}

// message is values after each other, so that no two lists of them give the same
// bytes: numbers in 64 bits, texts after their length in 32, both little-endian.
type message []byte

func (m message) raw(b []byte) message     { return append(m, b...) }
func (m message) number(n uint64) message  { return binary.LittleEndian.AppendUint64(m, n) }
func (m message) time(t time.Time) message { return m.number(uint64(t.UnixMicro())) }
func (m message) text(s string) message {
	return append(binary.LittleEndian.AppendUint32(m, uint32(len(s))), s...)
}
