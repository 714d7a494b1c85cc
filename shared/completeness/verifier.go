package completeness

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// maxLine is how long a line of a received file may be if the terms do not say.
const maxLine = 64 << 20

// Terms are what a received file is held to.
type Terms struct {
	Org         tenant.OrgID // whose events; empty is whose the first one is
	App         string       // which formation's, or delivery.AllFormations; empty is which the first one is of
	FromSeqOne  bool         // every document begins with its first change
	Every       bool         // seq makes no jumps: the sink has no filter
	MaxProblems int          // how many problems are kept
	MaxLine     int          // how many bytes a line may have; 0 is 64 MiB
}

// ProblemKind is what is wrong with a line.
type ProblemKind string

// The kinds.
const (
	Gap       ProblemKind = "gap"       // what comes before it is not there
	Order     ProblemKind = "order"     // arrives first after a later one of its document
	Conflict  ProblemKind = "conflict"  // says something else than another event of the same id or seq
	Foreign   ProblemKind = "foreign"   // of another organization or formation
	Malformed ProblemKind = "malformed" // cannot be read, or contradicts itself
)

// ProblemKinds lists the kinds, the worst first.
func ProblemKinds() []ProblemKind { return []ProblemKind{Foreign, Gap, Order, Conflict, Malformed} }

// Problem is one thing that is wrong with a received file.
type Problem struct {
	File     string
	Line     int
	Kind     ProblemKind
	Document string
	Detail   string
}

// Report is what a Verifier has seen so far.
type Report struct {
	Org       tenant.OrgID
	App       string
	Lines     int
	Documents int
	Changes   int // that arrived for the first time
	Skipped   int // markers of changes that will not come
	Repeats   int
	Replayed  int
	Others    int // events that are not about a change, such as a sink's test
	Problems  []Problem
	Found     map[ProblemKind]int
}

// Verifier checks received events, one or a batch in a line of JSON, by themselves:
// within each document prev must name the event before, first arrivals must come in
// the order of seq, and a repeat must say what it said before. Events of a replay are
// held to the same order apart from the others, but may leave some out.
//
// It keeps 56 bytes for a document and 16 for an event, and about as much again for
// the empty places of its tables.
type Verifier struct {
	terms  Terms
	report Report
	file   string
	line   int
	last   map[streamKey]latest
	seen   map[eventKey]uint32 // what it said
	buf    bytes.Buffer        // the line
	data   bytes.Buffer        // an event's data without insignificant space
}

// streamKey is a document, live or in one replay, and eventKey an event in it:
// digests cut short, so that long names cost no more than short ones.
type (
	streamKey [16]byte
	eventKey  [12]byte
)

// latest is the newest event of a document.
type latest struct {
	seq  uint64
	hash change.Hash
}

// NewVerifier returns a verifier that has seen nothing.
func NewVerifier(terms Terms) *Verifier {
	if terms.MaxLine == 0 {
		terms.MaxLine = maxLine
	}
	return &Verifier{
		terms: terms, report: Report{Org: terms.Org, App: terms.App, Found: map[ProblemKind]int{}},
		last: map[streamKey]latest{}, seen: map[eventKey]uint32{},
	}
}

// Report returns what was seen so far.
func (v *Verifier) Report() Report { return v.report }

// Read checks a file as what comes after everything read before. The error is the
// reader's; what is wrong with the content is in the report.
func (v *Verifier) Read(name string, r io.Reader) error {
	v.file, v.line = name, 0
	lines := bufio.NewReaderSize(r, 1<<16)
	for {
		line, long, err := v.next(lines)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s, line %d: %w", name, v.line, err)
		}
		whole := err == nil
		if whole || len(line) > 0 || long {
			v.report.Lines++
		}
		switch line = bytes.TrimSpace(line); {
		case long:
			v.problem(Malformed, "", "longer than %d bytes", v.terms.MaxLine)
		case len(line) > 0:
			v.check(line, whole)
		}
		if !whole {
			return nil
		}
	}
}

// next reads a line into the verifier's buffer. One that is too long is read to
// its end and not kept.
func (v *Verifier) next(r *bufio.Reader) (line []byte, long bool, err error) {
	v.line++
	v.buf.Reset()
	for {
		piece, err := r.ReadSlice('\n')
		if long = long || v.buf.Len()+len(piece) > v.terms.MaxLine; !long {
			v.buf.Write(piece)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return v.buf.Bytes(), long, err
		}
	}
}

func (v *Verifier) problem(kind ProblemKind, document, format string, args ...any) {
	v.report.Found[kind]++
	if len(v.report.Problems) < v.terms.MaxProblems {
		v.report.Problems = append(v.report.Problems, Problem{v.file, v.line, kind, short(document), short(fmt.Sprintf(format, args...))})
	}
}

// about checks one event about a change against everything before it.
func (v *Verifier) about(e received) {
	id := keyOfEvent(e.Replay, e.ID)
	before, repeated := v.seen[id]
	if repeated {
		v.report.Repeats++
		if before != e.digest {
			v.problem(Conflict, e.Data.Document, "seq %d is repeated, and says something else", e.Data.Seq)
		}
		return
	}
	v.seen[id] = e.digest
	stream := keyOfStream(e)
	last, known := v.last[stream]
	if !known && e.Replay == "" {
		v.report.Documents++
	}
	switch {
	case e.Replay != "":
		v.report.Replayed++
	case e.Type == event.ChangeSkippedType:
		v.report.Skipped++
		// What failed may have arrived all the same, before it was given up.
		change := event.DocumentChangedID(tenant.Key{Org: e.Data.Org, App: e.Data.App}, e.Data.Document, e.Data.Hash)
		if _, arrived := v.seen[keyOfEvent("", change)]; arrived {
			return
		}
	default:
		v.report.Changes++
	}
	if known && e.Data.Seq <= last.seq {
		v.late(e, last)
		return
	}
	v.last[stream] = latest{e.Data.Seq, e.Data.Hash}
	if e.Replay == "" {
		v.follows(e, last, known)
	}
}

func (v *Verifier) late(e received, last latest) {
	if e.Data.Seq == last.seq {
		v.problem(Conflict, e.Data.Document, "two events have seq %d: hashes %s and %s", last.seq, last.hash, e.Data.Hash)
		return
	}
	v.problem(Order, e.Data.Document, "seq %d arrives first after seq %d", e.Data.Seq, last.seq)
}

// follows checks that nothing is missing between a document's last event and e.
func (v *Verifier) follows(e received, last latest, known bool) {
	d := e.Data
	switch {
	case !known && v.terms.FromSeqOne && (d.Seq != 1 || d.Prev != nil):
		v.problem(Gap, d.Document, "begins with seq %d", d.Seq)
	case !known:
	case d.Prev == nil:
		v.problem(Gap, d.Document, "seq %d says that nothing was before it, but seq %d was", d.Seq, last.seq)
	case *d.Prev != last.hash:
		v.problem(Gap, d.Document, "after seq %d comes seq %d, whose prev %s is not there", last.seq, d.Seq, *d.Prev)
	case v.terms.Every && d.Seq != last.seq+1:
		v.problem(Gap, d.Document, "seq goes from %d to %d", last.seq, d.Seq)
	}
}

// digest tells parts apart, whatever they are made of.
func digest(parts ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	h.Sum(sum[:0])
	return sum
}

func keyOfEvent(replay, id string) eventKey {
	sum := digest(replay, id)
	return eventKey(sum[:len(eventKey{})])
}

func keyOfStream(e received) streamKey {
	sum := digest(string(e.Data.App), e.Data.Document, e.Replay)
	return streamKey(sum[:len(streamKey{})])
}

// short is the beginning of what may be long: files come from anywhere.
func short(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
