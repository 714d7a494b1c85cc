package orgs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/orgs"
	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const path = "/orgs/acme/formations/logistics"

func (w *world) state() tenant.State {
	w.t.Helper()
	f, err := w.store.Formation(context.Background(), logistics)
	if errors.Is(err, fault.NotFound) {
		return tenant.Destroyed
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return f.State
}

// TestMovesAreThoseOfTheTable walks from every state through every door.
func TestMovesAreThoseOfTheTable(t *testing.T) {
	doors := map[tenant.State]func(w *world) int{
		tenant.Suspended: func(w *world) int { return w.call("POST", path+"/suspend", "").Code },
		tenant.Active:    func(w *world) int { return w.call("POST", path+"/resume", "").Code },
		tenant.Destroyed: func(w *world) int { return w.call("DELETE", path, "").Code },
	}
	for _, from := range []tenant.State{tenant.Active, tenant.Suspended, tenant.Destroyed} {
		for to, door := range doors {
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				w := newWorld(t)
				w.org("acme")
				w.formation("acme", "logistics")
				if from != tenant.Active {
					doors[from](w)
				}
				want, status := from, http.StatusConflict
				if next, err := from.Move(to); err == nil {
					want, status = next, http.StatusOK
				}
				switch {
				case from == tenant.Destroyed:
					status = http.StatusNotFound
				case to == tenant.Destroyed:
					status = http.StatusNoContent
				}
				if got := door(w); got != status || w.state() != want {
					t.Errorf("%d, %s; want %d, %s", got, w.state(), status, want)
				}
			})
		}
	}
}

func TestMovesAreToldAndAudited(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	w := newWorld(t, func(d *orgs.Deps) {
		d.Now = func() time.Time { at = at.Add(time.Millisecond); return at }
	})
	w.org("acme")
	w.formation("acme", "logistics")
	w.do("POST", path+"/suspend", "", 200)
	w.do("POST", path+"/resume", "", 200)
	w.do("PATCH", path, `{"enrollment_policy":"strict"}`, 200)
	w.do("DELETE", path, "", 204)
	told := map[string]int{}
	for _, e := range w.events() {
		told[e]++
	}
	want := map[string]int{"org.created": 1, "formation.created": 1, "formation.suspended": 1, "formation.resumed": 1, "formation.updated": 1, "formation.deleted": 1}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"org.create acme", "formation.create logistics", "formation.suspend logistics", "formation.resume logistics",
		"formation.update logistics", "formation.delete logistics"}, w.actions()); diff != "" {
		t.Error(diff)
	}
}

type listed struct {
	Items []struct {
		Org       tenant.OrgID `json:"org_id"`
		App       tenant.AppID `json:"app_id"`
		Mesh      string       `json:"mesh_id"`
		Authority string       `json:"authority_public_key"`
		By        string       `json:"destroyed_by"`
		Request   string       `json:"request_id"`
		Position  uint64       `json:"log_position"`
		Statement []byte       `json:"statement"`
		Signature string       `json:"signature"`
	} `json:"items"`
	Next *string `json:"next"`
}

func (w *world) destructions(query string) listed {
	w.t.Helper()
	var out listed
	if err := json.Unmarshal(w.do("GET", "/orgs/acme/destructions"+query, "", 200), &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestADestructionIsSignedByTheAuthorityThatEnds(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	var made struct {
		Mesh      string `json:"mesh_id"`
		Authority string `json:"authority_public_key"`
	}
	if err := json.Unmarshal(w.do("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, 201), &made); err != nil {
		t.Fatal(err)
	}
	w.append(logistics, 5)
	w.do("DELETE", path, "", 204)
	got := w.destructions("")
	if len(got.Items) != 1 {
		t.Fatalf("%+v", got)
	}
	d := got.Items[0]
	signature, err := hex.DecodeString(d.Signature)
	if err != nil {
		t.Fatal(err)
	}
	// As somebody would who has the page, and the key from when the formation was made.
	record, err := tenant.SignedDestruction{Statement: d.Statement, Signature: signature}.Verify()
	if err != nil || hex.EncodeToString(record.Authority) != made.Authority {
		t.Fatalf("%v: signed by %x", err, record.Authority)
	}
	if record.Key != logistics || record.MeshID != made.Mesh || record.Position != 5 || record.By != "bootstrap-admin" || record.RequestID != "r-1" {
		t.Errorf("%+v", record)
	}
	if d.Org != record.Org || d.App != record.App || d.Mesh != record.MeshID || d.Authority != made.Authority || d.By != record.By || d.Position != record.Position {
		t.Errorf("the page says %+v", d)
	}
	// The end of the organization and another of its name.
	w.do("DELETE", "/orgs/acme", "", 204)
	w.do("GET", "/orgs/acme/destructions", "", 404)
}

func TestDestructionsComeInPages(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	w := newWorld(t, func(d *orgs.Deps) { d.Now = func() time.Time { at = at.Add(time.Millisecond); return at } })
	w.org("acme")
	for i := range 5 {
		w.formation("acme", fmt.Sprint("f", i))
		w.do("DELETE", fmt.Sprint("/orgs/acme/formations/f", i), "", 204)
	}
	var got []tenant.AppID
	for query := "?limit=2"; query != ""; {
		page := w.destructions(query)
		for _, d := range page.Items {
			got = append(got, d.App)
		}
		query = ""
		if page.Next != nil {
			query = "?limit=2&cursor=" + *page.Next
		}
	}
	if diff := cmp.Diff([]tenant.AppID{"f0", "f1", "f2", "f3", "f4"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFormationWhoseKeyIsLostCanBeDestroyed(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.formation("acme", "logistics")
	lost := openOn(t, w.store, func(d *orgs.Deps) { d.Keys = keyring.Single(brokenKeys{}) })
	if got := lost.call("DELETE", path, ""); got.Code != 423 || lost.state() != tenant.Active {
		t.Errorf("%d %s: %s", got.Code, got.Body, lost.state())
	}
	lost.do("DELETE", path+"?unsigned=perhaps", "", 400)
	lost.do("DELETE", path+"?unsigned=true", "", 204)
	got := lost.destructions("")
	if lost.state() != tenant.Destroyed || len(got.Items) != 1 || got.Items[0].Signature != "" || len(got.Items[0].Statement) == 0 {
		t.Errorf("%s: %+v", lost.state(), got)
	}
	// Where the key is there, it signs all the same.
	w.formation("acme", "logistics")
	w.do("DELETE", path+"?unsigned=true", "", 204)
	if got := w.destructions(""); len(got.Items) != 2 || got.Items[0].Signature == got.Items[1].Signature {
		t.Errorf("%+v", got)
	}
}

// append adds n changes to a formation's log.
func (w *world) append(key tenant.Key, n int) {
	w.t.Helper()
	var batch []change.Settled
	for i := range n {
		batch = append(batch, change.Settled{
			Change:   change.Change{Hash: sha256.Sum256(fmt.Append(nil, key, i)), Actor: "aa", Raw: []byte("raw"), Patches: []byte("[]")},
			Document: "d", Seq: uint64(i) + 1, ReceivedAt: time.Now(), Origin: change.Sync,
		})
	}
	if err := w.store.InTx(context.Background(), func(tx *store.Tx) error {
		_, err := tx.AppendChanges(context.Background(), key, batch)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

// TestALargeFormationGoesPieceByPiece: not found at once, its name taken until the
// last of it is swept, and a sweep that was broken off goes on.
func TestALargeFormationGoesPieceByPiece(t *testing.T) {
	for name, hear := range map[string]func(w *world, ctx context.Context) error{
		"told": func(w *world, ctx context.Context) error {
			return bus.Dispatch(ctx, w.function.Events(), event.FormationDeleted(tenant.Formation{Org: "acme", App: "logistics"}, time.Now()))
		},
		"by the sweep": func(w *world, ctx context.Context) error {
			return bus.Dispatch(ctx, w.function.Events(), event.Ping(time.Now()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.org("acme")
			w.formation("acme", "logistics")
			w.append(logistics, 2*store.SweepBatch)
			w.do("DELETE", path, "", 204)
			for _, gone := range []string{path, path + "/suspend", path + "/resume"} {
				method := "POST"
				if gone == path {
					method = "GET"
				}
				w.do(method, gone, "", 404)
			}
			if got := w.call("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`); got.Code != 409 || got.Header().Get("Retry-After") == "" {
				t.Errorf("its name: %d %s", got.Code, got.Body)
			}
			if got := w.call("DELETE", "/orgs/acme", ""); got.Code != 409 || got.Header().Get("Retry-After") == "" {
				t.Errorf("its organization: %d %s", got.Code, got.Body)
			}
			over, cancel := context.WithCancel(t.Context())
			cancel()
			_ = hear(w, over) // it is broken off
			if err := hear(w, t.Context()); err != nil {
				t.Fatal(err)
			}
			w.formation("acme", "logistics")
			if log, err := w.store.ChangesAfter(t.Context(), logistics, 0, 10, 1<<20); err != nil || len(log) != 0 {
				t.Errorf("inherited %d changes, %v", len(log), err)
			}
			if err := hear(w, t.Context()); err != nil || w.state() != tenant.Active {
				t.Errorf("a late word of the end takes the next one: %v", err)
			}
		})
	}
}

func TestAStateThatIsMeant(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.formation("acme", "logistics")
	for what, tc := range map[string]struct {
		get                string
		method, path, body string
		status             int
	}{
		"an organization's name":     {"/orgs/acme", "PATCH", "/orgs/acme", `{"display_name":"B"}`, 200},
		"a formation's policy":       {path, "PATCH", path, `{"enrollment_policy":"open"}`, 200},
		"suspending a formation":     {path, "POST", path + "/suspend", "", 200},
		"destroying a formation":     {path, "DELETE", path, "", 204},
		"destroying an organization": {"/orgs/acme", "DELETE", "/orgs/acme", "", 409},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.org("acme")
			w.formation("acme", "logistics")
			old := w.call("GET", tc.get, "").Header().Get("ETag")
			// Somebody else is quicker.
			w.do("PATCH", "/orgs/acme", `{"display_name":"Quick"}`, 200)
			w.do("PATCH", path, `{"enrollment_policy":"strict"}`, 200)
			now := w.call("GET", tc.get, "").Header().Get("ETag")
			if old == "" || old == now {
				t.Fatalf("ETag %s, then %s", old, now)
			}
			if got := w.call(tc.method, tc.path, tc.body, "If-Match", old); got.Code != 412 {
				t.Errorf("in the old state: %d %s", got.Code, got.Body)
			}
			if after := w.call("GET", tc.get, "").Header().Get("ETag"); after != now {
				t.Errorf("it was changed: %s, %s", now, after)
			}
			got := w.call(tc.method, tc.path, tc.body, "If-Match", now)
			if got.Code != tc.status {
				t.Errorf("in the state that is meant: %d %s", got.Code, got.Body)
			}
			if tag := got.Header().Get("ETag"); tc.status == 200 && (tag == "" || tag == now || tag != w.call("GET", tc.get, "").Header().Get("ETag")) {
				t.Errorf("afterwards: %q", tag)
			}
		})
	}
}

// TestOfManyWhoMeanOneStateOneWins on both engines.
func TestOfManyWhoMeanOneStateOneWins(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := openWorld(t, url, quiet)
		w.org("acme")
		tag := w.call("GET", "/orgs/acme", "").Header().Get("ETag")
		var won, lost atomic.Int32
		together(16, func(i int) {
			switch got := w.call("PATCH", "/orgs/acme", fmt.Sprintf(`{"display_name":"N%d"}`, i), "If-Match", tag); got.Code {
			case 200:
				won.Add(1)
			case 412:
				lost.Add(1)
			default:
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
		if won.Load() != 1 || lost.Load() != 15 {
			t.Errorf("%d won, %d lost", won.Load(), lost.Load())
		}
	})
}

// together calls n functions at once and waits for them.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	all.Wait()
}

// TestOneOfSixtyFourMakesTheFormation: sixty-four want one name, and then sixty-four
// want the last places; on both engines.
func TestOneOfSixtyFourMakesTheFormation(t *testing.T) {
	engines(t, func(t *testing.T, url string) {
		w := openWorld(t, url, quiet)
		w.do("POST", "/orgs", `{"org_id":"acme","display_name":"A","quotas":{"max_formations":3}}`, 201)
		count := func(body func(i int) string) map[int]int {
			var mu sync.Mutex
			got := map[int]int{}
			together(64, func(i int) {
				answer := w.call("POST", "/orgs/acme/formations", body(i))
				if answer.Code == 429 && !strings.Contains(answer.Body.String(), `"limit":{"name":"max_formations","value":3}`) {
					t.Errorf("it does not say which limit: %s", answer.Body)
				}
				mu.Lock()
				defer mu.Unlock()
				got[answer.Code]++
			})
			return got
		}
		if diff := cmp.Diff(map[int]int{201: 1, 409: 63}, count(func(int) string { return `{"app_id":"one"}` })); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[int]int{201: 2, 429: 62}, count(func(i int) string { return fmt.Sprintf(`{"app_id":"f%d"}`, i) })); diff != "" {
			t.Error(diff)
		}
		if u, err := w.store.Usage(t.Context(), "acme", time.Now()); err != nil || u.Formations != 3 {
			t.Errorf("%+v %v", u, err)
		}
	})
}

// TestPagesHoldStillWhileThingsAreMade: what was there when the walk began is met
// once, whatever is made or destroyed meanwhile.
func TestPagesHoldStillWhileThingsAreMade(t *testing.T) {
	w := newWorld(t)
	w.do("POST", "/orgs", `{"org_id":"acme","display_name":"A","quotas":{"max_formations":100}}`, 201)
	want := map[string]int{}
	for i := range 9 {
		id := fmt.Sprintf("m%d", i)
		w.formation("acme", id)
		want[id] = 1
	}
	got, step := map[string]int{}, 0
	for query := "?limit=2"; query != ""; step++ {
		var page struct {
			Items []struct {
				App string `json:"app_id"`
			} `json:"items"`
			Next *string `json:"next"`
		}
		if err := json.Unmarshal(w.do("GET", "/orgs/acme/formations"+query, "", 200), &page); err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Items {
			if want[f.App] > 0 {
				got[f.App]++
			}
		}
		query = ""
		if page.Next != nil {
			query = "?limit=2&cursor=" + *page.Next
		}
		w.formation("acme", fmt.Sprintf("a%d", step))  // before what was shown
		w.formation("acme", fmt.Sprintf("m%dx", step)) // among it
		w.formation("acme", fmt.Sprintf("z%d", step))  // after it
		w.do("DELETE", fmt.Sprintf("/orgs/acme/formations/a%d", step), "", 204)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheListShowsOneState(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.formation("acme", "a")
	w.formation("acme", "b")
	w.do("POST", "/orgs/acme/formations/b/suspend", "", 200)
	for query, want := range map[string]string{"": "a b", "?state=active": "a", "?state=suspended": "b"} {
		var page struct {
			Items []struct {
				App string `json:"app_id"`
			} `json:"items"`
		}
		if err := json.Unmarshal(w.do("GET", "/orgs/acme/formations"+query, "", 200), &page); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range page.Items {
			got = append(got, f.App)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v", query, got)
		}
	}
	w.do("GET", "/orgs/acme/formations?state=destroyed", "", 400)
}

// TestUsageStandsBesideEachLimit in one organization and in the list alike.
func TestUsageStandsBesideEachLimit(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.formation("acme", "logistics")
	w.append(logistics, 3)
	var one, list struct {
		Usage store.Usage `json:"usage"`
		Items []struct {
			Usage store.Usage `json:"usage"`
		} `json:"items"`
	}
	if err := errors.Join(json.Unmarshal(w.do("GET", "/orgs/acme", "", 200), &one), json.Unmarshal(w.do("GET", "/orgs", "", 200), &list)); err != nil {
		t.Fatal(err)
	}
	want := store.Usage{Formations: 1, Documents: 1, DocumentsPerFormation: 1, BytesStored: 3 * len("raw[]")}
	if diff := cmp.Diff(want, one.Usage); diff != "" {
		t.Error(diff)
	}
	if len(list.Items) != 1 || list.Items[0].Usage != want {
		t.Errorf("%+v", list)
	}
	if !bytes.Contains(w.do("GET", path, "", 200), []byte(`"usage":{"peers":0,"sessions":0,"documents":1,"bytes_stored":15}`)) {
		t.Error("the formation does not say what it has")
	}
}
