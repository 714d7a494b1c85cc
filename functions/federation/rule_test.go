package federation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const (
	orgPolicy = "/orgs/acme/policy"
	appPolicy = "/orgs/acme/formations/logistics/policy"

	trucks = `{"id":"trucks","name":"Trucks","when":"\"trucks\" in claims.groups && claims.acr == \"gold\"","effect":"allow",` +
		`"grant":{"tier":"tactical","permissions":["relay"],"max_validity":"12h"},` +
		`"tests":[{"name":"trucks may join","claims":{"subject":"u-1","groups":["trucks"],"acr":"gold"},"request":{"app_id":"logistics"},"expect":{"allowed":true,"rule":"trucks"}}]}`
	leavers = `{"id":"leavers","when":"\"leavers\" in claims.groups","effect":"deny"}`
)

func rules(list ...string) string { return `{"rules":[` + strings.Join(list, ",") + `]}` }

// match makes a request with If-Match.
func (w *tokenWorld) match(method, path, body, tag string) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("X-Request-Id", "r-1")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("If-Match", tag)
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	return out
}

// decide decides as an enrollment does, and keeps the decision.
func (w *tokenWorld) decide(id string, app tenant.AppID, c identity.Claims) policy.Decision {
	w.t.Helper()
	key := tenant.Key{Org: "acme", App: app}
	p, err := new(policy.Cache).For(context.Background(), w.store, key)
	if err != nil {
		w.t.Fatal(err)
	}
	r := policy.Record{ID: id, At: w.now, Claims: c, Request: policy.Request{Key: key, Enrollment: tenant.Controlled, NodeID: "node-" + c.Subject}}
	r.Decision = p.Decide(r.Claims, r.Request, r.At)
	w.inTx(func(tx *store.Tx) error { return tx.RecordDecision(context.Background(), "acme", r) })
	return r.Decision
}

func ulidOf(n int) string { return fmt.Sprintf("01ARZ3NDEKTSV4RRFFQ6%06d", n) }

// TestContractOfPolicies shows every answer that a client written today relies on.
func TestContractOfPolicies(t *testing.T) {
	w := newTokenWorld(t, func(d *federation.Deps) { d.Prover = prover{} })
	for _, step := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"policy_none", "GET", orgPolicy, "", 200},
		{"policy_first", "PUT", orgPolicy, `{"rules":[` + trucks + `],"note":"the beginning"}`, 200},
		{"policy_second", "PUT", orgPolicy, `{"rules":[` + leavers + `,` + trucks + `],"tests":[{"name":"strangers stay out","claims":{"subject":"u-2"},"request":{"app_id":"logistics"},"expect":{"allowed":false}}]}`, 200},
		{"policy_of_formation", "PUT", appPolicy, rules(`{"id":"drill","formations":["log*"],"providers":["keycloak"],"require":["attributes.unit"],"effect":"allow"}`), 200},
		{"policy_versions", "GET", orgPolicy + "/versions", "", 200},
		{"policy_versions_page", "GET", orgPolicy + "/versions?limit=1", "", 200},
		{"policy_version", "GET", orgPolicy + "/versions/1", "", 200},
		{"policy_diff", "GET", orgPolicy + "/diff", "", 200},
		{"policy_diff_none", "GET", orgPolicy + "/diff?from=0&to=1", "", 200},
		{"policy_check", "POST", orgPolicy + "/check", rules(trucks), 200},
		{"policy_check_fails", "POST", orgPolicy + "/check", rules(strings.Replace(trucks, "gold", "silver", 1)), 200},
		{"policy_evaluate", "POST", orgPolicy + "/evaluate", `{"claims":{"subject":"u-1","groups":["trucks"],"acr":"silver"},"request":{"app_id":"logistics","node_id":"truck-7","address":"192.0.2.7"}}`, 200},
		{"policy_evaluate_draft", "POST", appPolicy + "/evaluate", `{"draft":` + rules(`{"id":"all","effect":"allow"}`) + `,"claims":{"subject":"u-1","groups":["leavers"]},"at":"2026-05-01T00:00:00+02:00"}`, 200},
		{"policy_evaluate_token", "POST", appPolicy + "/evaluate", `{"token":"good"}`, 200},
		{"policy_rollback", "POST", orgPolicy + "/rollback", `{"version":1,"note":"as it was"}`, 200},
	} {
		body := w.do(step.method, step.path, step.body, step.status)
		goldentest.Check(t, "testdata/"+step.name+".json", goldentest.JSON(t, body))
	}
	w.decide(ulidOf(1), "logistics", identity.Claims{Subject: "u-1", Groups: []string{"trucks"}, ACR: "gold", Attributes: map[string]any{"api_token": "hush"}})
	w.decide(ulidOf(2), "logistics", identity.Claims{Subject: "u-2"})
	for _, step := range []struct{ name, method, path, body string }{
		{"decisions", "GET", orgPolicy + "/decisions", ""},
		{"decisions_of_formation", "GET", "/orgs/acme/formations/medevac/policy/decisions", ""},
		{"decision", "GET", appPolicy + "/decisions/" + ulidOf(1), ""},
		{"policy_evaluate_decision", "POST", orgPolicy + "/evaluate", `{"draft":` + rules(leavers) + `,"decision_id":"` + ulidOf(1) + `"}`},
		{"policy_replay", "POST", orgPolicy + "/replay", `{"draft":` + rules(leavers) + `}`},
		{"policy_replay_current", "POST", appPolicy + "/replay", `{}`},
	} {
		goldentest.Check(t, "testdata/"+step.name+".json", goldentest.JSON(t, w.do(step.method, step.path, step.body, 200)))
	}
}

// prover takes one token.
type prover struct{}

func (prover) Verify(_ context.Context, org tenant.OrgID, p identity.Proof, _ time.Time) (identity.Claims, identity.Provider, error) {
	switch {
	case p.Token == "down":
		return identity.Claims{}, identity.Provider{}, fault.Unavailable.New("the provider does not answer")
	case p.Token != "good" || org != "acme":
		return identity.Claims{}, identity.Provider{}, identity.Refused(fault.Unauthenticated.New("the signature is not the issuer's"))
	}
	return identity.Claims{Provider: "keycloak", Kind: identity.OIDC, Subject: "u-1", Attributes: map[string]any{"unit": "4-2"}}, identity.Provider{}, nil
}

func TestPoliciesThatAreRefused(t *testing.T) {
	w := newTokenWorld(t, func(d *federation.Deps) { d.Prover = prover{} })
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"no rules":                     {"PUT", orgPolicy, `{}`, 422, "/rules"},
		"null":                         {"PUT", orgPolicy, `{"rules":null}`, 422, "/rules"},
		"a field nobody knows":         {"PUT", orgPolicy, `{"rules":[{"id":"a","effect":"allow","if":"true"}]}`, 422, "/rules/0/if"},
		"a condition that is none":     {"PUT", orgPolicy, rules(`{"id":"a","effect":"allow","when":"claims.group"}`), 422, "/rules/0/when"},
		"a note of two lines":          {"PUT", orgPolicy, `{"rules":[],"note":"a\nb"}`, 422, "/note"},
		"a test that is broken":        {"PUT", orgPolicy, rules(strings.Replace(trucks, "gold", "silver", 1)), 422, `/rules/0/tests/0`},
		"a test a formation breaks":    {"PUT", appPolicy, `{"rules":[],"tests":[{"name":"a","claims":{"subject":"a"},"request":{"app_id":"logistics"},"expect":{"allowed":true}}]}`, 422, "no rule allows it"},
		"a formation of nobody":        {"PUT", "/orgs/acme/formations/nowhere/policy", `{"rules":[]}`, 404, ""},
		"an organization of nobody":    {"PUT", "/orgs/nobody/policy", `{"rules":[]}`, 404, ""},
		"a version that is none":       {"GET", orgPolicy + "/versions/7", "", 404, ""},
		"a version that cannot be":     {"GET", orgPolicy + "/versions/x", "", 404, ""},
		"a difference from nothing":    {"GET", orgPolicy + "/diff?from=7", "", 404, ""},
		"a difference from x":          {"GET", orgPolicy + "/diff?from=x", "", 400, "from"},
		"a cursor of another list":     {"GET", orgPolicy + "/versions?cursor=MWE", "", 400, "cursor"},
		"back to nothing":              {"POST", orgPolicy + "/rollback", `{"version":7}`, 422, "/version"},
		"back to no version":           {"POST", orgPolicy + "/rollback", `{}`, 422, "/version"},
		"nobody to ask about":          {"POST", orgPolicy + "/evaluate", `{"request":{"app_id":"logistics"}}`, 422, "only one of them"},
		"two to ask about":             {"POST", orgPolicy + "/evaluate", `{"token":"a","claims":{"subject":"a"},"request":{"app_id":"logistics"}}`, 422, "only one of them"},
		"no formation":                 {"POST", orgPolicy + "/evaluate", `{"claims":{"subject":"a"}}`, 422, "/request/app_id"},
		"another formation":            {"POST", appPolicy + "/evaluate", `{"claims":{"subject":"a"},"request":{"app_id":"medevac"}}`, 422, "/request/app_id"},
		"claims without a subject":     {"POST", appPolicy + "/evaluate", `{"claims":{"groups":["a"]}}`, 422, "/claims/subject"},
		"a draft that is wrong":        {"POST", appPolicy + "/evaluate", `{"draft":{"rules":[{"id":"a","effect":"maybe"}]},"claims":{"subject":"a"}}`, 422, "/draft/rules/0/effect"},
		"a draft without rules":        {"POST", appPolicy + "/evaluate", `{"draft":{},"claims":{"subject":"a"}}`, 422, "/draft/rules"},
		"a token nobody takes":         {"POST", appPolicy + "/evaluate", `{"token":"bad"}`, 422, "/token"},
		"a token nobody can look at":   {"POST", appPolicy + "/evaluate", `{"token":"down"}`, 503, ""},
		"a decision that is not there": {"POST", appPolicy + "/evaluate", `{"decision_id":"` + ulidOf(9) + `"}`, 404, ""},
		"a decision that cannot be":    {"GET", orgPolicy + "/decisions/x", "", 404, ""},
		"a replay of too many":         {"POST", orgPolicy + "/replay", `{"limit":1001}`, 422, "/limit"},
		"a replay of a wrong draft":    {"POST", orgPolicy + "/replay", `{"draft":{"rules":[{"id":"a","effect":"maybe"}]}}`, 422, "/draft/rules/0/effect"},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.as(adminToken, tc.method, tc.path, tc.body)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
			if did, _ := w.actions(); len(did) != 0 {
				t.Errorf("the trail tells of %v", did)
			}
		})
	}
	got := newTokenWorld(t).as(adminToken, "POST", appPolicy+"/evaluate", `{"token":"good"}`)
	if got.Code != 422 || !strings.Contains(got.Body.String(), "give its claims") {
		t.Errorf("without providers: %d %s", got.Code, got.Body)
	}
}

// TestABrokenTestSaysWhich: a refused write names the test and what the rules say
// instead, and changes nothing.
func TestABrokenTestSaysWhich(t *testing.T) {
	w := newTokenWorld(t)
	w.do("PUT", orgPolicy, rules(trucks), 200)
	body := w.do("PUT", orgPolicy, rules(leavers, strings.Replace(trucks, `\"gold\"`, `\"platinum\"`, 1)), 422)
	var problem struct {
		Errors []fault.Field `json:"errors"`
	}
	if err := json.Unmarshal(body, &problem); err != nil {
		t.Fatal(err)
	}
	want := []fault.Field{{Pointer: "/rules/1/tests/0", Detail: `"trucks may join" is broken: expected to be allowed, is denied: no rule allows it (leavers: "leavers" in claims.groups is false; trucks: claims.acr == "platinum" is false)`}}
	if diff := cmp.Diff(want, problem.Errors); diff != "" {
		t.Error(diff)
	}
	if v, err := w.store.LatestPolicy(t.Context(), tenant.Key{Org: "acme"}); v.Number != 1 || err != nil {
		t.Errorf("%+v %v", v, err)
	}
}

func TestPolicyActsAreAudited(t *testing.T) {
	w := newTokenWorld(t)
	w.do("PUT", orgPolicy, `{"rules":[`+trucks+`],"note":"why not"}`, 200)
	w.now = w.now.Add(time.Second)
	w.do("PUT", appPolicy, rules(leavers), 200)
	w.now = w.now.Add(time.Second)
	w.do("PUT", orgPolicy, rules(leavers, trucks), 200)
	w.now = w.now.Add(time.Second)
	w.do("POST", orgPolicy+"/rollback", `{"version":1}`, 200)
	did, details := w.actions()
	if diff := cmp.Diff([]string{"policy.change policy", "policy.change logistics/policy", "policy.change policy", "policy.rollback policy"}, did); diff != "" {
		t.Error(diff)
	}
	for _, part := range []string{`"note":"why not"`, `"after":3`, `"restores":1`, `"removed":[{`, `"leavers`} {
		if !strings.Contains(details, part) {
			t.Errorf("%s is not in %s", part, details)
		}
	}
	// A change too long for the trail is told by its names.
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf(`{"id":"r%d","effect":"deny","when":"claims.acr == \"%s\""}`, i, strings.Repeat("x", 1500)))
	}
	w.now = w.now.Add(time.Second)
	w.do("PUT", orgPolicy, rules(many...), 200)
	if _, details := w.actions(); !strings.Contains(details, `"r99"`) || strings.Contains(details, "xxxx") {
		t.Error("the long change is not told, or whole")
	}
}

// TestIfMatchOfAPolicy: who means another state is told so.
func TestIfMatchOfAPolicy(t *testing.T) {
	w := newTokenWorld(t)
	for _, path := range []string{orgPolicy, appPolicy} {
		for _, step := range []struct {
			method, path, tag, body string
			status                  int
		}{
			{"PUT", path, `"1"`, rules(leavers), 412},
			{"PUT", path, `"0"`, rules(leavers), 200},
			{"PUT", path, `"0"`, rules(leavers), 412},
			{"PUT", path, `"1"`, rules(`{"id":"other","effect":"deny"}`), 200},
			{"POST", path + "/rollback", `"1"`, `{"version":1}`, 412},
			{"POST", path + "/rollback", `"2"`, `{"version":1}`, 200},
			{"PUT", path, "*", rules(), 200},
		} {
			if got := w.match(step.method, step.path, step.body, step.tag); got.Code != step.status {
				t.Errorf("%s %s %s: %d, want %d: %s", step.method, step.path, step.tag, got.Code, step.status, got.Body)
			}
		}
		if tag := w.as(adminToken, "GET", path, "").Header().Get("ETag"); tag != `"4"` {
			t.Errorf("%s: %s", path, tag)
		}
	}
}

// TestManySaveAtOnce: of those who mean the same state one is first; without If-Match
// each gets a version of its own.
func TestManySaveAtOnce(t *testing.T) {
	w := newTokenWorld(t)
	var wg sync.WaitGroup
	codes := make([]int, 8)
	for i := range codes {
		wg.Go(func() { codes[i] = w.match("PUT", orgPolicy, rules(leavers), `"0"`).Code })
	}
	wg.Wait()
	saved := 0
	for _, c := range codes {
		if c == http.StatusOK {
			saved++
		} else if c != http.StatusPreconditionFailed {
			t.Errorf("%d", c)
		}
	}
	if saved != 1 {
		t.Errorf("%d were first", saved)
	}
}

// TestReplayOfAPolicy: of all decisions those are found that a draft would make
// otherwise, each of its formation by the rules there.
func TestReplayOfAPolicy(t *testing.T) {
	w := newTokenWorld(t)
	w.do("PUT", orgPolicy, rules(trucks), 200)
	w.do("PUT", "/orgs/acme/formations/medevac/policy", rules(`{"id":"medics","when":"\"medics\" in claims.groups","effect":"allow"}`), 200)
	allowed := 0
	for i := range 60 {
		c := identity.Claims{Subject: fmt.Sprint("u-", i), Groups: []string{"trucks"}, ACR: "gold", ExpiresAt: w.now.Add(time.Hour)}
		app := tenant.AppID("logistics")
		switch {
		case i%20 == 7:
			c.Groups = append(c.Groups, "contractors")
		case i%3 == 0:
			app, c.Groups = "medevac", []string{"medics"}
		}
		if w.decide(ulidOf(i), app, c).Allowed {
			allowed++
		}
	}
	if allowed != 60 {
		t.Fatalf("%d were allowed", allowed)
	}
	deny := `{"id":"no-contractors","when":"\"contractors\" in claims.groups","effect":"deny"}`
	for name, tc := range map[string]struct {
		path, body, summary string
		ids                 []string
	}{
		"as it is":           {orgPolicy, `{}`, "0 of 60 would change", nil},
		"a planted change":   {orgPolicy, `{"draft":` + rules(deny, trucks) + `}`, "3 of 60 would change", []string{ulidOf(47), ulidOf(27), ulidOf(7)}},
		"the last few":       {orgPolicy, `{"draft":` + rules(deny, trucks) + `,"limit":20}`, "1 of 20 would change", []string{ulidOf(47)}},
		"of one formation":   {appPolicy, `{"draft":` + rules(deny) + `}`, "3 of 41 would change", []string{ulidOf(47), ulidOf(27), ulidOf(7)}},
		"of another":         {"/orgs/acme/formations/medevac/policy", `{"draft":` + rules(`{"id":"medics","when":"\"medics\" in claims.groups && claims.subject != \"u-9\"","effect":"allow"}`) + `}`, "1 of 19 would change", []string{ulidOf(9)}},
		"of another's rules": {"/orgs/rival/policy", `{"draft":` + rules(deny) + `}`, "0 of 0 would change", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var out struct {
				Summary string
				Items   []struct {
					ID   string `json:"decision_id"`
					What []string
				}
			}
			if err := json.Unmarshal(w.do("POST", tc.path+"/replay", tc.body, 200), &out); err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, c := range out.Items {
				ids = append(ids, c.ID)
				if diff := cmp.Diff([]string{"allowed"}, c.What); diff != "" {
					t.Error(diff)
				}
			}
			if diff := cmp.Diff(tc.ids, ids); diff != "" || out.Summary != tc.summary {
				t.Errorf("%s %s", out.Summary, diff)
			}
		})
	}
}

// TestTheCacheIsNeverStale: what decides is what was saved last, also after an
// organization was deleted and made anew.
func TestTheCacheIsNeverStale(t *testing.T) {
	w := newTokenWorld(t)
	cache := new(policy.Cache)
	allowed := func() bool {
		t.Helper()
		p, err := cache.For(t.Context(), w.store, logistics)
		if err != nil {
			t.Fatal(err)
		}
		again, err := cache.For(t.Context(), w.store, logistics)
		if err != nil || again != p {
			t.Errorf("compiled twice: %v", err)
		}
		return p.Decide(identity.Claims{Subject: "a"}, policy.Request{Key: logistics}, w.now).Allowed
	}
	if allowed() {
		t.Error("without rules")
	}
	w.do("PUT", orgPolicy, rules(`{"id":"all","effect":"allow"}`), 200)
	if !allowed() {
		t.Error("with a rule for all")
	}
	w.do("PUT", appPolicy, rules(leavers, `{"id":"no","effect":"deny"}`), 200)
	if allowed() {
		t.Error("with a rule against all")
	}
	w.inTx(func(tx *store.Tx) error {
		return errors.Join(tx.DestroyFormation(context.Background(), logistics), tx.DestroyFormation(context.Background(), tenant.Key{Org: "acme", App: "medevac"}),
			tx.DeleteOrg(context.Background(), "acme"))
	})
	w.org("acme", 10)
	w.formation("acme", "logistics")
	w.do("PUT", orgPolicy, rules(`{"id":"other","effect":"deny"}`), 200)
	if allowed() {
		t.Error("with what was another's")
	}
}
