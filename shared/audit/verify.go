package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Terms are what an export is held to.
type Terms struct {
	Keys        []PublicKey     // whose signatures count; none: whatever key signed the export
	Org         tenant.OrgID    // whose it must be; empty: whoever it says
	Known       map[uint64]Hash // what earlier heads said of the chain
	MaxFindings int             // how many are described; the rest are counted
}

// Verify reads an export and looks for everything that is wrong with it. It needs
// nothing but the export, and the keys of the terms to tell who wrote it. The error
// is that of the reader; what is wrong with the export is in the report.
func Verify(r io.Reader, t Terms) (Report, error) {
	v := verifier{Terms: t, report: Report{Count: map[FindingKind]int{}, Trusted: len(t.Keys) > 0}}
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		v.line++
		switch {
		case errors.Is(err, errLine):
			v.found(Malformed, "is longer than any line of an export")
		case errors.Is(err, io.ErrUnexpectedEOF):
			v.found(Truncated, "the line has no end")
		case err != nil:
			return v.report, err
		default:
			v.read(line)
		}
	}
	v.finish()
	return v.report, nil
}

// readLine returns the next line without its end; io.EOF if there is none,
// io.ErrUnexpectedEOF if it has no end, errLine if it is too long, which skips it.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(part) == 0 && len(line) == 0 && !long:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case long:
			return nil, errLine
		}
		return bytes.TrimSuffix(line, []byte("\n")), nil
	}
}

type verifier struct {
	Terms
	report   Report
	line     int
	contents Contents
	begun    bool
	next     uint64 // the seq that is due
	last     Hash   // of the entry before it
	headAt   uint64 // the seq of the newest head
	gaps     []span // of entries that have not come so far
}

// span is entries from one to another, both included.
type span struct {
	from, to uint64
	line     int // where they were missed
}

func (v *verifier) found(kind FindingKind, format string, args ...any) {
	v.foundAt(v.line, kind, format, args...)
}

func (v *verifier) foundAt(line int, kind FindingKind, format string, args ...any) {
	v.report.Count[kind]++
	if len(v.report.Findings) < v.MaxFindings {
		v.report.Findings = append(v.report.Findings, Finding{kind, line, fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) read(line []byte) {
	value, err := decodeLine(line)
	if err != nil {
		v.found(Malformed, "the line %v", err)
		// What it may have been is not known; what follows shows what is missing.
		return
	}
	if c, ok := value.(Contents); ok {
		v.begin(c)
		return
	}
	if !v.begun {
		v.begun = true
		v.found(Truncated, "the export does not begin with its contents")
		if e, ok := value.(Entry); ok {
			v.contents.Org, v.next, v.last = e.Org, e.Seq, e.Prev
		}
	}
	switch value := value.(type) {
	case Entry:
		v.entry(value)
	case Head:
		v.head(value)
	}
}

// begin takes the contents, which say what must follow.
func (v *verifier) begin(c Contents) {
	if v.begun {
		v.found(Reordered, "the contents stand at the beginning, and once")
		return
	}
	v.begun, v.contents, v.next, v.last = true, c, c.From, c.Prev
	r := &v.report
	r.Org, r.From, r.To, r.Hash, r.SignedAt = c.Org, c.From, c.To, c.Hash, c.At
	if v.Org != "" && v.Org != c.Org {
		v.found(Foreign, "the export is of organization %q", c.Org)
	}
	switch {
	case !c.Genuine():
		v.found(Forged, "the contents are not signed by the key that they name")
	case c.From == 0 || c.To < c.From-1:
		v.found(Malformed, "the contents are of entries %d to %d", c.From, c.To)
	case c.From == 1 && c.Prev != Hash{}:
		v.found(Altered, "there is nothing before entry 1")
	}
	if c.From > 0 {
		r.Forebears = c.From - 1
	}
	v.signedBy(c.Key)
}

// signedBy notes whose signature was met.
func (v *verifier) signedBy(k PublicKey) {
	if slices.Contains(v.report.Keys, k) {
		return
	}
	v.report.Keys = append(v.report.Keys, k)
	if len(v.Keys) > 0 && !slices.Contains(v.Keys, k) {
		v.report.Trusted = false
		v.found(Forged, "key %s is not one of those that are trusted", k)
	}
}

func (v *verifier) entry(e Entry) {
	if e.Org != v.contents.Org {
		v.found(Foreign, "entry %d is of organization %q", e.Seq, e.Org)
		return
	}
	if !e.Intact() {
		v.found(Altered, "entry %d is not what its hash says", e.Seq)
	}
	if e.Seq < v.next {
		v.late(e)
		return
	}
	if e.Seq > v.next {
		v.gaps = append(v.gaps, span{v.next, e.Seq - 1, v.line})
	} else if e.Prev != v.last {
		v.found(Altered, "entry %d does not follow from the one before", e.Seq)
	}
	if known, ok := v.Known[e.Seq]; ok && known != e.Hash {
		v.found(Rewritten, "a head that is known gives entry %d another hash", e.Seq)
	}
	if v.report.Entries == 0 {
		v.report.Begins = e.At
	}
	v.report.Ends = e.At
	v.report.Entries++
	v.next, v.last = e.Seq+1, e.Hash
}

// late takes an entry that should have come before.
func (v *verifier) late(e Entry) {
	v.found(Reordered, "entry %d comes after entry %d", e.Seq, v.next-1)
	for i, g := range v.gaps {
		if g.from <= e.Seq && e.Seq <= g.to {
			// It is there after all; what is missing are those around it.
			var rest []span
			if g.from < e.Seq {
				rest = append(rest, span{g.from, e.Seq - 1, g.line})
			}
			if e.Seq < g.to {
				rest = append(rest, span{e.Seq + 1, g.to, g.line})
			}
			v.gaps = slices.Replace(v.gaps, i, i+1, rest...)
			v.report.Entries++
			return
		}
	}
}

func (v *verifier) head(h Head) {
	v.report.Heads++
	if h.Org != v.contents.Org {
		v.found(Foreign, "the head of entry %d is of organization %q", h.Seq, h.Org)
		return
	}
	switch {
	case !h.Genuine():
		v.found(Forged, "the head of entry %d is not signed by the key that it names", h.Seq)
	case h.Seq+1 != v.next || h.Seq <= v.headAt:
		v.found(Reordered, "the head of entry %d comes after entry %d", h.Seq, v.next-1)
	case h.Hash != v.last:
		v.found(Altered, "the head of entry %d signs another hash", h.Seq)
	}
	v.headAt = max(v.headAt, h.Seq)
	v.signedBy(h.Key)
}

// finish compares what there was with what there should have been.
func (v *verifier) finish() {
	if !v.begun {
		v.foundAt(0, Truncated, "there is nothing in it")
		return
	}
	for _, g := range v.gaps {
		if g.from == g.to {
			v.foundAt(g.line, Gap, "entry %d is missing", g.from)
		} else {
			v.foundAt(g.line, Gap, "entries %d to %d are missing", g.from, g.to)
		}
	}
	c := v.contents
	if c.From == 0 {
		return // there were no contents, and that was said
	}
	switch {
	case v.next <= c.To:
		v.foundAt(0, Truncated, "it ends before entry %d, and should go to entry %d", v.next, c.To)
	case v.next > c.To+1:
		v.foundAt(0, Altered, "it goes on after entry %d, its last", c.To)
	case v.last != c.Hash:
		v.foundAt(0, Altered, "its last entry is not the one that its contents sign")
	}
	if v.report.Heads < c.Heads {
		v.foundAt(0, Gap, "%d of %d heads are missing", c.Heads-v.report.Heads, c.Heads)
	} else if v.report.Heads > c.Heads {
		v.foundAt(0, Reordered, "there are %d heads, and should be %d", v.report.Heads, c.Heads)
	}
	for _, seq := range slices.Sorted(maps.Keys(v.Known)) {
		hash := v.Known[seq]
		switch {
		case seq > c.To:
			v.foundAt(0, Rewritten, "a head that is known is of entry %d, and the chain ends at %d", seq, c.To)
		case seq == c.From-1 && hash != c.Prev:
			v.foundAt(0, Rewritten, "a head that is known gives entry %d another hash", seq)
		}
	}
}
