package enroll_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// journal is a log that may be written by many.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// entry makes a token of so many uses and returns its text.
func (w *world) entry(id string, uses int) string {
	w.t.Helper()
	return w.entryTo(key.App, id, uses)
}

func (w *world) entryTo(app tenant.AppID, id string, uses int) string {
	w.t.Helper()
	secret, err := enrollment.TokenKind.New(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	now := store.Precise(w.time())
	w.tx(func(tx *store.Tx) error {
		return tx.CreateEnrollmentToken(w.t.Context(), enrollment.Token{
			Org: key.Org, App: app, ID: id, Label: "trucks", Hash: w.tokens.Hash(secret.Reveal()), MaxUses: uses,
			Grant: enrollment.Grant{Tier: cert.Tactical, Permissions: cert.Relay}, CreatedAt: now, CreatedBy: "x", ExpiresAt: now.Add(time.Hour),
		})
	})
	return secret.Reveal()
}

func (w *world) tx(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.InTx(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// uses is how often a token was used.
func (w *world) uses(id string) int {
	w.t.Helper()
	t, err := w.store.EnrollmentToken(w.t.Context(), key, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return t.Uses
}

// wish is a node's request to be let in; more is laid over it.
func (w *world) wish(n node, token string, more map[string]any) map[string]any {
	out := map[string]any{
		"token": token, "public_key": hex.EncodeToString(n.public()), "node_id": n.id, "proof": n.proves(authority.ForEnroll, "", w.time()),
	}
	maps.Copy(out, more)
	return out
}

// message is the same in the bytes of peat-mesh, changed before it is signed.
func (w *world) message(n node, token string, change ...func(*enrollment.Request)) string {
	w.t.Helper()
	m := enrollment.Request{MeshID: meshID, NodeID: n.id, Tier: cert.Enterprise, Token: enrollment.TokenText(token), At: w.time()}
	for _, c := range change {
		c(&m)
	}
	m, err := m.Sign(n.private)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

const peatMedia = "application/vnd.peat.enrollment"

// enroll posts a wish or a message as nobody.
func (w *world) enroll(body any) *httptest.ResponseRecorder {
	w.t.Helper()
	if _, ok := body.(string); ok {
		return w.call("POST", base+"/enroll", body, "Authorization", "", "Content-Type", peatMedia)
	}
	return w.call("POST", base+"/enroll", body, "Authorization", "")
}

// trusted fails unless a member that trusts the formation's authority believes that
// the certificate is n's, with what the token gives.
func (w *world) trusted(n node, encoded []byte) {
	w.t.Helper()
	f, err := w.store.Formation(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	trust, err := cert.NewTrust(cert.Policy{MeshID: meshID, Authorities: []ed25519.PublicKey{f.AuthorityPublicKey}, Depth: 1, Limit: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := cert.DecodeExact(encoded)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := trust.Add(w.time(), c); err != nil {
		w.t.Fatal(err)
	}
	if c, err = trust.Peer(w.time(), n.public()); err != nil {
		w.t.Fatal(err)
	}
	if !bytes.Equal(c.Subject[:], n.public()) || c.NodeID != n.id || c.Tier != cert.Tactical || c.Permissions != cert.Relay || c.ExpiresAt.Sub(c.IssuedAt) != 24*time.Hour {
		w.t.Errorf("%+v", c)
	}
}

// TestANodeEnrollsItself, in either form, and gets what the token gives.
func TestANodeEnrollsItself(t *testing.T) {
	for engine, url := range engines {
		t.Run(engine, func(t *testing.T) {
			w := openWorld(t, url(t))
			token := w.entry("t1", 2)

			first := newNode("alpha-1", 1)
			got := w.enroll(w.wish(first, token, nil))
			if got.Code != 201 || got.Header().Get("Location") == "" {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
			c := parse[certificate](t, got.Body.Bytes())
			w.trusted(first, c.Certificate)
			kept, err := w.store.Certificate(t.Context(), key, c.Serial)
			if err != nil || kept.AdmittedBy != "token:t1" || kept.Rule != "token:t1" || kept.By != "token:t1" {
				t.Errorf("%+v %v", kept, err)
			}

			second := newNode("alpha-2", 2)
			got = w.enroll(w.message(second, token))
			answer, err := enrollment.DecodeResponse(got.Body.Bytes())
			if got.Code != 201 || got.Header().Get("Content-Type") != peatMedia || err != nil || answer.Status != enrollment.Approved || len(answer.FormationSecret) != 0 {
				t.Fatalf("%d %v %+v %v", got.Code, got.Header(), answer, err)
			}
			if err := answer.Check(enrollment.Request{Subject: [32]byte(second.public()), MeshID: meshID, NodeID: second.id}); err != nil {
				t.Error(err)
			}
			encoded, err := answer.Certificate.Encode()
			if err != nil {
				t.Fatal(err)
			}
			w.trusted(second, encoded)

			if n := w.uses("t1"); n != 2 {
				t.Errorf("used %d times", n)
			}
			for _, a := range w.trail() {
				if a.Actor != "token:t1" || a.Action != "certificate.issue" || a.RequestID != "r-1" {
					t.Errorf("%+v", a)
				}
			}
			events := w.events()
			slices.Sort(events)
			if diff := cmp.Diff([]string{"certificate.issued", "certificate.issued", "enrollment.decided", "enrollment.decided"}, events); diff != "" {
				t.Error(diff)
			}
			// What it is given lasts: it renews without the token.
			w.later(c.RenewAfter.Sub(w.time()))
			if got := w.renew(first, c.Serial); got.Code != 201 || !strings.Contains(got.Body.String(), `"admitted_by":"token:t1"`) {
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
}

// perHour gives the organization so many enrollments in an hour.
func (w *world) perHour(n int) {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error {
		o, err := tx.LockOrg(w.t.Context(), key.Org)
		o.Quotas.MaxEnrollmentsPerHour = n
		return errors.Join(err, tx.UpdateOrg(w.t.Context(), o))
	})
}

// elsewhere makes another formation of the organization and a token of that one.
func (w *world) elsewhere() string {
	w.t.Helper()
	w.tx(func(tx *store.Tx) error {
		return tx.CreateFormation(w.t.Context(), tenant.Formation{
			Org: key.Org, App: "medevac", MeshID: "11111111", Policy: tenant.Controlled, State: tenant.Active,
			AuthorityPublicKey: newNode("", 9).public(), CreatedAt: store.Precise(w.time()),
		})
	})
	return w.entryTo("medevac", "t2", 3)
}

func (w *world) trail() []store.Audit {
	w.t.Helper()
	trail, err := w.store.AuditTrail(w.t.Context(), key.Org, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return trail
}

// TestWhoIsNotLetIn: nobody is, nothing is kept, and no use of the token is lost.
func TestWhoIsNotLetIn(t *testing.T) {
	n := newNode("alpha-1", 1)
	const useless = "lets nobody in here"
	with := func(more map[string]any) func(*world, string) any {
		return func(w *world, token string) any { return w.wish(n, token, more) }
	}
	message := func(change func(*world, *enrollment.Request)) func(*world, string) any {
		return func(w *world, token string) any {
			return w.message(n, token, func(m *enrollment.Request) { change(w, m) })
		}
	}
	for name, tc := range map[string]struct {
		before func(*world)
		body   func(*world, string) any
		status int
		says   string
		why    string // in the audit trail
	}{
		"not JSON":             {body: func(*world, string) any { return json.RawMessage(`[]`) }, status: 422, why: "object"},
		"an unknown field":     {body: with(map[string]any{"tier": "enterprise"}), status: 422, says: "/tier", why: "tier"},
		"no token":             {body: with(map[string]any{"token": ""}), status: 401, says: useless, why: "incomplete"},
		"a mistyped token":     {body: with(map[string]any{"token": "peat_enr_0"}), status: 401, says: useless, why: "incomplete"},
		"a token of nobody":    {body: func(w *world, _ string) any { return w.wish(n, stranger, nil) }, status: 401, says: useless, why: "not known"},
		"a used up token":      {before: func(w *world) { w.alter(`UPDATE enrollment_tokens SET uses = max_uses`) }, status: 401, says: useless, why: "used up"},
		"an expired token":     {before: func(w *world) { w.later(time.Hour) }, status: 401, says: useless, why: "expired"},
		"a revoked token":      {before: func(w *world) { w.alter(`UPDATE enrollment_tokens SET revoked_at = 1`) }, status: 401, says: useless, why: "revoked"},
		"a token of elsewhere": {body: func(w *world, _ string) any { return w.wish(n, w.elsewhere(), nil) }, status: 401, says: useless, why: "not known"},
		"no key":               {body: with(map[string]any{"public_key": ""}), status: 422, says: "/public_key", why: "public_key"},
		"no node id":           {body: with(map[string]any{"node_id": ""}), status: 422, says: "/node_id", why: "node_id"},
		"no proof":             {body: func(w *world, token string) any { o := w.wish(n, token, nil); delete(o, "proof"); return o }, status: 422, says: "/proof", why: "proof"},
		"a proof for another": {body: func(w *world, token string) any {
			return w.wish(node{"alpha-2", n.private}, token, map[string]any{"node_id": "alpha-1"})
		}, status: 422, says: "/proof/signature", why: "signature"},
		"a proof for an order": {body: func(w *world, token string) any {
			return w.wish(n, token, map[string]any{"proof": n.proves(authority.ForIssue, "", w.time())})
		}, status: 422, says: "/proof/signature", why: "signature"},
		"a proof of long ago": {body: func(w *world, token string) any {
			return w.wish(n, token, map[string]any{"proof": n.proves(authority.ForEnroll, "", w.time().Add(-6*time.Minute))})
		}, status: 422, says: "/proof/timestamp_ms", why: "clock"},
		"a suspended one":          {before: func(w *world) { w.suspend() }, status: 409, says: "suspended", why: "suspended"},
		"somebody's node id":       {before: func(w *world) { w.issue(newNode("alpha-1", 2)) }, status: 409, says: "another key", why: "another key"},
		"a formation that is full": {before: func(w *world) { w.quota(0) }, status: 429, says: "max_peers_per_formation", why: "max_peers"},
		"an hour that is full":     {before: func(w *world) { w.perHour(0) }, status: 429, says: "max_enrollments_per_hour", why: "max_enrollments"},

		"binary: nothing":          {body: func(*world, string) any { return "x" }, status: 400, why: "no enrollment request"},
		"binary: more than it":     {body: func(w *world, token string) any { return w.message(n, token) + "x" }, status: 400, why: "no enrollment request"},
		"binary: too long":         {body: func(*world, string) any { return strings.Repeat("x", enrollment.MaxMessageSize+1) }, status: 413, why: "no longer"},
		"binary: no node id":       {body: message(func(_ *world, m *enrollment.Request) { m.NodeID = "" }), status: 422, why: "node_id"},
		"binary: no token":         {body: message(func(_ *world, m *enrollment.Request) { m.Token = "" }), status: 401, says: useless, why: "incomplete"},
		"binary: token of nobody":  {body: message(func(_ *world, m *enrollment.Request) { m.Token = enrollment.TokenText(stranger) }), status: 401, says: useless, why: "not known"},
		"binary: another mesh":     {body: message(func(_ *world, m *enrollment.Request) { m.MeshID = "00000000" }), status: 422, says: "mesh_id", why: "mesh_id"},
		"binary: of long ago":      {body: message(func(w *world, m *enrollment.Request) { m.At = w.time().Add(-6 * time.Minute) }), status: 422, says: "clock", why: "clock"},
		"binary: of the future":    {body: message(func(w *world, m *enrollment.Request) { m.At = w.time().Add(6 * time.Minute) }), status: 422, says: "clock", why: "clock"},
		"binary: changed":          {body: func(w *world, token string) any { return changed(w.message(n, token)) }, status: 422, says: "signature", why: "signature"},
		"binary: a suspended one":  {before: func(w *world) { w.suspend() }, body: message(func(*world, *enrollment.Request) {}), status: 409, says: "suspended", why: "suspended"},
		"binary: an hour of quota": {before: func(w *world) { w.perHour(0) }, body: message(func(*world, *enrollment.Request) {}), status: 429, says: "max_enrollments_per_hour", why: "max_enrollments"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			token := w.entry("t1", 3)
			if tc.before != nil {
				tc.before(w)
			}
			if tc.body == nil {
				tc.body = with(nil)
			}
			before, events := w.uses("t1"), len(w.events())
			body := tc.body(w, token)
			got := w.enroll(body)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
			if _, isBinary := body.(string); isBinary && tc.says != "" {
				if m, err := enrollment.DecodeResponse(got.Body.Bytes()); err != nil || m.Status != enrollment.Denied || m.Certificate != nil {
					t.Errorf("%+v %v", m, err)
				}
			}
			if w.uses("t1") != before {
				t.Error("something was used up")
			}
			if told := w.events()[events:]; len(told) > 1 || len(told) == 1 && told[0] != "enrollment.decided" {
				t.Errorf("told: %v", told)
			}
			if list, err := w.store.Certificates(t.Context(), key, authority.Filter{NodeID: n.id}, w.time(), after, 10); err != nil || len(list) > 1 || len(list) == 1 && list[0].AdmittedBy != "" {
				t.Errorf("%v %v", list, err)
			}
			entered := slices.DeleteFunc(w.trail(), func(a store.Audit) bool { return a.Actor == "bootstrap-admin" })
			if len(entered) != 1 {
				t.Fatalf("%+v", entered)
			}
			a := entered[0]
			if !strings.Contains(fmt.Sprint(a.Detail["reason"]), tc.why) || a.Detail["address"] != "192.0.2.1" {
				t.Errorf("%+v", a)
			}
			switch {
			case a.Actor == "token:t1" && a.Action == "enrollment.deny" && a.Target == "logistics/t1":
			case a.Actor == "token:t1" && a.Action == "enrollment.limit" && tc.status == 429:
			case a.Actor == "device" && a.Action == "enrollment.deny" && tc.status == 401:
			case a.Actor == "device" && a.Action == "enrollment.malformed" && tc.status != 401:
			default:
				t.Errorf("%+v", a)
			}
			for where, text := range map[string]string{"answer": got.Body.String(), "audit": fmt.Sprint(w.trail()), "log": w.log.String()} {
				if strings.Contains(text, token) || strings.Contains(text, stranger) {
					t.Errorf("the token is in the %s", where)
				}
			}
		})
	}
}

// stranger is a well-formed token that nobody made.
var stranger = func() string {
	secret, err := enrollment.TokenKind.New(&counter{})
	if err != nil {
		panic(err)
	}
	return secret.Reveal()
}()

// changed is a message whose node asks for another tier than it signed.
func changed(m string) string {
	b := []byte(m)
	b[32+1+len(meshID)+1+len("alpha-1")] ^= 1
	return string(b)
}

// TestAProofEnrollsOnce, in either form, and also one after the other.
func TestAProofEnrollsOnce(t *testing.T) {
	w := newWorld(t)
	token, n := w.entry("t1", 9), newNode("alpha-1", 1)
	wish, message := w.wish(n, token, nil), w.message(n, token)
	if got := w.enroll(wish); got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	for name, again := range map[string]any{"the same": wish, "of the same time, in the other form": message} {
		if got := w.enroll(again); got.Code != 409 || !strings.Contains(got.Body.String(), "used already") {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
	if n := w.uses("t1"); n != 1 {
		t.Errorf("used %d times", n)
	}
	w.later(time.Second)
	if got := w.enroll(w.message(n, token)); got.Code != 201 {
		t.Errorf("a newer one: %d %s", got.Code, got.Body)
	}
}

// TestTenUsesAreTen: 64 nodes show a token of ten uses at once, over the network.
func TestTenUsesAreTen(t *testing.T) {
	for engine, url := range engines {
		t.Run(engine, func(t *testing.T) {
			w := openWorld(t, url(t))
			token := w.entry("t1", 10)
			server := httptest.NewServer(w)
			defer server.Close()
			begin := make(chan struct{})
			var in, out atomic.Int64
			var wg sync.WaitGroup
			for i := range 64 {
				n := newNode(fmt.Sprint("n", i), byte(i+1))
				media, body := peatMedia, []byte(w.message(n, token))
				if i%2 == 0 {
					media = "application/json"
					body, _ = json.Marshal(w.wish(n, token, nil))
				}
				wg.Go(func() {
					<-begin
					answer, err := http.Post(server.URL+base+"/enroll", media, bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					_ = answer.Body.Close()
					switch answer.StatusCode {
					case 201:
						in.Add(1)
					case 401:
						out.Add(1)
					default:
						t.Errorf("%d", answer.StatusCode)
					}
				})
			}
			close(begin)
			wg.Wait()
			if in.Load() != 10 || out.Load() != 54 || w.uses("t1") != 10 {
				t.Errorf("%d in, %d out, %d uses", in.Load(), out.Load(), w.uses("t1"))
			}
			list, err := w.store.Certificates(t.Context(), key, authority.Filter{}, w.time(), after, 100)
			if err != nil || len(list) != 10 {
				t.Errorf("%d certificates: %v", len(list), err)
			}
		})
	}
}

// TestAFloodDoesNotFillTheTrail: of a token that is of no use, so much is written
// down a minute, and how much was not.
func TestAFloodDoesNotFillTheTrail(t *testing.T) {
	w := newWorld(t)
	token := w.entry("t1", 1)
	w.alter(`UPDATE enrollment_tokens SET uses = max_uses`)
	for range 100 {
		w.enroll(w.wish(newNode("x", 1), token, nil))
	}
	if n := len(w.trail()); n != 20 {
		t.Errorf("%d entries", n)
	}
	w.later(time.Minute)
	w.enroll(w.wish(newNode("x", 1), token, nil))
	trail := w.trail()
	if last := trail[len(trail)-1]; len(trail) != 21 || fmt.Sprint(last.Detail["not_recorded"]) != "80" {
		t.Errorf("%d %+v", len(trail), last)
	}
}

// TestTheTokenIsUsedUpMeanwhile: what was signed for it is worth nothing then.
func TestTheTokenIsUsedUpMeanwhile(t *testing.T) {
	var w *world
	w = newWorld(t, func(d *enroll.Deps) {
		d.Keys = between{d.Keys.(whole), func() { w.alter(`UPDATE enrollment_tokens SET uses = max_uses`) }}
	})
	got := w.enroll(w.wish(newNode("alpha-1", 1), w.entry("t1", 1), nil))
	if got.Code != 401 || fmt.Sprint(w.events()) != "[enrollment.decided]" || len(w.trail()) != 1 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// FuzzBinaryDoor: whatever comes, nobody is let in without a token, and nothing
// breaks.
func FuzzBinaryDoor(f *testing.F) {
	w := newWorld(f)
	f.Add([]byte(w.message(newNode("alpha-1", 1), stranger)))
	f.Add([]byte(w.message(newNode("alpha-1", 1), "")))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", base+"/enroll", bytes.NewReader(body))
		r.Header.Set("Content-Type", peatMedia)
		got := httptest.NewRecorder()
		w.ServeHTTP(got, r)
		if got.Code < 400 || got.Code >= 500 {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}
