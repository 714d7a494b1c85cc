package enroll_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// TestContract shows every answer that a client written today relies on.
func TestContract(t *testing.T) {
	w := newWorld(t)
	n := newNode("alpha-1", 1)
	check := func(name string, body []byte) {
		goldentest.Check(t, "testdata/"+name+".json", goldentest.JSON(t, body))
	}

	check("list_empty", w.do("GET", base+"/certificates", nil, 200))
	check("revocations_empty", w.do("GET", base+"/revocations", nil, 200))
	issued := w.do("POST", base+"/certificates", w.order(n, map[string]any{
		"tier": "regional", "permissions": []string{"relay", "enroll"}, "validity": "48h", "why": "exercise",
	}), 201)
	check("issued", issued)
	c := parse[certificate](t, issued)
	check("inspected", w.do("GET", base+"/certificates/"+c.Serial, nil, 200))

	w.later(c.RenewAfter.Sub(w.time()) + time.Second)
	got := w.renew(n, c.Serial)
	if got.Code != 201 || !strings.HasSuffix(got.Header().Get("Location"), "/certificates/"+parse[certificate](t, got.Body.Bytes()).Serial) {
		t.Fatalf("%d %v %s", got.Code, got.Header(), got.Body)
	}
	check("renewed", got.Body.Bytes())
	next := parse[certificate](t, got.Body.Bytes())
	check("inspected_renewed", w.do("GET", base+"/certificates/"+next.Serial, nil, 200))
	w.later(time.Second)
	check("revoked", w.do("POST", base+"/certificates/"+next.Serial+"/revoke", `{"reason":"device_lost"}`, 200))
	check("revocations", w.do("GET", base+"/revocations", nil, 200))
	check("revocations_documents", w.do("GET", base+"/revocations?format=documents", nil, 200))
	check("list", w.do("GET", base+"/certificates", nil, 200))

	var actions []string
	trail, err := w.store.AuditTrail(t.Context(), "acme", 100)
	for _, a := range trail {
		actions = append(actions, a.Actor+" "+a.Action)
		if a.RequestID != "r-1" || strings.Contains(fmt.Sprint(a.Detail), "signature") {
			t.Errorf("%+v", a)
		}
	}
	if diff := cmp.Diff([]string{"bootstrap-admin certificate.issue", "node:alpha-1 certificate.renew", "bootstrap-admin certificate.revoke"}, actions); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if diff := cmp.Diff([]string{"certificate.issued", "certificate.renewed", "certificate.revoked"}, w.events()); diff != "" {
		t.Error(diff)
	}
}

// events are the types in the outbox, without what all have.
func (w *world) events() (types []string) {
	w.t.Helper()
	waiting, err := w.store.Outbox(w.t.Context(), 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range waiting {
		types = append(types, strings.TrimSuffix(strings.TrimPrefix(o.Event.Type(), "com.defenseunicorns.peat.gateway."), ".v1"))
	}
	return types
}

// TestAMemberBelievesWhatIsIssued: the bytes are what peers check.
func TestAMemberBelievesWhatIsIssued(t *testing.T) {
	w := newWorld(t)
	n := newNode("alpha-1", 1)
	c := w.issue(n)
	decoded, err := cert.DecodeExact(c.Certificate)
	if err != nil || decoded.Verify() != nil || decoded.MeshID != meshID || decoded.NodeID != "alpha-1" || decoded.Serial() != c.Serial {
		t.Errorf("%+v %v", decoded, err)
	}
	if decoded.Tier != cert.Edge || decoded.Permissions != cert.Standard || !decoded.ExpiresAt.Equal(c.ExpiresAt) || c.ExpiresAt.Sub(c.IssuedAt) != 24*time.Hour {
		t.Errorf("what is left out is not the least: %+v", decoded)
	}
	f, err := w.store.Formation(t.Context(), key)
	if err != nil || string(decoded.Issuer[:]) != string(f.AuthorityPublicKey) {
		t.Errorf("another authority: %v", err)
	}
}

func TestWhatIsNotIssued(t *testing.T) {
	n := newNode("alpha-1", 1)
	with := func(more map[string]any) func(*world) any {
		return func(w *world) any { return w.order(n, more) }
	}
	proof := func(change func(p *authority.Possession)) func(*world) any {
		return func(w *world) any {
			p := authority.Possession{Purpose: authority.ForIssue, Key: key, MeshID: meshID, NodeID: n.id, Subject: n.public(), At: w.time().Truncate(time.Millisecond)}
			at := p.At
			change(&p)
			return w.order(n, map[string]any{"proof": map[string]any{"timestamp_ms": at.UnixMilli(), "signature": fmt.Sprintf("%x", ed25519.Sign(n.private, p.Message()))}})
		}
	}
	for name, tc := range map[string]struct {
		body   func(*world) any
		status int
		says   string
	}{
		"not JSON":                  {func(*world) any { return `{` }, 400, ""},
		"an unknown field":          {with(map[string]any{"issuer": "x"}), 422, "/issuer"},
		"no key":                    {with(map[string]any{"public_key": ""}), 422, "/public_key"},
		"a key that is too short":   {with(map[string]any{"public_key": "abcd"}), 422, "/public_key"},
		"no node id":                {with(map[string]any{"node_id": ""}), 422, "/node_id"},
		"a node id over 255 bytes":  {with(map[string]any{"node_id": strings.Repeat("a", 256)}), 422, "/node_id"},
		"a tier nobody knows":       {with(map[string]any{"tier": "Enterprise"}), 422, "/tier"},
		"a permission nobody knows": {with(map[string]any{"permissions": []string{"relay", "fly"}}), 422, "/permissions/1"},
		"no end":                    {with(map[string]any{"validity": "0s"}), 422, "/validity"},
		"a life of years":           {with(map[string]any{"validity": "9000h"}), 422, "/validity"},
		"a life in words":           {with(map[string]any{"validity": "forever"}), 422, "/validity"},
		"a reason over the limit":   {with(map[string]any{"why": strings.Repeat("a", 257)}), 422, "/why"},
		"nobody's proof":            {func(w *world) any { o := w.order(n, nil); delete(o, "proof"); return o }, 422, "/proof"},
		"another key's proof": {func(w *world) any {
			return w.order(n, map[string]any{"proof": newNode("alpha-1", 2).proves("issue", "", w.time())})
		}, 422, "/proof/signature"},
		"a signature that is none": {with(map[string]any{"proof": map[string]any{"timestamp_ms": 1, "signature": "zz"}}), 422, "/proof/signature"},
		"a proof of long ago": {func(w *world) any {
			return w.order(n, map[string]any{"proof": n.proves("issue", "", w.time().Add(-6*time.Minute))})
		}, 422, "/proof/timestamp_ms"},
		"a proof of the future": {func(w *world) any {
			return w.order(n, map[string]any{"proof": n.proves("issue", "", w.time().Add(6*time.Minute))})
		}, 422, "/proof/timestamp_ms"},
		"a proof for renewal":          {proof(func(p *authority.Possession) { p.Purpose = authority.ForRenewal }), 422, "/proof/signature"},
		"a proof for another place":    {proof(func(p *authority.Possession) { p.Key.App = "medevac" }), 422, "/proof/signature"},
		"a proof for another owner":    {proof(func(p *authority.Possession) { p.Key.Org = "rival" }), 422, "/proof/signature"},
		"a proof for another mesh":     {proof(func(p *authority.Possession) { p.MeshID = "00000000" }), 422, "/proof/signature"},
		"a proof for another name":     {proof(func(p *authority.Possession) { p.NodeID = "alpha-2" }), 422, "/proof/signature"},
		"a proof that runs into other": {proof(func(p *authority.Possession) { p.MeshID, p.NodeID = p.MeshID+"a", "lpha-1" }), 422, "/proof/signature"},
		"the proof's time changed":     {proof(func(p *authority.Possession) { p.At = p.At.Add(time.Millisecond) }), 422, "/proof/signature"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			got := w.call("POST", base+"/certificates", tc.body(w))
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
			if l, err := w.store.Ledger(t.Context(), key); err != nil || l.Issued != 0 || len(w.events()) != 0 {
				t.Errorf("something was kept: %+v %v", l, err)
			}
		})
	}
}

func TestKeysForWhichAnybodyCanSign(t *testing.T) {
	w := newWorld(t)
	for name, subject := range map[string]string{
		"the neutral element": "01" + strings.Repeat("00", 31),
		"no point":            "02" + strings.Repeat("00", 31),
	} {
		// Ed25519's neutral element verifies a signature that anybody can make.
		signature := "01" + strings.Repeat("00", 63)
		got := w.call("POST", base+"/certificates", map[string]any{
			"public_key": subject, "node_id": "x", "proof": map[string]any{"timestamp_ms": w.time().UnixMilli(), "signature": signature},
		})
		if got.Code != 422 {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
}

func TestANodeIDIsItsFirstKeysOwn(t *testing.T) {
	w := newWorld(t)
	first, other := newNode("alpha-1", 1), newNode("alpha-1", 2)
	c := w.issue(first)
	again := func(n node, status int, says string) {
		t.Helper()
		w.later(time.Second)
		got := w.call("POST", base+"/certificates", w.order(n, nil))
		if got.Code != status || !strings.Contains(got.Body.String(), says) {
			t.Fatalf("%d, want %d and %q: %s", got.Code, status, says, got.Body)
		}
	}
	again(other, 409, "another key")
	again(node{"alpha-2", first.private}, 409, "another node id")
	again(first, 201, "") // the same key may have another certificate
	w.do("POST", base+"/certificates/"+c.Serial+"/revoke", `{"reason":"key_compromise"}`, 200)
	again(first, 409, "revoked")
	again(other, 201, "")
	w.later(25 * time.Hour)
	again(newNode("alpha-1", 3), 201, "")           // the other's has expired
	again(node{"alpha-9", other.private}, 201, "")  // and its key may have another name
	again(node{"alpha-10", first.private}, 409, "") // but never one that was revoked
}

func TestAProofIsGoodOnce(t *testing.T) {
	w := newWorld(t)
	n := newNode("alpha-1", 1)
	order := w.order(n, nil)
	w.do("POST", base+"/certificates", order, 201)
	w.later(time.Second)
	if got := w.call("POST", base+"/certificates", order); got.Code != 409 || !strings.Contains(got.Body.String(), "proof") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestTheQuotaOfPeers(t *testing.T) {
	for name, url := range engines {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, url(t))
			w.quota(3)
			for i := range 3 {
				w.issue(newNode(fmt.Sprint("n", i), byte(i+1)))
			}
			got := w.call("POST", base+"/certificates", w.order(newNode("n4", 4), nil))
			if got.Code != 429 || !strings.Contains(got.Body.String(), "max_peers_per_formation is 3") {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
			w.later(time.Second)
			c := w.issue(newNode("n0", 1)) // one that is there already
			w.do("POST", base+"/certificates/"+c.Serial+"/revoke", `{"reason":"withdrawn"}`, 200)
			w.issue(newNode("n4", 4)) // in its place
			if got := w.call("POST", base+"/certificates", w.order(newNode("n5", 5), nil)); got.Code != 429 {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
			w.later(24*time.Hour + time.Minute)
			for i := range 3 { // all have expired
				w.issue(newNode(fmt.Sprint("m", i), byte(i+11)))
			}
			if l, err := w.store.Ledger(t.Context(), key); err != nil || l.Nodes != 3 {
				t.Errorf("%+v %v", l, err)
			}
		})
	}
}

func (w *world) quota(peers int) {
	w.t.Helper()
	if err := w.store.InTx(w.t.Context(), func(tx *store.Tx) error {
		o, err := tx.LockOrg(w.t.Context(), key.Org)
		o.Quotas.MaxPeersPerFormation, o.Quotas.MaxEnrollmentsPerHour = peers, max(peers, o.Quotas.MaxEnrollmentsPerHour)
		return errors.Join(err, tx.UpdateOrg(w.t.Context(), o))
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestRenewal(t *testing.T) {
	w := newWorld(t)
	n := newNode("alpha-1", 1)
	c := w.issue(n)
	if got := w.renew(n, c.Serial); got.Code != 409 || got.Header().Get("Retry-After") == "" {
		t.Errorf("too early: %d %v %s", got.Code, got.Header(), got.Body)
	}
	w.later(c.RenewAfter.Sub(w.time()))
	if got := w.renew(node{"alpha-1", newNode("", 9).private}, c.Serial); got.Code != 422 {
		t.Errorf("by another key: %d %s", got.Code, got.Body)
	}
	if got := w.renew(n, strings.Repeat("0", 64)); got.Code != 404 {
		t.Errorf("of nothing: %d %s", got.Code, got.Body)
	}
	got := w.renew(n, c.Serial)
	next := parse[certificate](t, got.Body.Bytes())
	if got.Code != 201 || next.Replaces != c.Serial || next.Serial == c.Serial || !next.ExpiresAt.After(c.ExpiresAt) {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	w.later(time.Minute)
	if again := w.renew(n, c.Serial); again.Code != 200 || parse[certificate](t, again.Body.Bytes()).Serial != next.Serial {
		t.Errorf("asked again: %d %s", again.Code, again.Body)
	}
	if old := w.get(c.Serial); old.State != "active" || old.ReplacedBy != next.Serial {
		t.Errorf("the old one: %+v", old)
	}
	w.later(25 * time.Hour)
	if got := w.renew(n, next.Serial); got.Code != 403 || !strings.Contains(got.Body.String(), "expired") {
		t.Errorf("too late: %d %s", got.Code, got.Body)
	}
}

func TestRenewalIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(w *world, serial string)
		status int
	}{
		"once it is revoked": {func(w *world, serial string) {
			w.do("POST", base+"/certificates/"+serial+"/revoke", `{"reason":"device_lost"}`, 200)
		}, 403},
		"while the formation is suspended": {func(w *world, _ string) { w.suspend() }, 409},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := newNode("alpha-1", 1)
			c := w.issue(n)
			w.later(23 * time.Hour)
			tc.before(w, c.Serial)
			if got := w.renew(n, c.Serial); got.Code != tc.status {
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
}

func TestASuspendedFormationIssuesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.issue(newNode("alpha-1", 1))
	w.suspend()
	if got := w.call("POST", base+"/certificates", w.order(newNode("alpha-2", 2), nil)); got.Code != 409 || !strings.Contains(got.Body.String(), "suspended") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	w.do("POST", base+"/certificates/"+c.Serial+"/revoke", `{"reason":"device_lost"}`, 200)
	w.do("GET", base+"/revocations", nil, 200)
}

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	c := w.issue(newNode("alpha-1", 1))
	path := base + "/certificates/" + c.Serial + "/revoke"
	for body, status := range map[string]int{`{}`: 422, `{"reason":"boredom"}`: 422, `{"reason":"formation_destroyed"}`: 422, `{"reason":1}`: 422, ``: 415} {
		if got := w.call("POST", path, body); got.Code != status {
			t.Errorf("%s: %d %s", body, got.Code, got.Body)
		}
	}
	w.do("POST", path, `{"reason":"key_compromise"}`, 200)
	again := parse[certificate](t, w.do("POST", path, `{"reason":"withdrawn"}`, 200))
	if again.Reason != "key_compromise" || len(w.events()) != 2 {
		t.Errorf("%+v %v", again, w.events())
	}
	other := w.issue(newNode("alpha-2", 2))
	w.later(25 * time.Hour)
	w.do("POST", base+"/certificates/"+other.Serial+"/revoke", `{"reason":"withdrawn"}`, 409)
	w.do("POST", base+"/certificates/nothing/revoke", `{"reason":"withdrawn"}`, 404)
}

// TestTheList: signed, small, numbered, and only as long as it need be.
func TestTheList(t *testing.T) {
	w := newWorld(t)
	f, err := w.store.Formation(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	read := func() cert.RevocationList {
		t.Helper()
		l, err := cert.DecodeRevocations(w.do("GET", base+"/revocations?format=binary", nil, 200))
		if err != nil || l.Verify() != nil || string(l.Issuer[:]) != string(f.AuthorityPublicKey) || l.MeshID != meshID {
			t.Fatalf("%+v %v", l, err)
		}
		return l
	}
	if l := read(); l.Version != 1 || len(l.Entries) != 0 {
		t.Errorf("%+v", l)
	}
	short := w.issue(newNode("short", 1))
	long := parse[certificate](t, w.do("POST", base+"/certificates", w.order(newNode("long", 2), map[string]any{"validity": "100h"}), 201))
	if l := read(); l.Version != 1 {
		t.Errorf("an issue made a list: %+v", l)
	}
	for _, c := range []certificate{short, long} {
		w.do("POST", base+"/certificates/"+c.Serial+"/revoke", `{"reason":"device_lost"}`, 200)
	}
	l := read()
	if l.Version != 2 || len(l.Entries) != 2 || l.Entries[0].Reason != cert.DeviceLost {
		t.Errorf("%+v", l)
	}
	decoded, err := cert.Decode(long.Certificate)
	if _, found := l.Find(decoded); err != nil || !found {
		t.Errorf("the list does not find what it is for: %v", err)
	}
	etag := w.call("GET", base+"/revocations", nil).Header().Get("ETag")
	if got := w.call("GET", base+"/revocations", nil, "If-None-Match", `"x", W/`+etag, "Authorization", ""); got.Code != http.StatusNotModified || got.Body.Len() > 0 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	w.later(13 * time.Hour) // nothing has changed, and the list says that it is new
	if l := read(); l.Version != 3 || len(l.Entries) != 2 {
		t.Errorf("%+v", l)
	}
	w.later(11*time.Hour + time.Minute)
	if l := read(); l.Version != 4 || len(l.Entries) != 1 {
		t.Errorf("what has expired is still there: %+v", l)
	}
	if got := w.call("GET", base+"/revocations", nil, "If-None-Match", etag); got.Code != 200 {
		t.Errorf("%d", got.Code)
	}
	w.do("GET", base+"/revocations?format=xml", nil, 400)
	w.do("GET", "/orgs/acme/formations/nowhere/revocations", nil, 404)
}

func TestLists(t *testing.T) {
	for name, url := range engines {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, url(t))
			var serials []string
			for i := range 7 {
				c := parse[certificate](t, w.do("POST", base+"/certificates", w.order(newNode(fmt.Sprint("n", i), byte(i+1)), map[string]any{"validity": fmt.Sprint(10-i, "h")}), 201))
				serials = append(serials, c.Serial)
			}
			w.do("POST", base+"/certificates/"+serials[5]+"/revoke", `{"reason":"withdrawn"}`, 200)
			w.later(4*time.Hour + time.Minute)
			expiring := w.time().UTC().Add(3 * time.Hour).Format(time.RFC3339)
			for query, want := range map[string]string{
				"":                            "6543210",
				"state=active":                "543210"[1:],
				"state=revoked":               "5",
				"state=expired":               "6",
				"node_id=n2":                  "2",
				"node_id=n2&state=revoked":    "",
				"authority_id=genesis&state=": "6543210",
				"authority_id=other":          "",
				"expiring_before=" + expiring: "43",
				"expiring_before=" + w.time().UTC().Add(30*time.Hour).Format(time.RFC3339): "43210",
			} {
				var got string
				for next := "limit=2&" + query; next != ""; {
					page := parse[struct {
						Items []certificate `json:"items"`
						Next  *string       `json:"next"`
					}](t, w.do("GET", base+"/certificates?"+next, nil, 200))
					for _, c := range page.Items {
						got += strings.TrimPrefix(c.NodeID, "n")
					}
					if next = ""; page.Next != nil {
						next = "limit=2&" + query + "&cursor=" + *page.Next
					}
				}
				if got != want {
					t.Errorf("%s: %s, want %s", query, got, want)
				}
			}
			for _, query := range []string{"state=good", "expiring_before=soon", "node_id=" + strings.Repeat("a", 256), "node_id=%00", "cursor=MXg", "limit=0"} {
				w.do("GET", base+"/certificates?"+query, nil, 400)
			}
			w.do("GET", "/orgs/acme/formations/nowhere/certificates", nil, 404)
		})
	}
}

func TestNothingIsKeptWhenTheKeyServiceIsDown(t *testing.T) {
	w := newWorld(t, func(d *enroll.Deps) { d.Keys = brokenKeys{} })
	for path, body := range map[string]any{
		"/certificates":      w.order(newNode("alpha-1", 1), nil),
		"/authority/prepare": nil,
		"/authority/taint":   map[string]any{"authority_id": "genesis", "reason": "stolen"},
	} {
		if got := w.call("POST", base+path, body); got.Code != 503 || strings.Contains(got.Body.String(), "10.1.2.3") {
			t.Errorf("%s: %d %s", path, got.Code, got.Body)
		}
	}
	if got := w.call("GET", base+"/revocations", nil); got.Code != 503 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if diff := cmp.Diff([]string{"active 0"}, w.states()); diff != "" || len(w.events()) != 0 {
		t.Errorf("%v %s", w.events(), diff)
	}
	if trail, err := w.store.AuditTrail(t.Context(), "acme", 10); err != nil || len(trail) != 0 {
		t.Errorf("%v %v", trail, err)
	}
}

// TestAListGoesOnWithoutItsAuthority: what is true does not need to be signed anew.
func TestAListGoesOnWithoutItsAuthority(t *testing.T) {
	var down bool
	w := newWorld(t, func(d *enroll.Deps) { d.Keys = fragile{d.Keys.(whole), &down} })
	w.do("GET", base+"/revocations", nil, 200)
	c := w.issue(newNode("alpha-1", 1))
	down = true
	w.later(13 * time.Hour)
	w.do("GET", base+"/revocations", nil, 200)
	w.do("POST", base+"/certificates/"+c.Serial+"/revoke", `{"reason":"device_lost"}`, 200)
	w.do("GET", base+"/revocations", nil, 503)
	down = false
	var l struct{ Entries []json.RawMessage }
	if err := json.Unmarshal(w.do("GET", base+"/revocations", nil, 200), &l); err != nil || len(l.Entries) != 1 {
		t.Errorf("%+v %v", l, err)
	}
}

var errDown = fault.Unavailable.Wrap(errors.New("dial 10.1.2.3: refused"), "the key service does not answer")
