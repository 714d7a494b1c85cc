package policy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/policy"
)

// TestExamples: the policies of docs/policy.md can be saved, and keep what their
// tests promise.
func TestExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, part := range strings.Split(string(page), "```json\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		d, err := policy.ParseDocument([]byte(text))
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if err := policy.Check(d, "acme", now); err != nil {
			t.Errorf("%v: %s", err, text)
		}
		n++
	}
	if n < 3 {
		t.Errorf("there are %d examples", n)
	}
}

// TestEmptyIsNotAbsent: no permission, and the standard ones, stay apart when they are
// kept.
func TestEmptyIsNotAbsent(t *testing.T) {
	for _, text := range []string{
		`{"rules":[{"id":"a","effect":"allow","grant":{"permissions":[]}}]}`,
		`{"rules":[{"id":"a","effect":"allow","grant":{}}]}`,
		`{"rules":[]}`,
	} {
		d, err := policy.ParseDocument([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := d.Text()
		if diff := cmp.Diff(text, string(kept)); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
	}
	r := asked()
	r.Wants.Permissions = 0
	if back, wrong := policy.WriteRequest(r).Read("acme"); back != r || wrong != nil {
		t.Errorf("%+v %v", back, wrong)
	}
}
