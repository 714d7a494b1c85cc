package completeness_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
)

// events is the log of one document "d", in positions 1 to n.
func events(n int) []change.Settled {
	var out []change.Settled
	for i := range uint64(n) {
		out = append(out, change.Settled{Change: change.Change{Hash: change.Hash{byte(i + 1)}}, Document: "d", Seq: i + 1, Position: i + 1})
	}
	return out
}

func TestFindingsSayWhere(t *testing.T) {
	ones := func(seqs ...uint64) (out []sent) {
		for _, s := range seqs {
			out = append(out, sent{s, change.Hash{byte(s)}})
		}
		return out
	}
	type found struct {
		Kind completeness.FindingKind
		Seq  uint64
	}
	for name, tc := range map[string]struct {
		got  []sent
		want []found
	}{
		"all":                         {ones(1, 2, 3, 4, 5), nil},
		"nothing":                     {nil, []found{{completeness.Missing, 1}}},
		"the end is missing":          {ones(1, 2, 3), []found{{completeness.Missing, 4}}},
		"one inside is missing":       {ones(1, 2, 4, 5), []found{{completeness.Missing, 0}}},
		"one inside, and the end":     {ones(1, 3), []found{{completeness.Missing, 0}, {completeness.Missing, 4}}},
		"one beyond the log":          {ones(1, 2, 3, 4, 5, 6), []found{{completeness.Unexpected, 6}}},
		"one twice":                   {ones(1, 2, 2, 3, 4, 5), []found{{completeness.Unexpected, 0}}},
		"another order":               {ones(1, 3, 2, 4, 5), []found{{completeness.Differs, 0}}},
		"another last":                {[]sent{ones(1)[0], ones(2)[0], ones(3)[0], ones(4)[0], {5, change.Hash{0xff}}}, []found{{completeness.Differs, 5}}},
		"others, and not up to there": {ones(2, 1, 3), []found{{completeness.Differs, 0}, {completeness.Missing, 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{cursor: 5, log: events(7), names: []string{"d"}, delivered: map[string][]sent{"d": tc.got}}
			r := w.compare()
			var got []found
			for _, f := range r.Findings {
				got = append(got, found{f.Kind, f.Seq})
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || r.Complete != (len(tc.want) == 0) {
				t.Errorf("%+v\n%s", r, diff)
			}
		})
	}
}

func TestTheLastAcknowledgedMustBeTheLastOwed(t *testing.T) {
	for name, spoil := range map[string]func(*completeness.Receipt){
		"seq": func(r *completeness.Receipt) { r.Seq++ }, "hash": func(r *completeness.Receipt) { r.Hash[0]++ },
		"count": func(r *completeness.Receipt) { r.Count++ }, "digest": func(r *completeness.Receipt) { r.Digest[31]++ },
	} {
		c := completeness.NewComparison(0, 3, nil)
		r := completeness.Receipt{Document: "d"}
		for _, s := range events(3) {
			r.Add(s.Seq, s.Hash)
		}
		spoil(&r)
		c.Receipt(r)
		for _, s := range events(3) {
			c.Add(s)
		}
		if r := c.Result(); r.Complete {
			t.Errorf("another %s: %+v", name, r)
		}
	}
}

// A sink that is given another filter owes nothing of before, and its receipts
// still name the last event.
func TestAReceiptThatIsBegunAnew(t *testing.T) {
	for name, tc := range map[string]struct {
		receipt completeness.Receipt
		adds    []uint64
		want    bool
	}{
		"nothing since":         {completeness.Receipt{Floor: 5, Seq: 5, Hash: change.Hash{5}}, nil, true},
		"the last was filtered": {completeness.Receipt{Floor: 5, Seq: 2, Hash: change.Hash{2}}, nil, true},
		"all since":             {completeness.Receipt{Floor: 3, Seq: 2, Hash: change.Hash{2}}, []uint64{4, 5}, true},
		"nothing of what since": {completeness.Receipt{Floor: 3, Seq: 3, Hash: change.Hash{3}}, nil, false},
		"not all since":         {completeness.Receipt{Floor: 3, Seq: 3, Hash: change.Hash{3}}, []uint64{4}, false},
		"one above the floor":   {completeness.Receipt{Floor: 5, Seq: 6, Hash: change.Hash{6}}, nil, false},
	} {
		c := completeness.NewComparison(0, 5, nil)
		tc.receipt.Document = "d"
		for _, seq := range tc.adds {
			tc.receipt.Add(seq, change.Hash{byte(seq)})
		}
		c.Receipt(tc.receipt)
		for _, s := range events(5) {
			c.Add(s)
		}
		if r := c.Result(); r.Complete != tc.want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestALogThatEndsEarlyProvesNothing(t *testing.T) {
	c := completeness.NewComparison(0, 9, func(change.Settled) bool { return false })
	for _, s := range events(4) {
		c.Add(s)
	}
	if r := c.Result(); r.Complete || r.Through != 4 || !strings.Contains(r.Findings[0].Detail, "position 4") {
		t.Errorf("%+v", r)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	const n = completeness.MaxFindings + 20
	c := completeness.NewComparison(0, n, nil)
	for i := range uint64(n) {
		c.Add(change.Settled{Document: fmt.Sprint("d", i), Seq: 1, Position: i + 1})
	}
	for range 2 { // asking changes nothing
		if r := c.Result(); len(r.Findings) != completeness.MaxFindings || r.Found != n || r.Documents != n {
			t.Errorf("%d of %d findings, %d documents", len(r.Findings), r.Found, r.Documents)
		}
	}
}

// BenchmarkComparison also says what a document costs.
func BenchmarkComparison(b *testing.B) {
	const documents = 10_000
	names := make([]string, documents)
	for i := range names {
		names[i] = fmt.Sprintf("3j77K4UvRnRySqGyakSuH9he%04d", i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := completeness.NewComparison(0, 1<<62, nil)
	for _, name := range names {
		c.Receipt(completeness.Receipt{Document: name})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	position := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		position++
		c.Add(change.Settled{Document: names[position%documents], Seq: position/documents + 1, Position: position})
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/documents, "B/document")
	if c.Result().Through != position {
		b.Fatal("not all was compared")
	}
}
