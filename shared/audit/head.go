package audit

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Head is the word of whoever holds the audit key that a chain had this hash at
// this entry, at this time. As the hash covers all entries up to it, so does a head.
type Head struct {
	Org       tenant.OrgID `json:"org_id"`
	Seq       uint64       `json:"seq"`
	Hash      Hash         `json:"hash"`
	At        time.Time    `json:"at"`
	Key       PublicKey    `json:"key"`
	Signature Signature    `json:"signature"`
}

// Head signs the hash of an entry.
func (k Key) Head(org tenant.OrgID, seq uint64, hash Hash, at time.Time) Head {
	h := Head{Org: org, Seq: seq, Hash: hash, At: at, Key: k.Public()}
	h.Signature = k.sign(h.message())
	return h
}

// Genuine reports whether the head was signed with the key that it names. Whether
// that is the gateway's is for whoever asks to know.
func (h Head) Genuine() bool { return h.Key.verifies(h.message(), h.Signature) }

func (h Head) message() []byte {
	return message(headPurpose).text(string(h.Org)).number(h.Seq).raw(h.Hash[:]).time(h.At)
}

// Contents is what an export begins with: what must be in it. It is signed, so that
// neither the beginning nor the end can be cut off.
type Contents struct {
	Org       tenant.OrgID `json:"org_id"`
	From      uint64       `json:"from"`  // the first entry
	Prev      Hash         `json:"prev"`  // the hash of the one before, which is not in here
	To        uint64       `json:"to"`    // the last; From-1 if there is none
	Hash      Hash         `json:"hash"`  // its hash
	Heads     int          `json:"heads"` // how many heads are between the entries
	At        time.Time    `json:"at"`
	Key       PublicKey    `json:"key"`
	Signature Signature    `json:"signature"`
}

// Contents signs what an export holds.
func (k Key) Contents(c Contents) Contents {
	c.Key = k.Public()
	c.Signature = k.sign(c.message())
	return c
}

// Genuine is that of Head.
func (c Contents) Genuine() bool { return c.Key.verifies(c.message(), c.Signature) }

func (c Contents) message() []byte {
	m := message(exportPurpose).text(string(c.Org)).number(c.From).raw(c.Prev[:]).number(c.To).raw(c.Hash[:])
	return m.number(uint64(c.Heads)).time(c.At)
}
