package enroll_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// strict has an administrator decide on each node.
func (w *world) strict() *world {
	w.t.Helper()
	w.alter(`UPDATE formations SET policy = 'strict'`)
	return w
}

// waiting is what a node is told that waits.
type waiting struct {
	ID          string `json:"enrollment_id"`
	State       string `json:"state"`
	PollURL     string `json:"poll_url"`
	Secret      string `json:"poll_secret"`
	Note        string `json:"note"`
	Certificate *struct {
		certificate
		Credentials *struct {
			Encoded []byte `json:"encoded"`
		} `json:"credentials"`
	} `json:"certificate"`
}

// applies has a node apply, which must then wait.
func (w *world) applies(body any) waiting {
	w.t.Helper()
	got := w.enroll(body)
	if got.Code != 202 {
		w.t.Fatalf("%d %s", got.Code, got.Body)
	}
	out := parse[waiting](w.t, got.Body.Bytes())
	if out.State != "pending" || out.Secret == "" || out.Certificate != nil || got.Header().Get("Location") != out.PollURL || got.Header().Get("Retry-After") == "" {
		w.t.Fatalf("%+v %v", out, got.Header())
	}
	return out
}

func (w *world) poll(a waiting) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.call("GET", a.PollURL, nil, "Authorization", "Bearer "+a.Secret)
}

func (w *world) decide(a waiting, how string, status int) {
	w.t.Helper()
	w.do("POST", base+"/enrollments/"+a.ID+"/"+how, `{"note":"seen at the gate"}`, status)
}

// signatures are how many certificates there are, whether anybody has them or not.
func (w *world) signatures() int {
	w.t.Helper()
	list, err := w.store.Certificates(w.t.Context(), key, authority.Filter{}, w.time(), after, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list)
}

// TestANodeWaits: in a strict formation an administrator decides; nothing is signed
// before, and the node comes for what it is given.
func TestANodeWaits(t *testing.T) {
	for engine, url := range engines {
		t.Run(engine, func(t *testing.T) {
			w, _ := vouched(t, url(t))
			w.strict()
			n := newNode("alpha-1", 1)
			a := w.applies(w.claim(n, "ann's token", nil))
			if got := w.poll(a); got.Code != 202 || got.Header().Get("Retry-After") == "" || strings.Contains(got.Body.String(), "secret") {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if w.signatures() != 0 {
				t.Error("something was signed")
			}
			list := parse[struct{ Items []map[string]any }](t, w.do("GET", base+"/enrollments?state=pending", nil, 200)).Items
			if len(list) != 1 || list[0]["enrollment_id"] != a.ID || list[0]["tier"] != "tactical" || list[0]["validity"] != "8h0m0s" || list[0]["admitted_by"] != "identity:idp/ann" {
				t.Fatalf("%v", list)
			}
			if shown := fmt.Sprint(list[0]["evidence"]); !strings.Contains(shown, "contractors") || strings.Contains(shown, "hush-hush") {
				t.Error(shown)
			}
			w.later(9 * time.Hour) // the session is over: the administrator's word stands for it
			w.decide(a, "approve", 200)
			got := w.poll(a)
			out := parse[waiting](t, got.Body.Bytes())
			if got.Code != 200 || out.State != "approved" || out.Note != "seen at the gate" || out.Certificate == nil || out.Certificate.Credentials == nil {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
			c, err := cert.DecodeExact(out.Certificate.Certificate)
			if err != nil || !bytes.Equal(c.Subject[:], n.public()) || c.ExpiresAt.Sub(c.IssuedAt) != 8*time.Hour || !c.IssuedAt.Equal(w.time().UTC().Truncate(time.Millisecond)) {
				t.Errorf("%+v %v", c, err)
			}
			// Both again, and nothing changes.
			w.decide(a, "approve", 200)
			w.decide(a, "deny", 409)
			if again := parse[waiting](t, w.poll(a).Body.Bytes()); again.Certificate == nil || again.Certificate.Serial != out.Certificate.Serial || w.signatures() != 1 {
				t.Errorf("%+v", again)
			}
			kept, err := w.store.Certificate(t.Context(), key, out.Certificate.Serial)
			if err != nil || kept.By != "bootstrap-admin" || kept.Rule != "policy:contractors" || kept.AdmittedBy != "identity:idp/ann" || kept.Why != "seen at the gate" {
				t.Errorf("%+v %v", kept, err)
			}
			var acts []string
			for _, e := range w.trail() {
				acts = append(acts, e.Actor+" "+e.Action)
			}
			slices.Sort(acts)
			if fmt.Sprint(acts) != "[bootstrap-admin certificate.issue identity:idp/ann enrollment.pending]" {
				t.Error(acts)
			}
			events := w.events()
			slices.Sort(events)
			if fmt.Sprint(events) != "[certificate.issued enrollment.decided enrollment.decided]" {
				t.Error(events)
			}
			if text := fmt.Sprint(w.trail()) + w.log.String(); strings.Contains(text, a.Secret) {
				t.Error("the secret is written down")
			}
		})
	}
}

// TestANodeIsTurnedAway, and is told so in either form until it may ask anew.
func TestANodeIsTurnedAway(t *testing.T) {
	w, _ := vouched(t, engines["sqlite"](t))
	w.strict()
	n := newNode("alpha-1", 1)
	a := w.applies(w.claim(n, "ann's token", nil))
	w.decide(a, "deny", 200)
	w.decide(a, "deny", 200)
	w.decide(a, "approve", 409)
	if got := w.poll(a); got.Code != 200 || !strings.Contains(got.Body.String(), `"state":"denied"`) || !strings.Contains(got.Body.String(), "seen at the gate") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	w.later(time.Second)
	if got := w.enroll(w.claim(n, "ann's token", nil)); got.Code != 403 || !strings.Contains(got.Body.String(), "seen at the gate") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	w.later(time.Second)
	got := w.enroll(w.message(n, w.challenge()+" ann's token"))
	if m, err := enrollment.DecodeResponse(got.Body.Bytes()); got.Code != 403 || err != nil || m.Status != enrollment.Denied || !strings.Contains(m.Reason, "seen at the gate") {
		t.Errorf("%d %+v %v", got.Code, m, err)
	}
	w.later(enrollment.ApplicationLife)
	if got := w.poll(a); got.Code != 401 {
		t.Errorf("long after: %d %s", got.Code, got.Body)
	}
	if w.signatures() != 0 {
		t.Error("something was signed")
	}
}

// TestANodeAsksAgain: one that lost the answer, or has no other way to ask, shows its
// key again and is told how it stands, in peat-mesh's message and with a token of one
// use too. Nobody else is told by repeating what it said.
func TestANodeAsksAgain(t *testing.T) {
	w := newWorld(t).strict()
	token, n := w.entry("t1", 1), newNode("alpha-1", 1)
	message := w.message(n, token)
	ask := func(body string) (int, enrollment.Response) {
		got := w.enroll(body)
		m, err := enrollment.DecodeResponse(got.Body.Bytes())
		if err != nil {
			t.Fatalf("%d %s: %v", got.Code, got.Body, err)
		}
		return got.Code, m
	}
	if code, m := ask(message); code != 202 || m.Status != enrollment.Pending {
		t.Fatalf("%d %+v", code, m)
	}
	if code, m := ask(message); code != 409 || !strings.Contains(m.Reason, "used already") {
		t.Errorf("the same again: %d %+v", code, m)
	}
	w.later(time.Second)
	if code, m := ask(w.message(n, token)); code != 202 || m.Status != enrollment.Pending {
		t.Errorf("%d %+v", code, m)
	}
	// In JSON it gets another secret, and the one before is good no more.
	w.later(time.Second)
	first := w.applies(w.wish(n, token, nil))
	w.later(time.Second)
	second := w.applies(w.wish(n, token, nil))
	if first.ID != second.ID || first.Secret == second.Secret || w.poll(first).Code != 401 || w.poll(second).Code != 202 {
		t.Errorf("%+v %+v", first, second)
	}
	if w.uses("t1") != 1 {
		t.Errorf("%d uses", w.uses("t1"))
	}
	// Another node finds the token used up.
	if code, m := ask(w.message(newNode("alpha-2", 2), token)); code != 401 || m.Status != enrollment.Denied {
		t.Errorf("%d %+v", code, m)
	}
	w.decide(second, "approve", 200)
	w.later(time.Second)
	code, m := ask(w.message(n, token))
	if code != 201 || m.Status != enrollment.Approved || m.Check(enrollment.Request{Subject: [32]byte(n.public()), MeshID: meshID, NodeID: n.id}) != nil {
		t.Errorf("%d %+v", code, m)
	}
	if w.signatures() != 1 {
		t.Errorf("%d certificates", w.signatures())
	}
}

// TestWhoMayPoll: whoever has the secret of this very application, and nobody learns
// whether there is one.
func TestWhoMayPoll(t *testing.T) {
	w := newWorld(t).strict()
	a := w.applies(w.wish(newNode("alpha-1", 1), w.entry("t1", 1), nil))
	b := w.applies(w.wish(newNode("alpha-2", 2), w.entry("t2", 1), nil))
	for name, tc := range map[string]struct {
		url, authorization string
		status             int
	}{
		"nobody":                       {a.PollURL, "", 401},
		"an administrator":             {a.PollURL, "Bearer " + admin, 401},
		"another node":                 {a.PollURL, "Bearer " + b.Secret, 401},
		"one of nothing":               {base + "/enroll/01ARZ3NDEKTSV4RRFFQ69G5FAV", "Bearer " + a.Secret, 401},
		"what is no id":                {base + "/enroll/x", "Bearer " + a.Secret, 404},
		"the node in another scheme":   {a.PollURL, "Basic " + a.Secret, 401},
		"the node":                     {a.PollURL, "Bearer " + a.Secret, 202},
		"the node elsewhere":           {strings.Replace(a.PollURL, "logistics", "medevac", 1), "Bearer " + a.Secret, 401},
		"the node in another org":      {strings.Replace(a.PollURL, "acme", "rival", 1), "Bearer " + a.Secret, 401},
		"the node with half a secret":  {a.PollURL, "Bearer " + a.Secret[:40], 401},
		"the node with an extra space": {a.PollURL, "Bearer  " + a.Secret, 401},
	} {
		t.Run(name, func(t *testing.T) {
			if got := w.call("GET", tc.url, nil, "Authorization", tc.authorization); got.Code != tc.status {
				t.Errorf("%d, want %d: %s", got.Code, tc.status, got.Body)
			}
		})
	}
}

// TestWhatStandsAgainstAnApproval: what has changed since the node applied counts, and
// then it waits on.
func TestWhatStandsAgainstAnApproval(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(*world)
		status int
		says   string
		stays  string
	}{
		"the node id is another's now": {func(w *world) { w.issue(newNode("alpha-1", 2)) }, 409, "another key", "pending"},
		"the formation is suspended":   {func(w *world) { w.suspend() }, 409, "suspended", "pending"},
		"the formation is full":        {func(w *world) { w.quota(0) }, 429, "max_peers", "pending"},
		"the hour is full":             {func(w *world) { w.perHour(0) }, 429, "max_enrollments", "pending"},
		"the one is offboarded": {func(w *world) {
			w.do("POST", "/orgs/acme/identity/offboard", `{"provider_id":"idp","subject":"ann"}`, 200)
		}, 403, "policy does not let", "pending"},
		"its time is up": {func(w *world) { w.later(enrollment.ApplicationLife) }, 409, "expired", "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := vouched(t, engines["sqlite"](t))
			w.strict()
			a := w.applies(w.claim(newNode("alpha-1", 1), "ann's token", nil))
			tc.before(w)
			got := w.call("POST", base+"/enrollments/"+a.ID+"/approve", nil)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if out := parse[waiting](t, w.do("GET", base+"/enrollments/"+a.ID, nil, 200)); out.State != tc.stays {
				t.Errorf("%+v", out)
			}
			if list, err := w.store.Certificates(t.Context(), key, authority.Filter{}, w.time(), after, 10); err != nil || slices.ContainsFunc(list, func(c authority.Certificate) bool { return c.AdmittedBy != "" }) {
				t.Errorf("%v %v", list, err)
			}
		})
	}
}

// TestReview: a rule may have an administrator agree in a formation that is not strict.
func TestReview(t *testing.T) {
	w, v := vouched(t, engines["sqlite"](t))
	v.decision.Review = true
	a := w.applies(w.claim(newNode("alpha-1", 1), "ann's token", nil))
	w.decide(a, "approve", 200)
	if got := w.poll(a); got.Code != 200 || !strings.Contains(got.Body.String(), `"state":"approved"`) {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// TestTheFormationBecomesStrictMeanwhile: what was signed for a node that should have
// waited comes to nothing.
func TestTheFormationBecomesStrictMeanwhile(t *testing.T) {
	var w *world
	w, _ = vouched(t, engines["sqlite"](t), betweenKeys(func() { w.strict() }))
	if got := w.enroll(w.claim(newNode("alpha-1", 1), "ann's token", nil)); got.Code != 409 || w.signatures() != 0 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// TestDecidedOnce: of many administrators who decide at once, differently, one does.
func TestDecidedOnce(t *testing.T) {
	for engine, url := range engines {
		t.Run(engine, func(t *testing.T) {
			w, _ := vouched(t, url(t))
			w.strict()
			a := w.applies(w.claim(newNode("alpha-1", 1), "ann's token", nil))
			var approved, turnedAway atomic.Int64
			var wg sync.WaitGroup
			begin := make(chan struct{})
			for i := range 32 {
				how, count := "approve", &approved
				if i%2 == 0 {
					how, count = "deny", &turnedAway
				}
				wg.Go(func() {
					<-begin
					r := httptest.NewRequest("POST", base+"/enrollments/"+a.ID+"/"+how, nil)
					r.Header.Set("Authorization", "Bearer "+admin)
					got := httptest.NewRecorder()
					w.ServeHTTP(got, r)
					switch got.Code {
					case 200:
						count.Add(1)
					case 409:
					default:
						t.Errorf("%d %s", got.Code, got.Body)
					}
				})
			}
			close(begin)
			wg.Wait()
			if (approved.Load() > 0) == (turnedAway.Load() > 0) {
				t.Errorf("%d approved it, %d denied it", approved.Load(), turnedAway.Load())
			}
			decided := slices.DeleteFunc(w.trail(), func(e store.Audit) bool { return e.Action != "certificate.issue" && e.Action != "enrollment.reject" })
			if len(decided) != 1 || w.signatures() > 1 {
				t.Errorf("%+v", decided)
			}
		})
	}
}

// TestTheQueueIsBounded: an identity has so many nodes wait, and no more.
func TestTheQueueIsBounded(t *testing.T) {
	w, _ := vouched(t, engines["sqlite"](t))
	w.strict()
	for i := range enrollment.MaxWaitingOfClaimant {
		w.applies(w.claim(newNode(fmt.Sprint("n", i), byte(i+1)), "ann's token", nil))
	}
	got := w.enroll(w.claim(newNode("n99", 99), "ann's token", nil))
	if got.Code != 429 || !strings.Contains(got.Body.String(), "max_pending_enrollments_per_identity") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	w.applies(w.claim(newNode("n99", 99), "bob's token", nil))
	page := parse[struct {
		Items []json.RawMessage
		Next  string
	}](t, w.do("GET", base+"/enrollments?limit=10", nil, 200))
	rest := parse[struct{ Items []json.RawMessage }](t, w.do("GET", base+"/enrollments?limit=10&cursor="+page.Next, nil, 200))
	if len(page.Items) != 10 || len(rest.Items) != enrollment.MaxWaitingOfClaimant+1-10 {
		t.Errorf("%d and %d", len(page.Items), len(rest.Items))
	}
}
