// Package completeness tells whether anything is missing: from what a sink has
// acknowledged, compared with the log (Comparison), and from a file of received
// events, looked at alone (Verifier). It neither reads the log nor stores anything
// (shared/store does).
package completeness

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
)

// Receipt is what a sink has acknowledged of one document, as far as it was owed.
// One that is begun anew, for another filter, has a Floor, no Count and no Digest,
// and keeps Seq and Hash: the next event's prev names what went before.
type Receipt struct {
	Document string
	Floor    uint64      // nothing up to this seq is owed
	Seq      uint64      // of the last event; 0 before the first
	Count    uint64      // how many events there were
	Hash     change.Hash // of the last event
	Digest   [32]byte    // over all that were counted, in their order; zero before the first
}

// Add folds one delivered event in. Each event is folded once, in the order in
// which the sink got it: whoever needs to know whether it was already, looks at Seq.
// A change that was skipped is folded like any other, for its marker went out.
func (r *Receipt) Add(seq uint64, hash change.Hash) {
	var in [len(r.Digest) + 8 + len(hash)]byte
	copy(in[:], r.Digest[:])
	binary.BigEndian.PutUint64(in[len(r.Digest):], seq)
	copy(in[len(r.Digest)+8:], hash[:])
	r.Digest = sha256.Sum256(in[:])
	r.Seq, r.Hash = seq, hash
	r.Count++
}

// OmissionKind is how an operator gave changes up.
type OmissionKind string

// The kinds.
const (
	Skip  OmissionKind = "skip"  // a marker went in the place of the change
	Purge OmissionKind = "purge" // nothing did
)

// Omission is a run of a document's changes that an operator gave up at a sink.
type Omission struct {
	Document string
	From, To uint64 // seq, both included
	Kind     OmissionKind
	At       time.Time
}
