package automerge_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
)

func corpus(t testing.TB) []recorded {
	t.Helper()
	b, err := os.ReadFile("testdata/corpus.json")
	if err != nil {
		t.Fatal(err)
	}
	var docs []recorded
	if err := json.Unmarshal(b, &docs); err != nil {
		t.Fatal(err)
	}
	return docs
}

func TestCorpus(t *testing.T) {
	for _, doc := range corpus(t) {
		t.Run(strings.ReplaceAll(doc.Name, " ", "-"), func(t *testing.T) {
			var sum tally
			compare(t, doc, &sum)
			t.Logf("%+v", sum)
		})
	}
}

func TestChangeFields(t *testing.T) {
	for _, doc := range corpus(t) {
		if doc.Name != "empty change, message, odd actors" {
			continue
		}
		messages := map[string]*automerge.Change{}
		for _, rec := range doc.Changes {
			c := decode(t, rec.Raw)
			messages[c.Message] = c
		}
		nothing, turtle, first := messages["nothing"], messages["żółw"], messages[""]
		if nothing == nil || turtle == nil || first == nil {
			t.Fatalf("messages %v", messages)
		}
		if nothing.Actor != "00" || nothing.NumOps != 0 || nothing.Seq != 1 {
			t.Errorf("empty change: %+v", nothing)
		}
		if turtle.Actor != strings.Repeat("ff", 40) || turtle.Time != 1700000001 || turtle.StartOp != 2 {
			t.Errorf("change of a long actor: %+v", turtle)
		}
		if len(turtle.Deps) != 1 || turtle.Deps[0] != first.Hash {
			t.Errorf("deps %v, want %s", turtle.Deps, first.Hash)
		}
		return
	}
	t.Fatal("no such case")
}
