package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func ptr[T any](v T) *T { return &v }

func trucksMayJoin() policy.Test {
	return policy.Test{Name: "trucks may join", Claims: policy.WrittenClaims{Subject: "u-1", Groups: []string{"trucks"}},
		Request: policy.WrittenRequest{App: "logistics"}, Expect: policy.Expect{Allowed: true, Rule: ptr("trucks"), Tier: ptr("tactical")}}
}

// trucks is a document that keeps what its tests promise.
func trucks() policy.Document {
	return policy.Document{
		Rules: []policy.Rule{{ID: "trucks", When: `"trucks" in claims.groups`, Effect: policy.Allow,
			Grant: &policy.Grant{Tier: "tactical", Permissions: []string{"relay"}, MaxValidity: "12h"}, Tests: []policy.Test{trucksMayJoin()}}},
		Tests: []policy.Test{{Name: "strangers stay out", Claims: policy.WrittenClaims{Subject: "u-2"}, Request: policy.WrittenRequest{App: "logistics"}}},
	}
}

// TestTestsBlockABadWrite: each change breaks a test, and the refusal says which and
// why.
func TestTestsBlockABadWrite(t *testing.T) {
	if err := policy.Check(trucks(), "acme", now); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change  func(*policy.Document)
		pointer string
		says    string
	}{
		"a misspelt group": {func(d *policy.Document) { d.Rules[0].When = `"truck" in claims.groups` }, "/rules/0/tests/0",
			`"trucks may join" is broken: expected to be allowed, is denied: no rule allows it (trucks: "truck" in claims.groups is false)`},
		"a denial too many": {func(d *policy.Document) { d.Rules = append(d.Rules, policy.Rule{ID: "all", Effect: policy.Deny}) }, "/rules/0/tests/0",
			"expected to be allowed, is denied by all"},
		"an open door": {func(d *policy.Document) { d.Rules[0].When = "" }, "/tests/0", `"strangers stay out" is broken: expected to be denied, is allowed by trucks`},
		"another rule first": {func(d *policy.Document) {
			d.Rules = append([]policy.Rule{{ID: "x", When: `claims.groups != []`, Effect: policy.Allow}}, d.Rules...)
		}, "/rules/1/tests/0", `expected the rule "trucks" to decide, and "x" does`},
		"a lower tier":      {func(d *policy.Document) { d.Rules[0].Grant.Tier = "" }, "/rules/0/tests/0", "expected the tier tactical, is edge"},
		"fewer permissions": {func(d *policy.Document) { d.Rules[0].Tests[0].Expect.Permissions = ptr([]string{"relay", "enroll"}) }, "/rules/0/tests/0", "expected the permissions [relay enroll], are [relay]"},
		"a shorter time":    {func(d *policy.Document) { d.Rules[0].Tests[0].Expect.Validity = ptr("24h") }, "/rules/0/tests/0", "expected a validity of 24h0m0s, is 12h0m0s"},
		"no credentials":    {func(d *policy.Document) { d.Rules[0].Tests[0].Expect.Credentials = ptr(true) }, "/rules/0/tests/0", "expected credentials: true, is false"},
		"no review":         {func(d *policy.Document) { d.Rules[0].Tests[0].Expect.Review = ptr(true) }, "/rules/0/tests/0", "expected review: true, is false"},
		"a session that is over": {func(d *policy.Document) { d.Rules[0].Tests[0].Claims.ExpiresAt = now }, "/rules/0/tests/0",
			"is denied by trucks: the identity's session is over"},
		"at another time": {func(d *policy.Document) {
			d.Rules[0].When = `now < timestamp("2026-12-01T00:00:00Z") && claims.groups != []`
			d.Rules[0].Tests[0].At = now.AddDate(0, 1, 0)
		}, "/rules/0/tests/0", "is false"},
	} {
		t.Run(name, func(t *testing.T) {
			d := trucks()
			tc.change(&d)
			err := policy.Check(d, "acme", now)
			if f := fault.Of(err); !errors.Is(err, fault.Invalid) || f.Fields[0].Pointer != tc.pointer || !strings.Contains(f.Fields[0].Detail, tc.says) {
				t.Errorf("%v %+v", err, f)
			}
		})
	}
}

// TestAFormationsTestsSeeBoth: they run on what will decide.
func TestAFormationsTestsSeeBoth(t *testing.T) {
	own := policy.Document{Tests: []policy.Test{trucksMayJoin()}}
	s := policy.Sources{App: "logistics", Org: policy.Source{Document: trucks()}, Formation: policy.Source{Document: own}}
	if err := policy.CheckFor(s, "acme", now); err != nil {
		t.Error(err)
	}
	s.Formation.Document.Rules = []policy.Rule{{ID: "no", Effect: policy.Deny}}
	if err := policy.CheckFor(s, "acme", now); err == nil || !strings.Contains(err.Error(), "denied by logistics/no") {
		t.Error(err)
	}
}

// TestTestsAreBounded: tests that would take long are not run to their end.
func TestTestsAreBounded(t *testing.T) {
	d := policy.Document{}
	for i := range 15 {
		d.Rules = append(d.Rules, policy.Rule{ID: fmt.Sprint(i), When: `claims.groups.exists(a, claims.groups.exists(b, a == b + "") )`, Effect: policy.Allow})
		d.Rules[i].When = `claims.groups.exists(a, claims.groups.exists(b, a + "" == b))`
		d.Rules[i].When = `claims.groups.exists(a, claims.groups.exists(b, a.size() + b.size() > 1000))`
	}
	var groups []string
	for i := range 200 {
		groups = append(groups, fmt.Sprint("group-", i))
	}
	for range 100 {
		d.Tests = append(d.Tests, policy.Test{Name: "a", Claims: policy.WrittenClaims{Subject: "a", Groups: groups}, Request: policy.WrittenRequest{App: "a"}})
	}
	if err := policy.Check(d, "acme", now); err == nil || !strings.Contains(err.Error(), "could not be run") {
		t.Error(err)
	}
}

func TestDiff(t *testing.T) {
	a, b, c := policy.Rule{ID: "a", Effect: policy.Allow}, policy.Rule{ID: "b", Effect: policy.Deny}, policy.Rule{ID: "c", Effect: policy.Deny}
	changed := a
	changed.When, changed.Grant = "true", &policy.Grant{Tier: "edge"}
	for name, tc := range map[string]struct {
		before, after []policy.Rule
		want          policy.Diff
	}{
		"nothing":   {[]policy.Rule{a, b}, []policy.Rule{a, b}, policy.Diff{}},
		"added":     {[]policy.Rule{a, b}, []policy.Rule{c, a, b}, policy.Diff{Added: []policy.Rule{c}}},
		"removed":   {[]policy.Rule{a, b}, []policy.Rule{b}, policy.Diff{Removed: []policy.Rule{a}}},
		"changed":   {[]policy.Rule{a, b}, []policy.Rule{changed, b}, policy.Diff{Changed: []policy.RuleChange{{Before: a, After: changed, Fields: []string{"when", "grant"}}}}},
		"moved":     {[]policy.Rule{a, b}, []policy.Rule{b, a}, policy.Diff{Moved: true}},
		"from none": {nil, []policy.Rule{a}, policy.Diff{Added: []policy.Rule{a}}},
	} {
		if diff := cmp.Diff(tc.want, policy.Compare(policy.Document{Rules: tc.before}, policy.Document{Rules: tc.after})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if d := policy.Compare(trucks(), policy.Document{Rules: trucks().Rules}); !d.Tests || len(d.Changed) > 0 {
		t.Errorf("%+v", d)
	}
}

// records are what a policy decided on some people.
func records(t *testing.T, d policy.Document, people ...identity.Claims) (out []policy.Record) {
	t.Helper()
	p, err := policy.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range people {
		r := policy.Record{ID: fmt.Sprint(i), At: now.Add(time.Duration(i) * time.Minute), Claims: c, Request: asked()}
		r.Decision = p.Decide(r.Claims, r.Request, r.At)
		r.Claims = policy.Redact(c)
		claims, request, decision, err := r.Text()
		if err != nil {
			t.Fatal(err)
		}
		kept, err := policy.ReadRecord("acme", claims, request, decision)
		if err != nil {
			t.Fatal(err)
		}
		kept.ID, kept.At = r.ID, r.At
		out = append(out, kept)
	}
	return out
}

// TestReplayFindsAPlantedChange: of many decisions exactly those are found that the
// draft would make otherwise.
func TestReplayFindsAPlantedChange(t *testing.T) {
	var people []identity.Claims
	for i := range 412 {
		c := identity.Claims{Subject: fmt.Sprint("u-", i), Groups: []string{"trucks"}, ExpiresAt: now.Add(48*time.Hour + 123*time.Nanosecond)}
		switch {
		case i%137 == 5:
			c.Groups = []string{"trucks", "contractors"}
		case i%2 == 0:
			c.Groups = nil
		}
		people = append(people, c)
	}
	before := trucks()
	kept := records(t, before, people...)
	for name, tc := range map[string]struct {
		change  func(*policy.Document)
		changes int
		ids     string
		what    string
	}{
		"nothing": {func(*policy.Document) {}, 0, "", ""},
		"contractors denied": {func(d *policy.Document) {
			d.Rules = append(d.Rules, policy.Rule{ID: "no", When: `"contractors" in claims.groups`, Effect: policy.Deny})
		}, 3, "5 142 279", "allowed"},
		"contractors lower": {func(d *policy.Document) {
			d.Rules = append([]policy.Rule{{ID: "c", When: `"contractors" in claims.groups`, Effect: policy.Allow}}, d.Rules...)
		}, 3, "5 142 279", "rule tier permissions validity"},
		"one more": {func(d *policy.Document) {
			d.Rules = append(d.Rules, policy.Rule{ID: "vip", When: `claims.subject == "u-100"`, Effect: policy.Allow})
		}, 1, "100", "allowed"},
		"another reason": {func(d *policy.Document) {
			d.Rules = append(d.Rules, policy.Rule{ID: "no", When: `claims.groups == []`, Effect: policy.Deny})
		}, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			draft := trucks()
			tc.change(&draft)
			got, err := policy.Ask(kept, func(tenant.AppID) (*policy.Policy, error) { return policy.Compile(draft) })
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, c := range got.Changes {
				ids = append(ids, c.Record.ID)
				if strings.Join(c.What, " ") != tc.what {
					t.Errorf("%s: %v", c.Record.ID, c.What)
				}
			}
			if got.Decisions != 412 || !got.Complete || len(got.Untold) > 0 || len(ids) != tc.changes || strings.Join(ids, " ") != tc.ids {
				t.Errorf("%d decisions, complete %t, changes %v, untold %v", got.Decisions, got.Complete, ids, got.Untold)
			}
		})
	}
}

// TestReplayDoesNotGuess: what hangs on what was not kept is said to.
func TestReplayDoesNotGuess(t *testing.T) {
	who := identity.Claims{Subject: "u-1", Session: "s", ID: "i", Attributes: map[string]any{
		"api_token": "hush", "note": strings.Repeat("long ", 100), "unit": "4-2", "keys": []any{map[string]any{"secret": "hush"}, "x"}, "deep": map[string]any{"password": "hush", "y": "z"},
	}}
	d := policy.Document{Rules: []policy.Rule{{ID: "r", When: `claims.attributes.api_token == "hush"`, Effect: policy.Allow}}}
	kept := records(t, d, who)
	if text := fmt.Sprint(kept); strings.Contains(text, "hush}") || strings.Contains(text, ":hush") || strings.Contains(text, "long long") || kept[0].Claims.Session+kept[0].Claims.ID != "" {
		t.Errorf("kept is %s", text)
	}
	for when, untold := range map[string]int{
		`claims.attributes.api_token == "hush"`:                                      1,
		`claims.attributes.note.contains("long")`:                                    1,
		`"x" in claims.attributes.keys`:                                              1,
		`claims.attributes.deep.password == "a" || claims.attributes.unit == "none"`: 1,
		`claims.attributes.deep.y == "a"`:                                            0,
		`claims.attributes.unit == "4-3"`:                                            0,
		`has(claims.attributes.api_token)`:                                           0,
	} {
		draft := policy.Document{Rules: []policy.Rule{{ID: "r", When: when, Effect: policy.Allow}}}
		got, err := policy.Ask(kept, func(tenant.AppID) (*policy.Policy, error) { return policy.Compile(draft) })
		if err != nil || len(got.Untold) != untold {
			t.Errorf("%s: %+v %v", when, got, err)
		}
		if when == `claims.attributes.unit == "4-3"` && len(got.Changes) != 1 {
			t.Errorf("%s: %+v", when, got)
		}
	}
}
