package automerge_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
)

// recorded is a document as the JavaScript library tells it: changes in a causal
// order, the patches each brought, and what was there in the end.
type recorded struct {
	Name    string
	Changes []struct {
		Raw     []byte
		Patches []any
		Stale   bool // the library shows something else after loading it again
	}
	Heads []automerge.Hash
	Value any
}

func (r *recorded) UnmarshalJSON(b []byte) error {
	type plain recorded
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode((*plain)(r))
}

// tally counts how changes compare with the JavaScript library.
type tally struct {
	documents, changes, same int
	conflicts                int // differ in conflict patches only
	counters                 int // differ by the counter fault of 3.5.0 only
	marks                    int // differ in mark patches only; see below
	wrong                    int
}

// jsDir is where the packages of the oracle are; a test that needs them is
// skipped without, loudly.
func jsDir(t testing.TB) string {
	t.Helper()
	missing := func(what string) {
		t.Helper()
		if strings.Contains(os.Getenv("PEAT_TEST_REQUIRE"), "node") {
			t.Fatalf("required: %s", what)
		}
		t.Skipf("SKIPPED: %s", what)
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing("no node in PATH")
	}
	dir, err := filepath.Abs("../../../test/js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules/@automerge/automerge")); err != nil {
		missing("no packages in test/js; run npm ci there")
	}
	return dir
}

func envInt(t testing.TB, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestRandomDocumentsLikeJavaScript(t *testing.T) {
	dir := jsDir(t)
	seed := envInt(t, "PEAT_SEED", int(time.Now().UnixNano()%1_000_000))
	documents := envInt(t, "PEAT_ORACLE_DOCS", 150)
	for name, args := range map[string][]string{"plain": nil, "marks": {"marks"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("PEAT_SEED=%d PEAT_ORACLE_DOCS=%d", seed, documents)
			cmd := exec.CommandContext(t.Context(), "node",
				append([]string{"oracle.mjs", strconv.Itoa(seed), strconv.Itoa(documents)}, args...)...)
			cmd.Dir = dir
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var sum tally
			lines := bufio.NewScanner(out)
			lines.Buffer(nil, 64<<20)
			for n := 0; lines.Scan(); n++ {
				var doc recorded
				if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
					t.Fatal(err)
				}
				doc.Name = "document " + strconv.Itoa(n)
				compare(t, doc, &sum)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, stderr.Bytes())
			}
			if sum.documents != documents {
				t.Errorf("%d documents of %d", sum.documents, documents)
			}
			// 3.5.0 adds marks to the last mark patch even if that is about another
			// text, in view or not. We do not, so a change that marks two texts
			// differs. Anything else would show in far more changes.
			if sum.marks*100 > sum.changes {
				t.Errorf("%d of %d changes differ in marks", sum.marks, sum.changes)
			}
			t.Logf("%+v", sum)
		})
	}
}

// compare applies the changes of doc and holds patches and result against the
// record.
func compare(t *testing.T, doc recorded, sum *tally) {
	t.Helper()
	sum.documents++
	d, view := automerge.NewDoc(), newView()
	for i, rec := range doc.Changes {
		c, err := automerge.DecodeChange(rec.Raw, automerge.DefaultLimits())
		if err != nil {
			t.Fatalf("%s, change %d: %v", doc.Name, i, err)
		}
		patches, err := d.Apply(c)
		if err != nil {
			t.Fatalf("%s, change %d: %v", doc.Name, i, err)
		}
		got := patchValues(t, patches)
		view.apply(t, got)
		if diff := cmp.Diff(d.JSON(), view.value()); diff != "" {
			t.Fatalf("%s, change %d: patches lead elsewhere (-document +patches):\n%s", doc.Name, i, diff)
		}
		sum.changes++
		want := rec.Patches
		switch {
		case cmp.Equal(want, got, cmp.Comparer(sameList)):
			sum.same++
		case cmp.Equal(without(want, "conflict"), without(got, "conflict"), cmp.Comparer(sameList)):
			sum.conflicts++
			t.Logf("%s, change %d: conflict patches (-want +got):\n%s", doc.Name, i, cmp.Diff(want, got))
		case rec.Stale && counterFault(want, got):
			sum.counters++
		case cmp.Equal(without(want, "mark"), without(got, "mark"), cmp.Comparer(sameList)):
			sum.marks++
			t.Logf("%s, change %d: marks (-want +got):\n%s", doc.Name, i, cmp.Diff(want, got))
		default:
			sum.wrong++
			t.Errorf("%s, change %d %s (-want +got):\n%s", doc.Name, i, base64.StdEncoding.EncodeToString(rec.Raw), cmp.Diff(want, got))
		}
	}
	if diff := cmp.Diff(doc.Heads, d.Heads()); diff != "" {
		t.Errorf("%s: heads (-want +got):\n%s", doc.Name, diff)
	}
	if diff := cmp.Diff(doc.Value, d.JSON()); diff != "" {
		t.Errorf("%s: contents (-want +got):\n%s", doc.Name, diff)
	}
}

// sameList lets nil and empty be the same.
func sameList(a, b []any) bool {
	return len(a) == len(b) && cmp.Equal([]any(append([]any{}, a...)), append([]any{}, b...))
}

func patchValues(t *testing.T, ps []automerge.Patch) []any {
	t.Helper()
	b, err := automerge.PatchesJSON(ps, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out []any
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return out
}

func without(ps []any, action string) []any {
	out := []any{}
	for _, p := range ps {
		if p.(map[string]any)["action"] != action {
			out = append(out, p)
		}
	}
	return out
}
