package completeness

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/change"
)

// MaxFindings is how many findings a result shows.
const MaxFindings = 100

// Comparison compares what a sink acknowledged of a formation with the log. It is
// told first what the sink has (Receipt, Omit, Hold), all of it as of one moment,
// then fed the log (Add), and then says how it came out (Result).
//
// It keeps one small struct per document, however long the log is.
type Comparison struct {
	start, cursor uint64
	wanted        func(change.Settled) bool
	documents     map[string]*document
	through       uint64
	log           []Finding // on the log itself
	result        Result    // counted so far
}

// document is the two sides of one document. Only their folds are there to be
// compared, so the rest is to say as well as can be told where they part.
type document struct {
	receipt   Receipt
	owed      Receipt // the fold over what the log owes
	heldFrom  uint64  // 0 is not held
	omissions []Omission

	agreed bool   // the fold was once what the receipt says
	after  uint64 // the first owed seq after that
	upTo   uint64 // how many are owed up to receipt.Seq
	last   bool   // receipt.Seq is owed, with the receipt's hash
	beyond uint64 // the first owed seq after receipt.Seq
}

// NewComparison compares what was owed after the position start and up to the
// cursor. wanted is the sink's filter; nil wants everything.
func NewComparison(start, cursor uint64, wanted func(change.Settled) bool) *Comparison {
	return &Comparison{start: start, cursor: cursor, wanted: wanted, through: start, documents: map[string]*document{}}
}

// Receipt says what the sink has acknowledged of one document.
func (c *Comparison) Receipt(r Receipt) {
	d := c.document(r.Document)
	d.receipt = r
	d.agreed = d.owed.Count == r.Count && d.owed.Digest == r.Digest
}

// Omit says what an operator gave up.
func (c *Comparison) Omit(o Omission) {
	d := c.document(o.Document)
	d.omissions = append(d.omissions, o)
}

// Hold says that nothing of the document was delivered from the seq on.
func (c *Comparison) Hold(document string, fromSeq uint64) {
	c.document(document).heldFrom = fromSeq
}

func (c *Comparison) document(name string) *document {
	d := c.documents[name]
	if d == nil {
		d = &document{agreed: true} // nothing acknowledged, nothing owed
		c.documents[name] = d
	}
	return d
}

// Add takes the next change of the log. They come in the order of position,
// without gaps, from the one after start or an earlier one; what is beyond the
// cursor is not looked at.
func (c *Comparison) Add(s change.Settled) {
	if s.Position <= c.start || s.Position > c.cursor {
		return
	}
	if s.Position != c.through+1 && len(c.log) < MaxFindings {
		c.log = append(c.log, Finding{Kind: Missing, Detail: fmt.Sprintf("the log goes from position %d to %d", c.through, s.Position)})
	}
	c.through = s.Position
	d := c.document(s.Document)
	if s.Seq <= d.receipt.Floor {
		return
	}
	omitted := d.omitted(s.Seq)
	// A marker goes out whatever the filter says.
	if omitted != Skip && c.wanted != nil && !c.wanted(s) {
		return
	}
	if d.heldFrom != 0 && s.Seq >= d.heldFrom {
		c.result.Held++
		return
	}
	if omitted != "" {
		c.result.Omitted++
	}
	if omitted == Purge {
		return
	}
	c.result.Events++
	d.owe(s.Seq, s.Hash)
}

// omitted says how the change was given up; empty if it was not.
func (d *document) omitted(seq uint64) OmissionKind {
	for len(d.omissions) > 0 && d.omissions[0].To < seq {
		d.omissions = d.omissions[1:] // the log does not come back to it
	}
	for _, o := range d.omissions {
		if o.From <= seq && seq <= o.To {
			return o.Kind
		}
	}
	return ""
}

func (d *document) owe(seq uint64, hash change.Hash) {
	if d.agreed && d.after == 0 {
		d.after = seq
	}
	d.owed.Add(seq, hash)
	if seq > d.receipt.Seq {
		if d.beyond == 0 {
			d.beyond = seq
		}
		return
	}
	d.upTo = d.owed.Count
	d.last = seq == d.receipt.Seq && hash == d.receipt.Hash
	if d.owed.Count == d.receipt.Count && d.owed.Digest == d.receipt.Digest {
		d.agreed, d.after = true, 0
	}
}

// FindingKind is what is wrong with a document.
type FindingKind string

// The kinds.
const (
	Missing    FindingKind = "missing"    // owed, and not acknowledged
	Unexpected FindingKind = "unexpected" // acknowledged, and not owed
	Differs    FindingKind = "digest"     // as many as owed, but not the same ones in the same order
)

// Finding is one thing that is wrong.
type Finding struct {
	Document string      `json:"document"` // empty if it is the log itself
	Kind     FindingKind `json:"kind"`
	Seq      uint64      `json:"seq,omitempty"` // where, if that can be told
	Detail   string      `json:"detail"`
}

// Result is how a comparison came out.
type Result struct {
	Complete  bool      `json:"complete"`  // every event owed was acknowledged, and no other
	Through   uint64    `json:"through"`   // position in the log up to which this holds
	Documents uint64    `json:"documents"` // in the log or with a receipt
	Events    uint64    `json:"events"`    // owed by now; a skipped change's marker is one
	Omitted   uint64    `json:"omitted"`   // changes that an operator gave up
	Held      uint64    `json:"held"`      // changes that wait with their document
	Found     uint64    `json:"found"`     // how many findings there were
	Findings  []Finding `json:"findings"`  // up to MaxFindings of them
}

// Result says how the comparison came out.
func (c *Comparison) Result() Result {
	all := slices.Clone(c.log)
	if c.through < c.cursor {
		all = append(all, Finding{Kind: Missing, Detail: fmt.Sprintf("the log ends at position %d, and the cursor is at %d", c.through, c.cursor)})
	}
	for name, d := range c.documents {
		all = append(all, d.findings(name)...)
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Document, b.Document), cmp.Compare(a.Seq, b.Seq))
	})
	r := c.result
	r.Through, r.Documents, r.Found = c.through, uint64(len(c.documents)), uint64(len(all))
	r.Findings = all[:min(len(all), MaxFindings)]
	r.Complete = r.Found == 0
	return r
}

// findings says where the document's two sides part.
func (d *document) findings(name string) []Finding {
	r, owed := d.receipt, d.owed
	// A receipt that was begun anew still names the last event before its floor.
	last := r.Seq == owed.Seq && r.Hash == owed.Hash || r.Count == 0 && r.Seq <= r.Floor
	if last && r.Count == owed.Count && r.Digest == owed.Digest {
		return nil
	}
	if d.agreed && d.after != 0 {
		return []Finding{{name, Missing, d.after, fmt.Sprintf("%d of %d owed were not acknowledged; what was before is there", owed.Count-r.Count, owed.Count)}}
	}
	var out []Finding
	switch {
	case r.Count < d.upTo:
		out = append(out, Finding{name, Missing, 0, fmt.Sprintf("up to seq %d, %d are owed and %d were acknowledged", r.Seq, d.upTo, r.Count)})
	case r.Count > d.upTo && !d.last:
		out = append(out, Finding{name, Unexpected, r.Seq, fmt.Sprintf("up to seq %d, %d are owed and %d were acknowledged; the last is not owed", r.Seq, d.upTo, r.Count)})
	case r.Count > d.upTo:
		out = append(out, Finding{name, Unexpected, 0, fmt.Sprintf("up to seq %d, %d are owed and %d were acknowledged", r.Seq, d.upTo, r.Count)})
	case !d.last:
		out = append(out, Finding{name, Differs, r.Seq, "the last event acknowledged is not one that is owed"})
	default:
		out = append(out, Finding{name, Differs, 0, fmt.Sprintf("%d were acknowledged as owed, but others, or in another order", r.Count)})
	}
	if d.beyond != 0 {
		out = append(out, Finding{name, Missing, d.beyond, fmt.Sprintf("nothing after seq %d was acknowledged", r.Seq)})
	}
	return out
}
