package enroll_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
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
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// vouching is an organization's identity providers and its policy, as a test has them.
type vouching struct {
	mu       sync.Mutex
	people   map[string]identity.Claims // by what they show
	down     bool
	asked    int
	checked  int
	decision policy.Decision
	requests []policy.Request
}

func (v *vouching) Verify(_ context.Context, org tenant.OrgID, p identity.Proof, _ time.Time) (identity.Claims, identity.Provider, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	provider := identity.Provider{Key: identity.Key{Org: org, ID: "idp"}, Kind: identity.OIDC, Issuer: "https://idp.example"}
	if v.down {
		return identity.Claims{}, provider, fault.Unavailable.New("the provider at 10.1.2.3 does not answer")
	}
	shown := p.Token + string(p.SAML)
	if len(p.Chain) > 0 {
		shown = p.Chain[0].Subject.CommonName
	}
	claims, ok := v.people[shown]
	if !ok {
		return identity.Claims{}, provider, fault.Unauthenticated.New("the signature is not by a key of the provider's")
	}
	claims.Provider, claims.Kind, claims.Issuer = provider.ID, provider.Kind, provider.Issuer
	return claims, provider, nil
}

func (v *vouching) Check(context.Context, identity.Provider) (identity.Report, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.checked++
	return identity.Report{OK: !v.down}, nil
}

func (v *vouching) Decide(_ context.Context, c identity.Claims, r policy.Request, now time.Time) (policy.Decision, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests = append(v.requests, r)
	d := v.decision
	if !c.ExpiresAt.IsZero() {
		d.Validity = min(d.Validity, c.ExpiresAt.Sub(now))
	}
	return d, nil
}

func (v *vouching) set(change func(*vouching)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(v)
}

// allowing is a policy that lets in whoever ann is.
func allowing() *vouching {
	return &vouching{
		people: map[string]identity.Claims{},
		decision: policy.Decision{
			Allowed: true, Rule: "contractors", Version: 3, Grant: enrollment.Grant{Tier: cert.Tactical, Permissions: cert.Relay}, Validity: 24 * time.Hour, Credentials: true,
			Reasons: []policy.Reason{{Rule: "staff", Detail: "groups has no staff"}, {Rule: "contractors", Matched: true}},
		},
	}
}

// vouched is a world in which providers vouch for ann by the token "ann's token".
func vouched(t testing.TB, url string, change ...func(*enroll.Deps)) (*world, *vouching) {
	t.Helper()
	v := allowing()
	w := openWorld(t, url, append([]func(*enroll.Deps){func(d *enroll.Deps) {
		d.Identities, d.Rules, d.Grace = v, v, time.Hour
	}}, change...)...)
	v.people["ann's token"] = identity.Claims{Subject: "ann", Groups: []string{"contractors"}, ExpiresAt: w.time().Add(8 * time.Hour), Attributes: map[string]any{"clearance": "hush-hush"}}
	v.people["bob's token"] = identity.Claims{Subject: "bob", ExpiresAt: w.time().Add(8 * time.Hour)}
	return w, v
}

// challenge gets a challenge of the formation.
func (w *world) challenge() string {
	w.t.Helper()
	got := w.call("POST", base+"/enroll/challenge", nil, "Authorization", "")
	if got.Code != 201 {
		w.t.Fatalf("%d %s", got.Code, got.Body)
	}
	out := parse[struct {
		Nonce     string    `json:"nonce"`
		MeshID    string    `json:"mesh_id"`
		ExpiresAt time.Time `json:"expires_at"`
	}](w.t, got.Body.Bytes())
	if out.MeshID != meshID || !out.ExpiresAt.After(w.time()) {
		w.t.Fatalf("%+v", out)
	}
	return out.Nonce
}

// answers is the node's proof over a challenge.
func (n node) answers(challenge string, at time.Time) map[string]any {
	return n.answersIn(authority.Possession{Key: key, MeshID: meshID, Nonce: challenge}, at)
}

func (n node) answersIn(p authority.Possession, at time.Time) map[string]any {
	p.Purpose, p.NodeID, p.Subject, p.At = authority.ForEnroll, n.id, n.public(), at.Truncate(time.Millisecond)
	return map[string]any{"timestamp_ms": at.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(n.private, p.Message()))}
}

// claim is a node's request to be let in for who it is; more is laid over it.
func (w *world) claim(n node, token string, more map[string]any) map[string]any {
	w.t.Helper()
	challenge := w.challenge()
	out := map[string]any{
		"identity": map[string]any{"token": token}, "challenge": challenge,
		"public_key": hex.EncodeToString(n.public()), "node_id": n.id, "proof": n.answers(challenge, w.time()),
	}
	maps.Copy(out, more)
	return out
}

// TestANodeEnrollsByWhoItIs, in either form, and gets what the policy gives.
func TestANodeEnrollsByWhoItIs(t *testing.T) {
	for engine, url := range engines {
		t.Run(engine, func(t *testing.T) {
			w, v := vouched(t, url(t))
			first := newNode("alpha-1", 1)
			got := w.enroll(w.claim(first, "ann's token", map[string]any{"wants": map[string]any{"tier": "regional"}}))
			if got.Code != 201 {
				t.Fatalf("%d %s", got.Code, got.Body)
			}
			c := parse[struct {
				certificate
				Credentials struct {
					Encoded []byte `json:"encoded"`
					Secret  []byte `json:"formation_secret"`
				} `json:"credentials"`
			}](t, got.Body.Bytes())
			decoded, err := cert.DecodeExact(c.Certificate)
			if err != nil || decoded.Tier != cert.Tactical || decoded.Permissions != cert.Relay || decoded.ExpiresAt.Sub(decoded.IssuedAt) != 8*time.Hour {
				t.Errorf("%+v %v", decoded, err)
			}
			root, err := genesis.FromSeed("logistics", tenant.Controlled, 1, genesis.Secret(bytes.Repeat([]byte{7}, 32)))
			if err != nil {
				t.Fatal(err)
			}
			member, err := genesis.DecodeCredentials(c.Credentials.Encoded)
			if diff := cmp.Diff(root.Credentials(), member); diff != "" || err != nil || !bytes.Equal(c.Credentials.Secret, member.FormationSecret[:]) {
				t.Errorf("%v %s", err, diff)
			}
			kept, err := w.store.Certificate(t.Context(), key, c.Serial)
			if err != nil || kept.AdmittedBy != "identity:idp/ann" || kept.Rule != "policy:contractors" || kept.By != "identity:idp/ann" {
				t.Errorf("%+v %v", kept, err)
			}
			if r := v.requests[0]; r.NodeID != "alpha-1" || r.Wants.Tier != cert.Regional || r.Address.String() != "192.0.2.1" || r.Renewal || r.Enrollment != tenant.Controlled {
				t.Errorf("the policy was asked %+v", r)
			}
			// What is looked up later says nothing of what members share.
			if got := w.do("GET", base+"/certificates/"+c.Serial, nil, 200); bytes.Contains(got, []byte("credentials")) {
				t.Errorf("%s", got)
			}

			w.later(time.Second)
			second := newNode("alpha-2", 2)
			got = w.enroll(w.message(second, w.challenge()+" bob's token"))
			answer, err := enrollment.DecodeResponse(got.Body.Bytes())
			if got.Code != 201 || err != nil || answer.Status != enrollment.Approved || !bytes.Equal(answer.FormationSecret, member.FormationSecret[:]) {
				t.Fatalf("%d %+v %v", got.Code, answer, err)
			}
			if err := answer.Check(enrollment.Request{Subject: [32]byte(second.public()), MeshID: meshID, NodeID: second.id}); err != nil {
				t.Error(err)
			}

			entries := w.trail()
			if len(entries) != 2 || entries[0].Action != "certificate.issue" || entries[0].Actor != "identity:idp/ann" {
				t.Fatalf("%+v", entries)
			}
			shown := fmt.Sprint(entries[0].Detail["identity"])
			for _, want := range []string{"subject:ann", "provider:idp", "issuer:https://idp.example", "rule:contractors", "groups has no staff", "policy_version:3"} {
				if !strings.Contains(shown, want) {
					t.Errorf("no %q in %s", want, shown)
				}
			}
			decisions, err := w.store.Decisions(t.Context(), tenant.Key{Org: key.Org}, "", 10)
			if err != nil || len(decisions) != 2 || !decisions[0].Decision.Allowed {
				t.Errorf("%+v %v", decisions, err)
			}
			for where, text := range map[string]string{"audit": fmt.Sprint(entries), "log": w.log.String(), "list": string(w.do("GET", base+"/certificates", nil, 200))} {
				for _, secret := range []string{"ann's token", "hush-hush", base64.StdEncoding.EncodeToString(member.FormationSecret[:])} {
					if strings.Contains(text, secret) {
						t.Errorf("%s is in the %s", secret, where)
					}
				}
			}
		})
	}
}

// TestWhatMayBeShown: each kind of proof reaches the provider whole.
func TestWhatMayBeShown(t *testing.T) {
	chain := []*x509.Certificate{{Raw: []byte{1}}}
	chain[0].Subject.CommonName = "card"
	w, v := vouched(t, engines["sqlite"](t), func(d *enroll.Deps) {
		d.Chain = func(r *http.Request) ([]*x509.Certificate, error) {
			if r.Header.Get("X-Card") == "" {
				return nil, nil
			}
			return chain, nil
		}
	})
	v.people["<response/>"], v.people["card"] = v.people["ann's token"], v.people["ann's token"]
	saml := base64.StdEncoding.EncodeToString([]byte("<response/>"))
	for i, tc := range []struct {
		name   string
		body   func(node) any
		card   bool
		status int
		says   string
	}{
		{"SAML", func(n node) any { return w.claim(n, "", map[string]any{"identity": map[string]any{"saml": saml}}) }, false, 201, ""},
		{"a certificate", func(n node) any {
			return w.claim(n, "", map[string]any{"identity": map[string]any{"client_certificate": true}})
		}, true, 201, ""},
		{"a certificate that was not shown", func(n node) any {
			return w.claim(n, "", map[string]any{"identity": map[string]any{"client_certificate": true}})
		}, false, 401, "not accepted"},
		{"nothing", func(n node) any { return w.claim(n, "", map[string]any{"identity": map[string]any{}}) }, false, 422, "/identity"},
		{"two things", func(n node) any {
			return w.claim(n, "", map[string]any{"identity": map[string]any{"saml": saml, "token": "ann's token"}})
		}, false, 422, "/identity"},
		{"no base64", func(n node) any { return w.claim(n, "", map[string]any{"identity": map[string]any{"saml": "!"}}) }, false, 422, "/identity/saml"},
		{"a token that is too long", func(n node) any { return w.claim(n, strings.Repeat("x", 20_000), nil) }, false, 422, "/identity/token"},
		{"an enrollment token too", func(n node) any { return w.claim(n, "ann's token", map[string]any{"token": w.entry("t9", 1)}) }, false, 422, "/identity"},
		{"another field", func(n node) any {
			return w.claim(n, "", map[string]any{"identity": map[string]any{"password": "hush"}})
		}, false, 422, "/identity/password"},
		{"an unknown tier", func(n node) any {
			return w.claim(n, "ann's token", map[string]any{"wants": map[string]any{"tier": "x"}})
		}, false, 422, "/wants/tier"},
		{"binary: SAML", func(n node) any { return w.message(n, w.challenge()+" saml:"+saml) }, false, 201, ""},
		{"binary: a certificate", func(n node) any { return w.message(n, w.challenge()) }, true, 201, ""},
		{"binary: an enrollment token with a challenge", func(n node) any { return w.message(n, w.challenge()+" "+w.entry("t8", 1)) }, false, 201, ""},
		{"binary: a token and no challenge", func(n node) any { return w.message(n, "ann's token") }, false, 401, "lets nobody in"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := tc.body(newNode(fmt.Sprint("n", i), byte(i+1)))
			headers := []string{"Authorization", ""}
			if _, ok := body.(string); ok {
				headers = append(headers, "Content-Type", peatMedia)
			}
			if tc.card {
				headers = append(headers, "X-Card", "1")
			}
			got := w.call("POST", base+"/enroll", body, headers...)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
		})
	}
}

// TestWhoIsNotVouchedFor: nobody is let in, nothing is kept, outside little is said,
// and inside why.
func TestWhoIsNotVouchedFor(t *testing.T) {
	n := newNode("alpha-1", 1)
	const refused, no = "the proof of identity is not accepted", "the organization's policy does not let this node in"
	with := func(more func(*world) map[string]any) func(*world, *vouching) any {
		return func(w *world, _ *vouching) any { return w.claim(n, "ann's token", more(w)) }
	}
	over := func(change func(*world, *authority.Possession)) func(*world, *vouching) any {
		return with(func(w *world) map[string]any {
			challenge := w.challenge()
			p := authority.Possession{Key: key, MeshID: meshID, Nonce: challenge}
			change(w, &p)
			return map[string]any{"challenge": challenge, "proof": n.answersIn(p, w.time())}
		})
	}
	for name, tc := range map[string]struct {
		before func(*world, *vouching)
		body   func(*world, *vouching) any
		status int
		says   string
		why    string
		asked  int // how often the provider is
	}{
		"a proof that is not good": {body: func(w *world, _ *vouching) any { return w.claim(n, "somebody's", nil) }, status: 401, says: refused, why: "not by a key", asked: 1},
		"a policy that denies":     {before: func(_ *world, v *vouching) { v.decision = policy.Decision{Rule: "nobody"} }, status: 403, says: no, why: no, asked: 1},
		"a session that ends":      {before: func(_ *world, v *vouching) { v.decision.Validity = 59 * time.Second }, status: 403, says: no, why: "within a minute", asked: 1},
		"somebody offboarded": {before: func(w *world, _ *vouching) {
			w.do("POST", "/orgs/acme/identity/offboard", `{"provider_id":"idp","subject":"ann"}`, 200)
		}, status: 403, says: no, why: "offboarded", asked: 1},
		"a name that is too long": {before: func(w *world, v *vouching) {
			v.people["ann's token"] = identity.Claims{Subject: strings.Repeat("x", 513), ExpiresAt: w.time().Add(time.Hour)}
		}, status: 401, says: refused, why: "longer", asked: 1},
		"no challenge":  {body: with(func(*world) map[string]any { return map[string]any{"challenge": ""} }), status: 422, says: "/challenge", why: "challenge"},
		"a made-up one": {body: with(func(*world) map[string]any { return map[string]any{"challenge": "peat_chl_x"} }), status: 422, says: "/challenge", why: "challenge"},
		"one of long ago": {body: func(w *world, _ *vouching) any {
			c := w.claim(n, "ann's token", nil)
			w.later(5 * time.Minute)
			return c
		}, status: 422, says: "/challenge", why: "challenge"},
		"one that was used": {body: func(w *world, v *vouching) any {
			c := w.claim(node{"alpha-2", n.private}, "ann's token", nil)
			if got := w.enroll(c); got.Code != 201 {
				w.t.Fatalf("%d %s", got.Code, got.Body)
			}
			w.do("POST", base+"/certificates/"+w.newest(node{"alpha-2", n.private}).Serial+"/revoke", `{"reason":"superseded"}`, 200)
			w.later(time.Second)
			other := newNode("alpha-1", 2)
			return map[string]any{"identity": c["identity"], "challenge": c["challenge"], "public_key": hex.EncodeToString(other.public()), "node_id": other.id,
				"proof": other.answers(fmt.Sprint(c["challenge"]), w.time())}
		}, status: 409, says: "answered already", why: "answered already", asked: 2},
		"one of another formation": {body: func(w *world, _ *vouching) any {
			w.elsewhere()
			got := parse[struct{ Nonce string }](w.t, w.call("POST", "/orgs/acme/formations/medevac/enroll/challenge", nil, "Authorization", "").Body.Bytes())
			return w.claim(n, "ann's token", map[string]any{"challenge": got.Nonce, "proof": n.answers(got.Nonce, w.time())})
		}, status: 422, says: "/challenge", why: "challenge"},
		"possession over another nonce":       {body: over(func(w *world, p *authority.Possession) { p.Nonce = w.challenge() }), status: 422, says: "/proof/signature", why: "signature"},
		"possession over none":                {body: over(func(_ *world, p *authority.Possession) { p.Nonce = "" }), status: 422, says: "/proof/signature", why: "signature"},
		"possession for another organization": {body: over(func(_ *world, p *authority.Possession) { p.Key.Org = "rival" }), status: 422, says: "/proof/signature", why: "signature"},
		"possession for another formation":    {body: over(func(_ *world, p *authority.Possession) { p.Key.App = "medevac" }), status: 422, says: "/proof/signature", why: "signature"},
		"possession for another mesh":         {body: over(func(_ *world, p *authority.Possession) { p.MeshID = "00000000" }), status: 422, says: "/proof/signature", why: "signature"},
		"possession of another key": {body: with(func(*world) map[string]any {
			return map[string]any{"public_key": hex.EncodeToString(newNode("", 5).public())}
		}), status: 422, says: "/proof/signature", why: "signature"},
		"a suspended formation":                {before: func(w *world, _ *vouching) { w.suspend() }, status: 409, says: "suspended", why: "suspended"},
		"somebody's node id":                   {before: func(w *world, _ *vouching) { w.issue(newNode("alpha-1", 2)) }, status: 409, says: "another key", why: "another key", asked: 1},
		"a provider that does not answer":      {before: func(_ *world, v *vouching) { v.down = true }, status: 503, asked: 1},
		"a proof that may be shown once, used": {before: once, status: 409, says: "used before", why: "used before", asked: 2},
	} {
		t.Run(name, func(t *testing.T) {
			w, v := vouched(t, engines["sqlite"](t))
			if tc.before != nil {
				tc.before(w, v)
			}
			if tc.body == nil {
				tc.body = with(func(*world) map[string]any { return nil })
			}
			body := tc.body(w, v)
			told := len(w.events())
			got := w.enroll(body)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
			if v.asked != tc.asked {
				t.Errorf("the provider was asked %d times, want %d", v.asked, tc.asked)
			}
			if list, err := w.store.Certificates(t.Context(), key, authority.Filter{NodeID: n.id}, w.time(), after, 10); err != nil || len(list) > 1 || len(list) == 1 && list[0].AdmittedBy != "" {
				t.Errorf("%v %v", list, err)
			}
			trail := slices.DeleteFunc(w.trail(), func(a store.Audit) bool { return !strings.HasPrefix(a.Action, "enrollment.") })
			if tc.why == "" {
				if len(trail) != 0 || strings.Contains(got.Body.String(), "10.1.2.3") {
					t.Errorf("%+v %s", trail, got.Body)
				}
				return
			}
			if len(trail) != 1 || trail[0].Action != "enrollment.deny" || !strings.Contains(fmt.Sprint(trail[0].Detail["reason"]), tc.why) {
				t.Errorf("%+v", trail)
			}
			if events := w.events()[told:]; len(events) != 1 || events[0] != "enrollment.decided" {
				t.Errorf("%v", events)
			}
			if tc.says == refused && strings.Contains(got.Body.String(), tc.why) {
				t.Errorf("outside it is said: %s", got.Body)
			}
		})
	}
}

// once has ann show a proof that may be shown once.
func once(w *world, v *vouching) {
	claims := v.people["ann's token"]
	claims.ID, claims.Once = "a1", true
	v.people["ann's token"] = claims
	if got := w.enroll(w.claim(newNode("alpha-9", 9), "ann's token", nil)); got.Code != 201 {
		w.t.Fatalf("%d %s", got.Code, got.Body)
	}
}

// TestOneWins: of 64 nodes at once with one challenge, one assertion, one node id or one
// token of one use, one is let in.
func TestOneWins(t *testing.T) {
	for engine, url := range engines {
		for name, tc := range map[string]func(w *world, v *vouching) func(i int) map[string]any{
			"challenge": func(w *world, _ *vouching) func(int) map[string]any {
				challenge := w.challenge()
				return func(i int) map[string]any {
					n := newNode(fmt.Sprint("n", i), byte(i+1))
					return w.claim(n, "ann's token", map[string]any{"challenge": challenge, "proof": n.answers(challenge, w.time())})
				}
			},
			"assertion": func(w *world, v *vouching) func(int) map[string]any {
				claims := v.people["ann's token"]
				claims.ID, claims.Once = "a1", true
				v.people["ann's token"] = claims
				return func(i int) map[string]any { return w.claim(newNode(fmt.Sprint("n", i), byte(i+1)), "ann's token", nil) }
			},
			"node id": func(w *world, _ *vouching) func(int) map[string]any {
				return func(i int) map[string]any { return w.claim(newNode("alpha-1", byte(i+1)), "ann's token", nil) }
			},
			"token": func(w *world, _ *vouching) func(int) map[string]any {
				token := w.entry("t1", 1)
				return func(i int) map[string]any { return w.wish(newNode(fmt.Sprint("n", i), byte(i+1)), token, nil) }
			},
		} {
			t.Run(engine+"/"+name, func(t *testing.T) {
				w, v := vouched(t, url(t))
				body := tc(w, v)
				var in, out atomic.Int64
				var wg sync.WaitGroup
				begin := make(chan struct{})
				for i := range 64 {
					text, err := json.Marshal(body(i))
					if err != nil {
						t.Fatal(err)
					}
					wg.Go(func() {
						<-begin
						r := httptest.NewRequest("POST", base+"/enroll", bytes.NewReader(text))
						r.Header.Set("Content-Type", "application/json")
						got := httptest.NewRecorder()
						w.ServeHTTP(got, r)
						switch got.Code {
						case 201:
							in.Add(1)
						case 401, 409:
							out.Add(1)
						default:
							t.Errorf("%d %s", got.Code, got.Body)
						}
					})
				}
				close(begin)
				wg.Wait()
				if in.Load() != 1 || out.Load() != 63 {
					t.Errorf("%d in, %d out", in.Load(), out.Load())
				}
			})
		}
	}
}

// TestNobodyVouchesHere: a process without providers or without a policy lets nobody in
// by a proof of identity.
func TestNobodyVouchesHere(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*enroll.Deps)
		status int
	}{
		"no providers": {func(d *enroll.Deps) { d.Identities = nil }, 401},
		"no policy":    {func(d *enroll.Deps) { d.Rules = nil }, 403},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := vouched(t, engines["sqlite"](t), tc.change)
			if got := w.enroll(w.claim(newNode("alpha-1", 1), "ann's token", nil)); got.Code != tc.status {
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
}

// TestCredentialsThatDoNotOpen: nothing is signed for a node that cannot be given what
// it needs.
func TestCredentialsThatDoNotOpen(t *testing.T) {
	w, _ := vouched(t, engines["sqlite"](t), func(d *enroll.Deps) { d.Keys = brokenKeys{} })
	if got := w.enroll(w.claim(newNode("alpha-1", 1), "ann's token", nil)); got.Code < 500 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if trail := w.trail(); len(trail) != 0 {
		t.Errorf("%+v", trail)
	}
}

// TestLimits: who tries too often is told which limit, and when to come back; others
// are not hindered; and what of it is written down is bounded.
func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		rates enroll.Rates
		from  []string
		limit string
		spare []string // from which address, and what is shown, is not limited
	}{
		"an address":        {enroll.Rates{Address: 4}, []string{"198.51.100.1:99", "ann's token"}, "enrollments_per_minute_of_address", []string{"198.51.100.2:99", "ann's token"}},
		"a network of IPv6": {enroll.Rates{Address: 4}, []string{"[2001:db8::1]:99", "ann's token"}, "enrollments_per_minute_of_address", []string{"[2001:db8:0:1::1]:99", "ann's token"}},
		"an identity":       {enroll.Rates{Subject: 2}, []string{"198.51.100.1:99", "ann's token"}, "enrollments_per_minute_of_subject", []string{"198.51.100.1:99", "bob's token"}},
		"an organization":   {enroll.Rates{Org: 2}, []string{"198.51.100.1:99", "ann's token"}, "enrollments_per_minute_of_organization", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := vouched(t, engines["sqlite"](t), func(d *enroll.Deps) { d.Rates = tc.rates })
			seed := byte(0)
			try := func(from []string) *httptest.ResponseRecorder {
				seed++
				call := func(path string, body any) *httptest.ResponseRecorder {
					text, err := json.Marshal(body)
					if err != nil {
						t.Fatal(err)
					}
					r := httptest.NewRequest("POST", base+path, bytes.NewReader(text))
					r.RemoteAddr = from[0]
					r.Header.Set("Content-Type", "application/json")
					got := httptest.NewRecorder()
					w.ServeHTTP(got, r)
					return got
				}
				got := call("/enroll/challenge", nil)
				if got.Code != 201 {
					return got
				}
				challenge := parse[struct{ Nonce string }](t, got.Body.Bytes()).Nonce
				n := newNode(fmt.Sprint("n", seed), seed)
				return call("/enroll", map[string]any{
					"identity": map[string]any{"token": from[1]}, "challenge": challenge, "public_key": hex.EncodeToString(n.public()), "node_id": n.id, "proof": n.answers(challenge, w.time()),
				})
			}
			for range 2 {
				if got := try(tc.from); got.Code != 201 {
					t.Fatalf("%d %s", got.Code, got.Body)
				}
			}
			for range 60 {
				got := try(tc.from)
				if got.Code != 429 || !strings.Contains(got.Body.String(), `"name":"`+tc.limit+`"`) || got.Header().Get("Retry-After") == "" {
					t.Fatalf("%d %v %s", got.Code, got.Header(), got.Body)
				}
			}
			limited := 0
			for _, a := range w.trail() {
				if a.Action == "enrollment.limit" {
					limited++
				}
			}
			if limited != 20 {
				t.Errorf("%d are written down", limited)
			}
			if tc.spare != nil {
				if got := try(tc.spare); got.Code != 201 {
					t.Errorf("another: %d %s", got.Code, got.Body)
				}
			}
			w.later(time.Minute)
			if got := try(tc.from); got.Code != 201 {
				t.Errorf("later: %d %s", got.Code, got.Body)
			}
		})
	}
}
