package completeness_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var (
	now = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	key = tenant.Key{Org: "acme", App: "logistics"}
)

// settled is the change of a document with that seq, always the same.
func settled(document string, seq uint64) change.Settled {
	hash := func(seq uint64) (h change.Hash) {
		copy(h[:], fmt.Sprintf("%03d of %s", seq, document))
		return h
	}
	var prev *change.Hash
	if seq > 1 {
		p := hash(seq - 1)
		prev = &p
	}
	c := change.Follow(change.Change{Hash: hash(seq), Actor: "c0ffee", Raw: []byte{0x85, 0x6f}, Patches: []byte(`[{"action": "put"}]`)}, document, seq, prev)
	c.Position, c.ReceivedAt, c.Origin = seq, now, change.Sync
	return c
}

func line(k tenant.Key, c change.Settled, o *event.Occasion) string {
	return string(event.EncodeChange(k, c, delivery.Patches, o).AppendJSON(nil))
}

// d is the events of document "d" with these seqs, as a sink without a filter gets them.
func d(seqs ...uint64) (out []string) {
	for _, seq := range seqs {
		out = append(out, line(key, settled("d", seq), nil))
	}
	return out
}

// filtered is the events of document "d" that a sink's filter lets through.
func filtered(seqs ...uint64) (out []string) {
	o := &event.Occasion{}
	for _, seq := range seqs {
		c := settled("d", seq)
		out = append(out, line(key, c, o))
		o = &event.Occasion{Prev: &c.Hash}
	}
	return out
}

func replayed(id string, seqs ...uint64) (out []string) {
	for _, seq := range seqs {
		out = append(out, line(key, settled("d", seq), &event.Occasion{Replay: id}))
	}
	return out
}

func marker(seq uint64) []string {
	e, err := event.Encode(event.ChangeSkipped(key, "s1", settled("d", seq)))
	if err != nil {
		panic(err)
	}
	return []string{string(e.AppendJSON(nil))}
}

func tested(org tenant.OrgID) []string {
	text, err := event.SinkTest(org, "s1", now).MarshalJSON()
	if err != nil {
		panic(err)
	}
	return []string{string(text)}
}

func file(parts ...[]string) string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return strings.Join(all, "\n") + "\n"
}

func verify(t testing.TB, terms completeness.Terms, files ...string) completeness.Report {
	t.Helper()
	terms.MaxProblems = 20
	v := completeness.NewVerifier(terms)
	for i, f := range files {
		if err := v.Read(fmt.Sprint("file", i), strings.NewReader(f)); err != nil {
			t.Fatal(err)
		}
	}
	return v.Report()
}

func TestVerifier(t *testing.T) {
	elsewhere := func(k tenant.Key, seq uint64) []string { return []string{line(k, settled("e", seq), nil)} }
	rival, medical := tenant.Key{Org: "rival", App: "logistics"}, tenant.Key{Org: "acme", App: "medical"}
	spoil := func(lines []string, old, with string) []string {
		text := strings.Join(lines, "\n")
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in %s", old, text)
		}
		return []string{strings.ReplaceAll(text, old, with)}
	}
	whole := completeness.Terms{FromSeqOne: true, Every: true}
	for name, tc := range map[string]struct {
		terms completeness.Terms
		files []string
		want  string // the problems: line, kind
	}{
		"nothing":                             {whole, []string{""}, ""},
		"everything":                          {whole, []string{file(d(1, 2, 3), tested("acme"))}, ""},
		"two documents, mixed":                {whole, []string{file(d(1), elsewhere(key, 1), d(2), elsewhere(key, 2))}, ""},
		"repeats":                             {whole, []string{file(d(1, 2, 3, 2, 3, 4, 1))}, ""},
		"empty lines, and ends of Windows":    {whole, []string{"\n\n" + strings.ReplaceAll(file(d(1, 2)), "\n", "\r\n") + "\r\n"}, ""},
		"no end of the last line":             {whole, []string{strings.TrimSuffix(file(d(1, 2)), "\n")}, ""},
		"rotated":                             {whole, []string{file(d(1, 2)), file(d(2, 3))}, ""},
		"rotated, in the wrong order":         {whole, []string{file(d(2, 3)), file(d(1, 2))}, "file0:1 gap, file1:1 order"},
		"begins later":                        {completeness.Terms{}, []string{file(d(4, 5))}, ""},
		"begins later, and must not":          {completeness.Terms{FromSeqOne: true}, []string{file(d(4, 5))}, "file0:1 gap"},
		"batches":                             {whole, []string{"[" + strings.Join(d(1, 2), ",") + "]\n[]\n[" + d(3)[0] + "]\n"}, ""},
		"a gap in a batch":                    {whole, []string{"[" + strings.Join(d(1, 3), ",") + "]\n"}, "file0:1 gap"},
		"a batch and more":                    {whole, []string{"[" + d(1)[0] + "] []\n"}, "file0:1 malformed"},
		"a torn batch":                        {whole, []string{"[" + d(1)[0]}, "file0:1 malformed"},
		"a gap":                               {completeness.Terms{}, []string{file(d(1, 2, 4, 5))}, "file0:3 gap"},
		"a gap, filled late":                  {completeness.Terms{}, []string{file(d(1, 3, 2, 4))}, "file0:2 gap, file0:3 order"},
		"a replay fills no gap":               {completeness.Terms{}, []string{file(d(1, 2), replayed("r1", 3), d(4))}, "file0:4 gap"},
		"a filter's jumps":                    {completeness.Terms{}, []string{file(filtered(2, 3, 7), filtered(2, 3, 7, 9))}, ""},
		"a filter's jumps where none may be":  {completeness.Terms{Every: true}, []string{file(filtered(2, 3, 7))}, "file0:3 gap"},
		"a gap between a filter's jumps":      {completeness.Terms{}, []string{file(filtered(2, 3, 7, 9)[:2], filtered(2, 3, 7, 9)[3:])}, "file0:3 gap"},
		"a first one that says it is not":     {completeness.Terms{}, []string{file(d(1), filtered(2))}, "file0:2 gap"},
		"a marker":                            {whole, []string{file(d(1), marker(2), marker(2), d(3))}, ""},
		"a marker that is missing":            {whole, []string{file(d(1), d(3))}, "file0:2 gap"},
		"a marker of one that came after all": {whole, []string{file(d(1, 2, 3), marker(2), d(3, 4))}, ""},
		"a marker too late":                   {completeness.Terms{}, []string{file(d(1, 3), marker(2))}, "file0:2 gap, file0:3 order"},
		"replays":                             {whole, []string{file(d(1, 2, 3), replayed("r1", 1, 3), d(4), replayed("r1", 4), replayed("r2", 1, 2))}, ""},
		"a replay before the first":           {whole, []string{file(replayed("r1", 1, 2), d(1, 2))}, ""},
		"a replay's repeats":                  {whole, []string{file(d(1), replayed("r1", 1, 2, 1, 2, 3))}, ""},
		"a replay out of order":               {whole, []string{file(d(1), replayed("r1", 1, 3, 2))}, "file0:4 order"},
		"another organization":                {whole, []string{file(d(1), elsewhere(rival, 1), d(2))}, "file0:2 foreign"},
		"another organization's test":         {whole, []string{file(d(1), tested("rival"))}, "file0:2 foreign"},
		"another organization from the first": {completeness.Terms{Org: "rival"}, []string{file(d(1))}, "file0:1 foreign"},
		"another formation":                   {whole, []string{file(d(1), elsewhere(medical, 1))}, "file0:2 foreign"},
		"another formation from the first":    {completeness.Terms{App: "medical"}, []string{file(d(1))}, "file0:1 foreign"},
		"every formation":                     {completeness.Terms{App: "*", FromSeqOne: true}, []string{file(d(1), elsewhere(medical, 1), d(2))}, ""},
		"documents of the same name in two formations": {completeness.Terms{App: "*", FromSeqOne: true},
			[]string{file(elsewhere(key, 1), elsewhere(medical, 1), elsewhere(key, 2), elsewhere(medical, 2))}, ""},
		"a repeat that says something else": {whole, []string{file(d(1, 2), spoil(d(2), `"put"`, `"del"`))}, "file0:3 conflict"},
		"a repeat with other space":         {whole, []string{file(d(1), spoil(d(1), `"data":{`, `"data": { `))}, ""},
		"two of one seq":                    {completeness.Terms{}, []string{file(d(1, 2), spoil(marker(3), `"seq":3`, `"seq":2`))}, "file0:3 malformed"},
		"two of one seq, told consistently": {completeness.Terms{}, []string{file(d(1, 2),
			spoil(spoil(marker(3), `"seq":3`, `"seq":2`), "00003", "00002"))}, "file0:3 conflict"},
		"an id of another change":    {whole, []string{file(spoil(d(1), `"id":"`, `"id":"x`))}, "file0:1 malformed"},
		"a source of another":        {whole, []string{file(spoil(d(1), `"source":"/orgs/acme`, `"source":"/orgs/rival`))}, "file0:1 malformed"},
		"a subject of another":       {whole, []string{file(spoil(d(1), `"subject":"d"`, `"subject":"e"`))}, "file0:1 malformed"},
		"no hash":                    {whole, []string{file(spoil(d(1), `"change_hash"`, `"change"`))}, "file0:1 malformed"},
		"not JSON":                   {whole, []string{file(d(1), []string{"hello"}, d(2))}, "file0:2 malformed"},
		"not an event":               {whole, []string{file(d(1), []string{"{}", "null", "7"}, d(2))}, "file0:2 malformed, file0:3 malformed, file0:4 malformed"},
		"a torn end":                 {whole, []string{file(d(1)) + d(2)[0][:200]}, "file0:2 malformed"},
		"a line that is too long":    {completeness.Terms{MaxLine: 2000}, []string{file(d(1), []string{strings.Repeat("x", 70_000)}, d(2))}, "file0:2 malformed"},
		"an event that is too long":  {completeness.Terms{MaxLine: 200}, []string{file(d(1))}, "file0:1 malformed"},
		"a last line that is longer": {completeness.Terms{MaxLine: 2000}, []string{file(d(1)) + strings.Repeat("x", 3000)}, "file0:2 malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := verify(t, tc.terms, tc.files...)
			var got []string
			for _, p := range r.Problems {
				got = append(got, fmt.Sprintf("%s:%d %s", p.File, p.Line, p.Kind))
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("%s%+v", diff, r.Problems)
			}
		})
	}
}

func TestReportCounts(t *testing.T) {
	r := verify(t, completeness.Terms{}, file(tested("acme"), d(1, 2), marker(3), d(2), replayed("r1", 1), d(4, 6)), "x\n")
	want := completeness.Report{Org: "acme", App: "logistics", Lines: 9, Documents: 1, Changes: 4, Skipped: 1, Repeats: 1, Replayed: 1, Others: 1,
		Found: map[completeness.ProblemKind]int{completeness.Gap: 1, completeness.Malformed: 1}}
	if r.Problems[0].Document != "d" {
		t.Errorf("%+v", r.Problems)
	}
	r.Problems = nil
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	v := completeness.NewVerifier(completeness.Terms{MaxProblems: 3})
	if err := v.Read("x", strings.NewReader(strings.Repeat("x\n", 50))); err != nil {
		t.Fatal(err)
	}
	if r := v.Report(); len(r.Problems) != 3 || r.Found[completeness.Malformed] != 50 {
		t.Errorf("%+v", r)
	}
}

func TestAReaderThatFailsIsNotAGap(t *testing.T) {
	down := errors.New("down")
	v := completeness.NewVerifier(completeness.Terms{})
	err := v.Read("x", io.MultiReader(strings.NewReader(file(d(1))), iotest.ErrReader(down)))
	if !errors.Is(err, down) || len(v.Report().Found) != 0 {
		t.Errorf("%v %+v", err, v.Report())
	}
}

// Whatever single first arrival is taken out of a file but the last of a document,
// it is missed; whatever two are swapped, too.
func TestEveryLossIsSeen(t *testing.T) {
	seed := seeded(t)
	for run := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, run))
		var lines []string
		next := map[string]uint64{}
		for range 3 + rng.IntN(20) {
			name := fmt.Sprint("d", rng.IntN(3))
			next[name]++
			lines = append(lines, line(key, settled(name, next[name]), nil))
		}
		for name, n := range next {
			lines = append(lines, line(key, settled(name, n+1), nil))
		}
		clean := completeness.Terms{FromSeqOne: true}
		if r := verify(t, clean, file(lines)); len(r.Problems) > 0 {
			t.Fatalf("run %d: %+v", run, r.Problems)
		}
		i := rng.IntN(len(lines) - len(next))
		if r := verify(t, clean, file(lines[:i], lines[i+1:])); r.Found[completeness.Gap] != 1 {
			t.Fatalf("run %d: without line %d: %+v", run, i+1, r)
		}
	}
}

// FuzzVerifier: nothing in a file brings the verifier down, a file that is cut in
// two between lines comes out as the whole one does, and a second reading of what
// was clean is nothing but repeats.
func FuzzVerifier(f *testing.F) {
	f.Add([]byte(file(d(1, 2, 3), marker(4), replayed("r1", 1, 2), tested("acme"))), uint8(1))
	f.Add([]byte("["+strings.Join(d(1, 2), ",")+"]\n"+file(filtered(3, 7))), uint8(0))
	f.Add([]byte("[[]]\n{\"data\":null}\n\n\x00"), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, at uint8) {
		terms := completeness.Terms{MaxLine: 1 << 16}
		one := verify(t, terms, string(text))
		cut := 0
		for range at {
			if i := bytes.IndexByte(text[cut:], '\n'); i >= 0 {
				cut += i + 1
			}
		}
		two := verify(t, terms, string(text[:cut]), string(text[cut:]))
		if diff := cmp.Diff(one.Found, two.Found); diff != "" || one.Changes != two.Changes || one.Lines != two.Lines {
			t.Errorf("cut at %d: %+v, whole %+v", cut, two, one)
		}
		if len(one.Found) > 0 || len(text) > 0 && text[len(text)-1] != '\n' {
			return
		}
		again := verify(t, terms, string(text), string(text))
		if len(again.Found) > 0 || again.Changes != one.Changes || again.Skipped != one.Skipped || again.Documents != one.Documents {
			t.Errorf("read twice: %+v, once %+v", again, one)
		}
	})
}

// BenchmarkVerifier also says what an event and a document cost.
func BenchmarkVerifier(b *testing.B) {
	const documents, each = 1000, 200
	var text strings.Builder
	for seq := range uint64(each) {
		for i := range documents {
			text.WriteString(line(key, settled(fmt.Sprint("document-", i), seq+1), nil) + "\n")
		}
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		v := completeness.NewVerifier(completeness.Terms{FromSeqOne: true, Every: true})
		if err := v.Read("x", strings.NewReader(text.String())); err != nil || len(v.Report().Found) > 0 {
			b.Fatal(err, v.Report())
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(documents*each), "B/event")
		runtime.KeepAlive(v)
	}
}
