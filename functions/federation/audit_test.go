package federation_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

type entry struct {
	Seq            uint64
	Action, Target string
}

func (e entry) String() string { return fmt.Sprintf("%d %s", e.Seq, e.Action) }

func TestContractOfTheTrail(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.now = w.now.Add(time.Second)
	w.tx(func(tx *store.Tx) error {
		return tx.AppendAudit(t.Context(), store.Audit{Org: "acme", At: w.now, Actor: "ann", Action: "sink.change", Target: "s1", RequestID: "r-2",
			Detail: map[string]any{"before": map[string]any{"state": "active"}, "after": map[string]any{"state": "paused", "secret": "hush"}}})
	})
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	w.deleteOrg("acme")
	w.org("acme")
	for name, path := range map[string]string{
		"trails": "/audit", "heads": "/audit/acme/heads", "no_more": "/orgs/acme/audit/heads",
	} {
		got := goldentest.JSON(t, w.get(path, 200))
		// Ids are of chance, and so are hashes and signatures.
		goldentest.Check(t, "testdata/"+name+".json", []byte(mask(string(got))))
	}
	goldentest.Check(t, "testdata/entries.json", []byte(mask(string(goldentest.JSON(t, w.get("/audit/acme?limit=3", 200))))))
}

// mask hides what is different each time.
func mask(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		name, _, ok := strings.Cut(strings.TrimSpace(l), ":")
		switch {
		case !ok:
		case name == `"id"`, name == `"hash"`, name == `"signature"`:
			before, _, _ := strings.Cut(l, ":")
			end := ""
			if strings.HasSuffix(l, ",") {
				end = ","
			}
			lines[i] = before + `: "…"` + end
		}
	}
	return strings.Join(lines, "\n")
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	for i := range 5 {
		w.act("acme", "sink.create", "ann", fmt.Sprint(i))
	}
	w.act("acme", "sink.delete", "bob", "3")
	w.org("rival")
	last := w.now
	for query, want := range map[string][]string{
		"":                                {"7 sink.delete", "6 sink.create", "5 sink.create", "4 sink.create", "3 sink.create", "2 sink.create", "1 org.create"},
		"?limit=2":                        {"7 sink.delete", "6 sink.create", "5 sink.create", "4 sink.create", "3 sink.create", "2 sink.create", "1 org.create"},
		"?action=org.create":              {"1 org.create"},
		"?action=sink.&actor=bob":         {"7 sink.delete"},
		"?target=3&limit=1":               {"7 sink.delete", "5 sink.create"},
		"?actor=nobody":                   nil,
		"?since=" + stamp(last, -2):       {"7 sink.delete", "6 sink.create"},
		"?until=" + stamp(last, -5):       {"2 sink.create", "1 org.create"},
		"?until=" + stamp(last, -100_000): nil,
	} {
		got := walk(w, "/orgs/acme/audit"+query, entry.String)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	for path, status := range map[string]int{
		"/orgs/acme/audit?limit=0":           400,
		"/orgs/acme/audit?cursor=x":          400,
		"/orgs/acme/audit?cursor=MWFiYw":     400,
		"/orgs/acme/audit?since=yesterday":   400,
		"/orgs/acme/audit?actor=%00":         400,
		"/orgs/acme/audit?target=%ff":        400,
		"/orgs/acme/audit/heads?cursor=MWFi": 400,
		"/orgs/acme/audit/export?from=0":     400,
		"/orgs/acme/audit/export?from=99":    400,
		"/orgs/nobody/audit":                 404,
		"/orgs/nobody/audit/export":          404,
		"/orgs/nobody/audit/heads":           404,
		"/orgs/_gateway/audit":               404,
		"/audit/nobody":                      404,
		"/audit/nobody/export":               404,
		"/audit/a.b":                         404,
		"/audit/_gateway":                    404, // there was no act of it so far
	} {
		w.get(path, status)
	}
	w.act("", "keys.rewrap", "root", "all")
	if got := walk(w, "/audit/_gateway", entry.String); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func stamp(t time.Time, seconds int) string {
	return t.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339Nano)
}

// TestANameThatIsUsedAgain: who has a name now does not see what was done under it
// before, and the gateway's administrators see all of it.
func TestANameThatIsUsedAgain(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.act("acme", "sink.create", "ann", "1")
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	w.deleteOrg("acme")
	w.get("/orgs/acme/audit", 404)
	if got := walk(w, "/audit/acme", entry.String); len(got) != 3 {
		t.Errorf("after the end: %v", got)
	}
	w.org("acme")
	w.act("acme", "sink.create", "eve", "2")
	if diff := cmp.Diff([]string{"5 sink.create", "4 org.create"}, walk(w, "/orgs/acme/audit", entry.String)); diff != "" {
		t.Error(diff)
	}
	if got := walk(w, "/orgs/acme/audit/heads", func(h audit.Head) string { return fmt.Sprint(h.Seq) }); len(got) != 0 {
		t.Errorf("heads %v", got)
	}
	if got := walk(w, "/audit/acme", entry.String); len(got) != 5 {
		t.Errorf("all: %v", got)
	}
	r := w.verify(w.get("/orgs/acme/audit/export", 200), audit.Terms{Org: "acme"})
	if !r.OK() || r.From != 4 || r.To != 5 || r.Forebears != 3 || r.Heads != 1 {
		t.Errorf("%+v", r)
	}
	w.get("/orgs/acme/audit/export?from=3", 400)
	type trail struct {
		Org    tenant.OrgID `json:"org_id"`
		Since  uint64
		Exists bool
	}
	if diff := cmp.Diff([]string{"{acme 4 true}"}, walk(w, "/audit", func(t trail) string { return fmt.Sprint(t) })); diff != "" {
		t.Error(diff)
	}
}

func TestExport(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.org("rival")
	for i := range 1200 { // more than two pages
		w.act("acme", "sink.create", "ann", fmt.Sprint(i))
		if i%500 == 0 {
			if err := w.sweep(); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole := w.get("/orgs/acme/audit/export", 200)
	r := w.verify(whole, audit.Terms{Org: "acme"})
	if !r.OK() || !r.Trusted || r.Entries != 1201 || r.Heads != 4 || r.To != 1201 {
		t.Errorf("%+v", r)
	}
	// A later export goes on where this one ended, and what was known fits.
	w.act("acme", "sink.create", "ann", "one more")
	later := w.verify(w.get("/orgs/acme/audit/export?from=1202", 200), audit.Terms{Known: map[uint64]audit.Hash{r.To: r.Hash}})
	if !later.OK() || later.Entries != 1 || later.From != 1202 {
		t.Errorf("%+v", later)
	}
	if nothing := w.verify(w.get("/audit/acme/export?from=1203", 200), audit.Terms{}); !nothing.OK() || nothing.Entries != 0 {
		t.Errorf("%+v", nothing)
	}
	if other := w.verify(w.get("/audit/rival/export", 200), audit.Terms{Org: "rival"}); !other.OK() || other.Entries != 1 {
		t.Errorf("%+v", other)
	}
}

// TestTampering: what is changed in the database is not signed, and is found.
func TestTampering(t *testing.T) {
	for name, tc := range map[string]struct {
		unsigned bool // before there is a head over it
		do       func(*world)
		refused  bool   // nothing is signed any more
		found    string // by whoever verifies what is exported still
	}{
		"an entry changed": {do: func(w *world) {
			w.tamper(`UPDATE audit SET actor = 'nobody' WHERE org_id = 'acme' AND seq = 2`)
		}, found: "altered"},
		"an entry changed to what is no JSON": {do: func(w *world) {
			w.tamper(`UPDATE audit SET detail = '{' WHERE org_id = 'acme' AND seq = 2`)
		}, found: "altered"},
		"an entry changed before it was signed": {unsigned: true, do: func(w *world) {
			w.tamper(`UPDATE audit SET actor = 'nobody' WHERE org_id = 'acme' AND seq = 2`)
		}, refused: true},
		"an entry deleted": {do: func(w *world) {
			w.tamper(`DELETE FROM audit WHERE org_id = 'acme' AND seq = 2`)
		}, found: "gap"},
		"an entry deleted before it was signed": {unsigned: true, do: func(w *world) {
			w.tamper(`DELETE FROM audit WHERE org_id = 'acme' AND seq = 2`)
		}, refused: true},
		"the end cut off": {do: func(w *world) {
			w.tamper(`DELETE FROM audit WHERE org_id = 'acme' AND seq = 4`)
			e, _ := w.store.ChainEntries(w.t.Context(), "acme", 2, 1)
			w.tamper(`UPDATE audit_chains SET seq = 3, hash = $1 WHERE org_id = 'acme'`, e[0].Hash.String())
		}, refused: true},
		"the last hash replaced": {do: func(w *world) {
			w.tamper(`UPDATE audit_chains SET hash = $1 WHERE org_id = 'acme'`, strings.Repeat("ab", 32))
		}, refused: true},
		"a head of another key": {do: func(w *world) {
			w.tamper(`UPDATE audit_heads SET public = $1 WHERE org_id = 'acme'`, make([]byte, 32))
		}, refused: true},
		"the heads deleted": {do: func(w *world) {
			w.tamper(`DELETE FROM audit_heads WHERE org_id = 'acme'`)
		}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.org("acme")
			for i := range 3 {
				w.act("acme", "sink.create", "ann", fmt.Sprint(i))
			}
			if tc.unsigned {
				walk(w, "/orgs/acme/audit", entry.String) // links
			} else if err := w.sweep(); err != nil {
				t.Fatal(err)
			}
			w.org("rival")
			tc.do(w)
			w.act("acme", "sink.create", "ann", "later")
			w.act("acme", "sink.create", "ann", "later still")
			err := w.sweep()
			if (err != nil) != tc.refused {
				t.Errorf("the sweep says %v", err)
			}
			if r := w.verify(w.get("/orgs/rival/audit/export", 200), audit.Terms{}); !r.OK() {
				t.Errorf("another organization's trail: %v", r.Findings)
			}
			if heads := walk(w, "/orgs/rival/audit/heads", func(h audit.Head) string { return fmt.Sprint(h.Seq) }); len(heads) != 1 {
				t.Errorf("another organization has %d heads", len(heads))
			}
			if tc.refused {
				w.get("/orgs/acme/audit/export", 409)
				return
			}
			r := w.verify(w.get("/orgs/acme/audit/export", 200), audit.Terms{})
			if r.Count[audit.FindingKind(tc.found)] == 0 {
				t.Errorf("found %v", r.Findings)
			}
		})
	}
}

// TestANewKey: what was signed with a key that was replaced counts as long as it is
// named, and not after.
func TestANewKey(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	old := w.key.Public()
	w.act("acme", "sink.create", "ann", "1")
	w.use(strings.Repeat("08", 32))
	if err := w.sweep(); err == nil || !strings.Contains(err.Error(), "not signed with this gateway's audit key") {
		t.Errorf("the sweep says %v", err)
	}
	w.use(strings.Repeat("08", 32) + "," + strings.Repeat("07", 32))
	if err := w.sweep(); err != nil {
		t.Fatal(err)
	}
	r, err := audit.Verify(strings.NewReader(string(w.get("/orgs/acme/audit/export", 200))), audit.Terms{Keys: []audit.PublicKey{old, w.key.Public()}})
	if err != nil || !r.OK() || len(r.Keys) != 2 {
		t.Errorf("%+v %v", r, err)
	}
}
