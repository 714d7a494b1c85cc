package audit

import (
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// FindingKind is what is wrong.
type FindingKind string

// The kinds, each with what it means.
const (
	Malformed FindingKind = "malformed" // a line that no export has
	Altered   FindingKind = "altered"   // an entry that is not what was recorded, or not linked to the one before
	Gap       FindingKind = "gap"       // entries that are not there
	Reordered FindingKind = "reordered" // a line that is not where it belongs, or there twice
	Truncated FindingKind = "truncated" // the beginning or the end is not there
	Foreign   FindingKind = "foreign"   // a line of another organization
	Forged    FindingKind = "forged"    // a signature that is not the gateway's, or of something else
	Rewritten FindingKind = "rewritten" // another chain than the one that a known head signs
)

// FindingKinds lists them in the order in which a report shows them.
func FindingKinds() []FindingKind {
	return []FindingKind{Malformed, Altered, Gap, Reordered, Truncated, Foreign, Forged, Rewritten}
}

// Finding is one thing that is wrong with an export.
type Finding struct {
	Kind   FindingKind
	Line   int // 0: of the whole
	Detail string
}

func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.Kind, f.Detail)
	}
	return fmt.Sprintf("line %d: %s: %s", f.Line, f.Kind, f.Detail)
}

// Report is what an export holds, and what is wrong with it.
type Report struct {
	Org       tenant.OrgID
	From, To  uint64 // the entries that it says to hold
	Hash      Hash   // of the last
	SignedAt  time.Time
	Entries   int
	Heads     int
	Keys      []PublicKey // that signed anything in it
	Trusted   bool        // all of them are keys that were known before
	Count     map[FindingKind]int
	Findings  []Finding // the first of them
	Begins    time.Time // when the first entry was made
	Ends      time.Time
	Forebears uint64 // entries before the first, which the export does not hold
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return len(r.Count) == 0 }
