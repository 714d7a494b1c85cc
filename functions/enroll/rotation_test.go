package enroll_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
)

func TestRotation(t *testing.T) {
	for name, url := range engines {
		t.Run(name, func(t *testing.T) { rotation(t, openWorld(t, url(t))) })
	}
}

func rotation(t *testing.T, w *world) {
	check := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Fatal(diff)
		}
		w.whole()
	}
	n := newNode("alpha-1", 1)
	old := w.issue(n)
	check("active 1")
	w.do("POST", base+"/authority/activate", nil, 409)
	w.later(time.Second)
	w.do("POST", base+"/authority/prepare", nil, 200)
	w.do("POST", base+"/authority/prepare", nil, 409)
	check("active 1", "next 0")
	w.issue(newNode("alpha-2", 2)) // the one that is prepared signs nothing yet
	w.later(time.Second)
	w.do("POST", base+"/authority/activate", nil, 200)
	check("retiring 2", "active 0")
	c := w.issue(newNode("alpha-3", 3))
	if c.Authority != w.authority("active") || c.Authority == old.Authority {
		t.Errorf("signed by %s", c.Authority)
	}
	if w.get(old.Serial).State != "active" {
		t.Error("the old certificate is not good in the window")
	}
	retire := func(id string, force bool) map[string]any { return map[string]any{"authority_id": id, "force": force} }
	w.do("POST", base+"/authority/retire", retire("genesis", false), 409)
	w.do("POST", base+"/authority/retire", retire(w.authority("active"), true), 409)
	w.do("POST", base+"/authority/retire", retire("nobody", true), 422)
	w.later(old.RenewAfter.Sub(w.time()))
	renewed := parse[certificate](t, w.renew(n, old.Serial).Body.Bytes()) // moves over
	if renewed.Authority != c.Authority {
		t.Errorf("renewed by %s", renewed.Authority)
	}
	check("retiring 2", "active 2")
	w.do("POST", base+"/authority/retire", retire("genesis", true), 200)
	check("retired 0", "active 2")
	if got := w.get(old.Serial); got.State != "revoked" || got.Reason != "authority_retired" {
		t.Errorf("%+v", got)
	}
	w.later(time.Second)
	w.issue(newNode("alpha-2", 2)) // its key did nothing wrong
	w.do("POST", base+"/authority/taint", map[string]any{"authority_id": c.Authority, "reason": "laptop stolen"}, 200)
	check("retired 0", "tainted 0", "active 0")
	if got := w.get(c.Serial); got.State != "revoked" || got.Reason != "authority_tainted" {
		t.Errorf("%+v", got)
	}
	w.later(time.Second)
	w.issue(n)
	w.do("POST", base+"/authority/taint", map[string]any{"authority_id": c.Authority, "reason": "again"}, 409)
	w.do("POST", base+"/authority/taint", map[string]any{"authority_id": c.Authority, "reason": ""}, 422)
	check("retired 0", "tainted 0", "active 1")

	l, err := cert.DecodeRevocations(w.do("GET", base+"/revocations?format=binary", nil, 200))
	if err != nil || l.Verify() != nil || hex.EncodeToString(l.Issuer[:]) != w.publicKey("active") {
		t.Fatalf("the list is not the new authority's: %v", err)
	}
	for serial, listed := range map[string]bool{old.Serial: true, c.Serial: true, w.newest(n).Serial: false} {
		decoded, err := cert.Decode(w.get(serial).Certificate)
		if _, found := l.Find(decoded); err != nil || found != listed {
			t.Errorf("%s of %s: listed %v, want %v", serial, decoded.NodeID, found, listed)
		}
	}
	if diff := cmp.Diff([]string{"prepare", "activate", "retire", "taint"}, w.rotations()); diff != "" {
		t.Error(diff)
	}
}

// TestTaintingThePreparedOne leaves the one that signs where it is.
func TestTaintingThePreparedOne(t *testing.T) {
	w := newWorld(t)
	w.later(time.Second)
	w.do("POST", base+"/authority/prepare", nil, 200)
	w.do("POST", base+"/authority/taint", map[string]any{"authority_id": w.authority("next"), "reason": "seen by others"}, 200)
	w.later(time.Second)
	w.do("POST", base+"/authority/prepare", nil, 200)
	w.later(time.Second)
	w.do("POST", base+"/authority/taint", map[string]any{"authority_id": "genesis", "reason": "stolen"}, 200)
	if diff := cmp.Diff([]string{"tainted 0", "tainted 0", "active 0"}, w.states()); diff != "" {
		t.Error(diff)
	}
	w.whole()
}

func TestAuthorityContract(t *testing.T) {
	w := newWorld(t)
	w.issue(newNode("alpha-1", 1))
	w.later(time.Second)
	w.do("POST", base+"/authority/prepare", nil, 200)
	w.later(time.Second)
	w.do("POST", base+"/authority/activate", nil, 200)
	w.later(time.Second)
	id := w.authority("active")
	body := w.do("POST", base+"/authority/taint", map[string]any{"authority_id": id, "reason": "laptop stolen"}, 200)
	text := strings.NewReplacer(id, "01FIRST", w.authority("active"), "01SECOND").Replace(string(body))
	goldentest.Check(t, "testdata/authorities.json", goldentest.JSON(t, []byte(text)))
}

func (w *world) publicKey(state string) string {
	w.t.Helper()
	for _, a := range parse[authorities](w.t, w.do("GET", base+"/authority", nil, 200)).Items {
		if a.State == state {
			return a.PublicKey
		}
	}
	return ""
}

// newest is a node's newest certificate.
func (w *world) newest(n node) certificate {
	w.t.Helper()
	return parse[struct{ Items []certificate }](w.t, w.do("GET", base+"/certificates?limit=1&node_id="+n.id, nil, 200)).Items[0]
}

func (w *world) rotations() (out []string) {
	w.t.Helper()
	trail, err := w.store.AuditTrail(w.t.Context(), key.Org, 10_000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range trail {
		if what, ok := strings.CutPrefix(a.Action, "authority."); ok {
			out = append(out, what)
		}
	}
	return out
}

// whole fails the test unless everything that is kept fits together.
func (w *world) whole() {
	w.t.Helper()
	ctx := w.t.Context()
	f, err := w.store.Formation(ctx, key)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := w.store.Authorities(ctx, key)
	if err != nil {
		w.t.Fatal(err)
	}
	byID, states := map[string]authority.Authority{}, map[authority.State]int{}
	for _, a := range all {
		byID[a.ID] = a
		states[a.State]++
		if a.State == authority.Active && string(a.PublicKey) != string(f.AuthorityPublicKey) {
			w.t.Error("the formation shows another authority than the one that signs")
		}
		if root, err := w.store.RootOf(ctx, a); err != nil || len(root.Sealed) == 0 {
			w.t.Errorf("authority %s has no key: %v", a.ID, err)
		}
	}
	if states[authority.Active] != 1 || states[authority.Next] > 1 {
		w.t.Errorf("authorities: %v", states)
	}
	ledger, err := w.store.Ledger(ctx, key)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := w.store.Certificates(ctx, key, authority.Filter{}, w.time(), after, 10_000)
	if err != nil || uint64(len(list)) != ledger.Issued {
		w.t.Errorf("%d certificates, %d issued: %v", len(list), ledger.Issued, err)
	}
	nodes := map[string]string{}
	kinds := map[string]int{}
	for i, c := range list {
		decoded, err := cert.DecodeExact(c.Encoded)
		if err != nil || decoded.Serial() != c.Serial || decoded.Verify() != nil || string(decoded.Issuer[:]) != string(byID[c.Authority].PublicKey) {
			w.t.Errorf("certificate %d is not what the ledger says: %v", c.Number, err)
		}
		if c.Number != ledger.Issued-uint64(i) {
			w.t.Errorf("certificate %d at place %d of %d", c.Number, i, ledger.Issued)
		}
		kinds[c.Rule]++
		if c.Standing(w.time()) != authority.Good {
			continue
		}
		if s := byID[c.Authority].State; !s.Trusted() {
			w.t.Errorf("certificate %d is good, and its authority %s", c.Number, s)
		}
		if owner, ok := nodes[c.NodeID]; ok && owner != string(c.Subject) {
			w.t.Errorf("node id %s has two keys", c.NodeID)
		}
		nodes[c.NodeID] = string(c.Subject)
	}
	if len(nodes) > ledger.Nodes {
		w.t.Errorf("%d nodes have certificates, and the ledger has %d", len(nodes), ledger.Nodes)
	}
	// A use of a token is a certificate, and the other way round.
	tokens, err := w.store.EnrollmentTokens(ctx, key, "", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, t := range tokens {
		if t.Uses != kinds[t.Rule()] {
			w.t.Errorf("%s: %d uses, %d certificates", t.ID, t.Uses, kinds[t.Rule()])
		}
		kinds["token"] += t.Uses
	}
	w.told(kinds)
	w.waited()
}

// told fails the test unless audit trail and outbox tell of what is kept.
func (w *world) told(rules map[string]int) {
	w.t.Helper()
	audited, events := map[string]int{}, map[string]int{}
	trail, err := w.store.AuditTrail(w.t.Context(), key.Org, 10_000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range trail {
		audited[a.Action]++
	}
	for _, e := range w.events() {
		events[e]++
	}
	issued := rules["administrator"] + rules["token"] + rules["policy:contractors"]
	if audited["certificate.issue"] != issued || events["certificate.issued"] != issued {
		w.t.Errorf("%d issued, %d audited, %d events", issued, audited["certificate.issue"], events["certificate.issued"])
	}
	if audited["certificate.renew"] != rules["renewal"] || events["certificate.renewed"] != rules["renewal"] {
		w.t.Errorf("%d renewed, %d audited, %d events", rules["renewal"], audited["certificate.renew"], events["certificate.renewed"])
	}
	if audited["certificate.revoke"] != events["certificate.revoked"] {
		w.t.Errorf("%d revocations audited, %d events", audited["certificate.revoke"], events["certificate.revoked"])
	}
	// Every change of authority but the second of an activation is of one act.
	if acts := audited["authority.prepare"] + 2*audited["authority.activate"] + audited["authority.retire"] + audited["authority.taint"]; events["authority.changed"] < acts {
		w.t.Errorf("%d events of %d changes of authority", events["authority.changed"], acts)
	}
}

// TestTheAuthorityChangesBetweenSignatureAndLedger: what the old one signed is kept
// while it is good, and signed anew if not.
func TestTheAuthorityChangesBetweenSignatureAndLedger(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(w *world)
		by     string
	}{
		"another is active": {func(w *world) {
			w.do("POST", base+"/authority/prepare", nil, 200)
			w.do("POST", base+"/authority/activate", nil, 200)
		}, "retiring"},
		"it is tainted": {func(w *world) {
			w.do("POST", base+"/authority/taint", map[string]any{"authority_id": "genesis", "reason": "stolen"}, 200)
		}, "active"},
		"it is retired": {func(w *world) {
			w.do("POST", base+"/authority/prepare", nil, 200)
			w.do("POST", base+"/authority/activate", nil, 200)
			w.do("POST", base+"/authority/retire", map[string]any{"authority_id": "genesis"}, 200)
		}, "active"},
	} {
		for engine, url := range engines {
			t.Run(name+" on "+engine, func(t *testing.T) {
				var w *world
				var once sync.Once
				w = openWorld(t, url(t), func(d *enroll.Deps) {
					d.Keys = between{d.Keys.(whole), func() { once.Do(func() { tc.change(w) }) }}
				})
				c := w.issue(newNode("alpha-1", 1))
				if c.Authority != w.authority(tc.by) || c.State != "active" {
					t.Errorf("%+v", c)
				}
				w.whole()
			})
		}
	}
}

// seeded returns chance whose seed is printed, or given by PEAT_SEED.
func seeded(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("PEAT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("PEAT_SEED=%d", seed)
	return seed
}

// TestRotationWhileIssuing has many nodes come in, renew and be revoked while the
// authority is changed again and again.
func TestRotationWhileIssuing(t *testing.T) {
	for name, url := range engines {
		t.Run(name, func(t *testing.T) {
			seed := seeded(t)
			w := openWorld(t, url(t))
			w.quota(1000)
			var wg sync.WaitGroup
			for worker := range 8 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(seed, uint64(worker)))
					for i := range 12 {
						n := newNode(fmt.Sprint("w", worker, "-", i), byte(1+worker*12+i))
						got := w.call("POST", base+"/certificates", w.order(n, nil))
						if got.Code != 201 {
							t.Errorf("%d %s", got.Code, got.Body)
							continue
						}
						if rng.IntN(4) == 0 {
							c := parse[certificate](t, got.Body.Bytes())
							got := w.call("POST", base+"/certificates/"+c.Serial+"/revoke", `{"reason":"withdrawn"}`)
							if got.Code != 200 {
								t.Errorf("%d %s", got.Code, got.Body)
							}
						}
						if rng.IntN(6) == 0 {
							if got := w.call("GET", base+"/revocations", nil); got.Code != 200 && got.Code != 503 {
								t.Errorf("%d %s", got.Code, got.Body)
							}
						}
					}
				})
			}
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 99))
				for range 10 {
					w.later(time.Millisecond)
					switch rng.IntN(4) {
					case 0, 1:
						w.call("POST", base+"/authority/prepare", nil)
						w.call("POST", base+"/authority/activate", nil)
					case 2:
						w.call("POST", base+"/authority/taint", map[string]any{"authority_id": w.authority("active"), "reason": "chance"})
					case 3:
						for _, a := range parse[authorities](t, w.do("GET", base+"/authority", nil, 200)).Items {
							if a.State == "retiring" {
								w.call("POST", base+"/authority/retire", map[string]any{"authority_id": a.ID, "force": true})
							}
						}
					}
				}
			})
			wg.Wait()
			w.whole()
		})
	}
}

// TestOneNodeIDManyKeys: whoever comes first has it, and nobody else.
func TestOneNodeIDManyKeys(t *testing.T) {
	for name, url := range engines {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, url(t))
			var mu sync.Mutex
			codes := map[int]int{}
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					got := w.call("POST", base+"/certificates", w.order(newNode("alpha-1", byte(i+1)), nil))
					mu.Lock()
					defer mu.Unlock()
					codes[got.Code]++
				})
			}
			wg.Wait()
			if diff := cmp.Diff(map[int]int{201: 1, 409: 15}, codes); diff != "" {
				t.Error(diff)
			}
			w.whole()
		})
	}
}

// TestTheLastPlaces: of 64 that want to come in at once, 10 do.
func TestTheLastPlaces(t *testing.T) {
	for name, url := range engines {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, url(t))
			w.quota(10)
			var mu sync.Mutex
			codes := map[int]int{}
			var wg sync.WaitGroup
			for i := range 64 {
				wg.Go(func() {
					got := w.call("POST", base+"/certificates", w.order(newNode(fmt.Sprint("n", i), byte(i+1)), nil))
					mu.Lock()
					defer mu.Unlock()
					codes[got.Code]++
				})
			}
			wg.Wait()
			if diff := cmp.Diff(map[int]int{201: 10, 429: 54}, codes); diff != "" {
				t.Error(diff)
			}
			w.whole()
		})
	}
}

// TestOneRenewalOfMany: however often a node asks at once, it gets one certificate.
func TestOneRenewalOfMany(t *testing.T) {
	for name, url := range engines {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, url(t))
			n := newNode("alpha-1", 1)
			c := w.issue(n)
			w.later(c.RenewAfter.Sub(w.time()))
			var mu sync.Mutex
			codes, serials := map[int]int{}, map[string]bool{}
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					got := w.renew(n, c.Serial)
					mu.Lock()
					defer mu.Unlock()
					codes[got.Code]++
					serials[parse[certificate](t, got.Body.Bytes()).Serial] = true
				})
			}
			wg.Wait()
			if codes[201] != 1 || codes[200] != 15 || len(serials) != 1 {
				t.Errorf("%v %v", codes, serials)
			}
			w.whole()
		})
	}
}

// TestMovesOfAuthorities holds the table to what it should be.
func TestMovesOfAuthorities(t *testing.T) {
	states := []authority.State{authority.Next, authority.Active, authority.Retiring, authority.Retired, authority.Tainted}
	allowed := map[authority.State]string{
		authority.Next: "active tainted", authority.Active: "retiring tainted", authority.Retiring: "retired tainted", authority.Retired: "tainted", authority.Tainted: "",
	}
	for from, to := range allowed {
		for _, next := range states {
			got, err := from.Move(next)
			if want := strings.Contains(" "+to+" ", " "+string(next)+" "); want != (err == nil) || want && got != next {
				t.Errorf("from %s to %s: %s %v", from, next, got, err)
			}
			if err != nil && fault.Of(err).Kind != fault.Conflict {
				t.Errorf("%v", err)
			}
		}
	}
}
