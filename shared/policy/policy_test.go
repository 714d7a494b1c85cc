package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var now = time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC)

func ann() identity.Claims {
	return identity.Claims{
		Provider: "keycloak", Kind: identity.OIDC, Issuer: "https://id.example/realms/field", Subject: "u-ann",
		Groups: []string{"drivers", "trucks"}, Roles: []string{"operator"},
		Attributes: map[string]any{"level": json.Number("3"), "score": 2.0, "edipi": "1234567890", "home": map[string]any{"unit": "4-2"}, "admin": true, "none": nil, "empty": ""},
		ACR:        "gold", AMR: []string{"hwk", "mfa"}, AuthenticatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(8 * time.Hour),
	}
}

func asked() policy.Request {
	return policy.Request{
		Key: tenant.Key{Org: "acme", App: "logistics"}, Enrollment: tenant.Controlled, NodeID: "truck-7",
		Wants: enrollment.Grant{Tier: cert.Tactical, Permissions: cert.Relay}, Address: netip.MustParseAddr("192.0.2.7"),
	}
}

func compile(t testing.TB, rules ...policy.Rule) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(policy.Document{Version: 7, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func Example() {
	p, err := policy.Compile(policy.Document{Rules: []policy.Rule{
		{ID: "leavers", When: `"leavers" in claims.groups`, Effect: policy.Deny},
		{ID: "trucks", When: `"trucks" in claims.groups && claims.acr == "gold"`, Effect: policy.Allow, Grant: &policy.Grant{Tier: "tactical"}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, groups := range [][]string{{"trucks"}, {"leavers", "trucks"}, nil} {
		d := p.Decide(identity.Claims{Subject: "ann", Groups: groups, ACR: "gold"}, policy.Request{}, time.Now())
		fmt.Printf("%t by %q\n", d.Allowed, d.Rule)
	}
	// Output:
	// true by "trucks"
	// false by "leavers"
	// false by ""
}

func TestWhen(t *testing.T) {
	for name, tc := range map[string]struct {
		when string
		want bool
	}{
		"a group":                       {`"trucks" in claims.groups`, true},
		"another group":                 {`"planes" in claims.groups`, false},
		"a group by its beginning":      {`claims.groups.exists(g, g.startsWith("tr"))`, true},
		"a role":                        {`claims.roles == ["operator"]`, true},
		"who vouches":                   {`claims.provider == "keycloak" && claims.kind == "oidc" && claims.issuer.endsWith("/field")`, true},
		"who it is":                     {`claims.subject == "u-ann"`, true},
		"how strongly":                  {`claims.acr == "gold" && "mfa" in claims.amr`, true},
		"a whole number":                {`claims.attributes.level == 3`, true},
		"a whole number, as a fraction": {`claims.attributes.score == 2 && claims.attributes.score + 1 == 3`, true},
		"a text":                        {`claims.attributes.edipi.matches("^[0-9]{10}$")`, true},
		"a path":                        {`claims.attributes.home.unit == "4-2"`, true},
		"a truth":                       {`claims.attributes.admin == true`, true},
		"null":                          {`claims.attributes.none == null`, true},
		"has":                           {`has(claims.attributes.edipi) && !has(claims.attributes.upn) && has(claims.acr) && !has(claims.attributes.home.street)`, true},
		"the age of the sign-in":        {`now - claims.authenticated_at < duration("2h")`, true},
		"the hour":                      {`now.getHours() >= 8 && now.getHours() < 18`, false},
		"the session":                   {`claims.expires_at > now + duration("1h")`, true},
		"what is asked for":             {`request.app_id == "logistics" && request.enrollment_policy == "controlled" && request.node_id == "truck-7"`, true},
		"what is wanted":                {`request.tier == "tactical" && request.permissions == ["relay"] && !request.renewal`, true},
		"where from":                    {`cidr("192.0.2.0/24").containsIP(request.address)`, true},
		"where from, elsewhere":         {`cidr("10.0.0.0/8").containsIP(request.address)`, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := compile(t, policy.Rule{ID: "r", When: tc.when, Effect: policy.Allow})
			d := p.Decide(ann(), asked(), now)
			if d.Allowed != tc.want || (d.Rule == "r") != tc.want || strings.Contains(fmt.Sprint(d.Reasons), "cannot be") {
				t.Errorf("%s: %+v", tc.when, d)
			}
		})
	}
}

// TestWhatFails: what cannot be told is held against whoever asks.
func TestWhatFails(t *testing.T) {
	for name, tc := range map[string]struct{ when, why string }{
		"an attribute that is not there":  {`claims.attributes.rank == "major"`, `claims.attributes.rank == "major" cannot be evaluated`},
		"an attribute of another kind":    {`claims.attributes.level.startsWith("3")`, `claims.attributes.level.startsWith("3") cannot be evaluated`},
		"a network that is none":          {`cidr(claims.subject).containsIP(request.address)`, `cidr(claims.subject).containsIP(request.address) cannot be evaluated`},
		"too many steps":                  {`claims.groups.all(a, claims.groups.all(b, claims.groups.all(c, a != "x") && b != "x"))`, ""},
		"one part of it":                  {`claims.acr == "gold" && claims.attributes.rank == "major"`, `claims.attributes.rank == "major" cannot be evaluated`},
		"a session without an end":        {`claims.expires_at > now`, `claims.expires_at > now cannot be evaluated`},
		"a truth that is none, by itself": {`claims.acr == "gold" && claims.attributes.edipi`, `claims.attributes.edipi cannot be evaluated`},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.why == "" {
				if _, err := policy.Compile(policy.Document{Rules: []policy.Rule{{ID: "r", When: tc.when, Effect: policy.Allow}}}); err == nil {
					t.Error("it was taken")
				}
				return
			}
			claims := ann()
			claims.ExpiresAt = time.Time{}
			all := policy.Rule{ID: "all", Effect: policy.Allow}
			allow := compile(t, policy.Rule{ID: "r", When: tc.when, Effect: policy.Allow}).Decide(claims, asked(), now)
			if allow.Allowed || allow.Reasons[0].Detail != tc.why || allow.Reasons[0].Matched {
				t.Errorf("a rule that allows: %+v", allow)
			}
			deny := compile(t, all, policy.Rule{ID: "r", When: tc.when, Effect: policy.Deny}).Decide(claims, asked(), now)
			if deny.Allowed || deny.Rule != "r" || deny.Reasons[1].Detail != tc.why || !deny.Reasons[1].Matched {
				t.Errorf("a rule that denies: %+v", deny)
			}
			if text := fmt.Sprint(allow, deny); strings.Contains(text, "1234567890") {
				t.Errorf("a reason tells a value: %s", text)
			}
		})
	}
}

func TestScope(t *testing.T) {
	for name, tc := range map[string]struct {
		rule policy.Rule
		why  string // empty: it matches
	}{
		"for all":                       {policy.Rule{}, ""},
		"for the formation":             {policy.Rule{Formations: []string{"log*"}}, ""},
		"for another":                   {policy.Rule{Formations: []string{"med*", "air"}}, "it is not for this formation"},
		"for all but it":                {policy.Rule{Formations: []string{"!logistics"}}, "it is not for this formation"},
		"for the provider":              {policy.Rule{Providers: []string{"okta", "keycloak"}}, ""},
		"for another provider":          {policy.Rule{Providers: []string{"okta"}}, "it is not for this provider"},
		"with what is required":         {policy.Rule{Require: []string{"groups", "roles", "acr", "amr", "authenticated_at", "expires_at", "attributes.home.unit", "attributes.admin"}}, ""},
		"without what is required":      {policy.Rule{Require: []string{"acr", "attributes.home.street"}}, "the claim attributes.home.street is missing"},
		"a required claim is null":      {policy.Rule{Require: []string{"attributes.none"}}, "the claim attributes.none is missing"},
		"a required claim is empty":     {policy.Rule{Require: []string{"attributes.empty"}}, "the claim attributes.empty is missing"},
		"a required claim below a text": {policy.Rule{Require: []string{"attributes.edipi.x"}}, "the claim attributes.edipi.x is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.rule.ID, tc.rule.Effect = "r", policy.Allow
			d := compile(t, tc.rule).Decide(ann(), asked(), now)
			if d.Allowed != (tc.why == "") || d.Reasons[0].Detail != tc.why {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestWhatIsGiven(t *testing.T) {
	for name, tc := range map[string]struct {
		grant  *policy.Grant
		change func(*identity.Claims, *policy.Request)
		want   policy.Decision
	}{
		"the least":             {nil, nil, policy.Decision{Grant: enrollment.Grant{Tier: cert.Edge, Permissions: cert.Standard}, Validity: 8 * time.Hour}},
		"all of it":             {&policy.Grant{Tier: "regional", Permissions: []string{"relay", "enroll"}, MaxValidity: "2h", Credentials: true, Review: true}, nil, policy.Decision{Grant: enrollment.Grant{Tier: cert.Regional, Permissions: cert.Relay | cert.Enroll}, Validity: 2 * time.Hour, Credentials: true, Review: true}},
		"no permission":         {&policy.Grant{Permissions: []string{}}, nil, policy.Decision{Grant: enrollment.Grant{Tier: cert.Edge, Permissions: cert.NoPermission}, Validity: 8 * time.Hour}},
		"a session without end": {nil, func(c *identity.Claims, _ *policy.Request) { c.ExpiresAt = time.Time{} }, policy.Decision{Grant: enrollment.Grant{Tier: cert.Edge, Permissions: cert.Standard}, Validity: policy.DefaultValidity}},
		"a strict formation":    {nil, func(_ *identity.Claims, r *policy.Request) { r.Enrollment = tenant.Strict }, policy.Decision{Grant: enrollment.Grant{Tier: cert.Edge, Permissions: cert.Standard}, Validity: 8 * time.Hour, Review: true}},
		"renewal needs no review": {&policy.Grant{Review: true}, func(_ *identity.Claims, r *policy.Request) { r.Renewal, r.Enrollment = true, tenant.Strict },
			policy.Decision{Grant: enrollment.Grant{Tier: cert.Edge, Permissions: cert.Standard}, Validity: 8 * time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			claims, request := ann(), asked()
			if tc.change != nil {
				tc.change(&claims, &request)
			}
			got := compile(t, policy.Rule{ID: "r", Effect: policy.Allow, Grant: tc.grant}).Decide(claims, request, now)
			tc.want.Allowed, tc.want.Rule, tc.want.Version, tc.want.Reasons = true, "r", 7, []policy.Reason{{Rule: "r", Matched: true}}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	claims := ann()
	claims.ExpiresAt = now
	d := compile(t, policy.Rule{ID: "r", Effect: policy.Allow}).Decide(claims, asked(), now)
	if d.Allowed || d.Reasons[len(d.Reasons)-1].Detail != "the identity's session is over" {
		t.Errorf("%+v", d)
	}
}

// TestTwoDocuments: a formation's rules come first, and either can deny.
func TestTwoDocuments(t *testing.T) {
	allow := func(id, tier string) policy.Rule {
		return policy.Rule{ID: id, Effect: policy.Allow, Grant: &policy.Grant{Tier: tier}}
	}
	deny := policy.Rule{ID: "no", Effect: policy.Deny}
	for name, tc := range map[string]struct {
		org, own []policy.Rule
		want     string
		allowed  bool
	}{
		"none":                       {nil, nil, "", false},
		"the organization's alone":   {[]policy.Rule{allow("a", "edge")}, nil, "a", true},
		"the formation's alone":      {nil, []policy.Rule{allow("a", "edge")}, "logistics/a", true},
		"the formation's come first": {[]policy.Rule{allow("a", "edge")}, []policy.Rule{allow("a", "tactical")}, "logistics/a", true},
		"the organization denies":    {[]policy.Rule{deny}, []policy.Rule{allow("a", "edge")}, "no", false},
		"the formation denies":       {[]policy.Rule{allow("a", "edge")}, []policy.Rule{deny}, "logistics/no", false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.CompileFor(policy.Sources{App: "logistics",
				Org: policy.Source{Document: policy.Document{Version: 3, Rules: tc.org}}, Formation: policy.Source{Document: policy.Document{Version: 2, Rules: tc.own}}})
			if err != nil {
				t.Fatal(err)
			}
			d := p.Decide(ann(), asked(), now)
			if d.Allowed != tc.allowed || d.Rule != tc.want || d.Version != 3 || d.FormationVersion != 2 {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	p := compile(t,
		policy.Rule{ID: "first", Formations: []string{"med*"}, Effect: policy.Allow},
		policy.Rule{ID: "second", Require: []string{"acr"}, When: `"trucks" in claims.groups && (claims.attributes.level > 5 || claims.attributes.rank == "major")`, Effect: policy.Allow},
		policy.Rule{ID: "third", Effect: policy.Allow},
		policy.Rule{ID: "fourth", When: `claims.acr == "gold"`, Effect: policy.Allow},
	)
	want := []policy.Reason{
		{Rule: "first", Detail: "it is not for this formation", Parts: []policy.Part{{Text: "formations: med*", Result: policy.False}}},
		{Rule: "second", Detail: `claims.attributes.rank == "major" cannot be evaluated`, Parts: []policy.Part{
			{Text: "require: acr", Result: policy.True},
			{Text: `"trucks" in claims.groups && (claims.attributes.level > 5 || claims.attributes.rank == "major")`, Result: policy.Failed, Detail: "no such key: rank", Parts: []policy.Part{
				{Text: `"trucks" in claims.groups`, Result: policy.True, Saw: []policy.Seen{{Name: "claims.groups", Value: `["drivers","trucks"]`}}},
				{Text: `claims.attributes.level > 5 || claims.attributes.rank == "major"`, Result: policy.Failed, Detail: "no such key: rank", Parts: []policy.Part{
					{Text: `claims.attributes.level > 5`, Result: policy.False, Saw: []policy.Seen{{Name: "claims.attributes.level", Value: "3"}}},
					{Text: `claims.attributes.rank == "major"`, Result: policy.Failed, Detail: "no such key: rank"},
				}},
			}},
		}},
		{Rule: "third", Matched: true},
		{Rule: "fourth", Matched: true, Parts: []policy.Part{{Text: `claims.acr == "gold"`, Result: policy.True, Saw: []policy.Seen{{Name: "claims.acr", Value: `"gold"`}}}}},
	}
	got := p.Explain(ann(), asked(), now)
	if diff := cmp.Diff(want, got.Reasons); diff != "" || !got.Allowed || got.Rule != "third" {
		t.Errorf("%+v %s", got, diff)
	}
	if plain := p.Decide(ann(), asked(), now); len(plain.Reasons) != 3 || plain.Reasons[1].Parts != nil || plain.Reasons[1].Detail != want[1].Detail {
		t.Errorf("%+v", plain)
	}
}

func TestRefusedDocuments(t *testing.T) {
	ok := policy.Rule{ID: "r", Effect: policy.Allow}
	change := func(f func(*policy.Rule)) []policy.Rule {
		r := ok
		f(&r)
		return []policy.Rule{ok, r}
	}
	named := func(r *policy.Rule) { r.ID = "s" }
	text := func(s string) *string { return &s }
	for name, tc := range map[string]struct {
		rules   []policy.Rule
		pointer string
	}{
		"an id that is another's":   {[]policy.Rule{ok, ok}, "/rules/1/id"},
		"no id":                     {change(func(r *policy.Rule) { r.ID = "" }), "/rules/1/id"},
		"an id with a slash":        {change(func(r *policy.Rule) { r.ID = "a/b" }), "/rules/1/id"},
		"an id too long":            {change(func(r *policy.Rule) { r.ID = strings.Repeat("a", 65) }), "/rules/1/id"},
		"a name of two lines":       {change(func(r *policy.Rule) { named(r); r.Name = "a\nb" }), "/rules/1/name"},
		"a glob with a class":       {change(func(r *policy.Rule) { named(r); r.Formations = []string{"a", "[ab]"} }), "/rules/1/formations/1"},
		"too many globs":            {change(func(r *policy.Rule) { named(r); r.Formations = make([]string, 51) }), "/rules/1/formations"},
		"an empty provider":         {change(func(r *policy.Rule) { named(r); r.Providers = []string{""} }), "/rules/1/providers/0"},
		"a misspelt claim":          {change(func(r *policy.Rule) { named(r); r.When = "claims.group == []" }), "/rules/1/when"},
		"a condition that is none":  {change(func(r *policy.Rule) { named(r); r.When = "claims.acr" }), "/rules/1/when"},
		"text put together":         {change(func(r *policy.Rule) { named(r); r.When = `claims.acr + "a" == "b"` }), "/rules/1/when"},
		"the session's id":          {change(func(r *policy.Rule) { named(r); r.When = `claims.session == "b"` }), "/rules/1/when"},
		"a claim nobody requires":   {change(func(r *policy.Rule) { named(r); r.Require = []string{"session"} }), "/rules/1/require/0"},
		"a path with a gap":         {change(func(r *policy.Rule) { named(r); r.Require = []string{"attributes.a..b"} }), "/rules/1/require/0"},
		"no effect":                 {change(func(r *policy.Rule) { named(r); r.Effect = "" }), "/rules/1/effect"},
		"a tier nobody knows":       {change(func(r *policy.Rule) { named(r); r.Grant = &policy.Grant{Tier: "top"} }), "/rules/1/grant/tier"},
		"a permission nobody knows": {change(func(r *policy.Rule) { named(r); r.Grant = &policy.Grant{Permissions: []string{"root"}} }), "/rules/1/grant/permissions/0"},
		"a validity too short":      {change(func(r *policy.Rule) { named(r); r.Grant = &policy.Grant{MaxValidity: "59s"} }), "/rules/1/grant/max_validity"},
		"a validity too long":       {change(func(r *policy.Rule) { named(r); r.Grant = &policy.Grant{MaxValidity: "8785h"} }), "/rules/1/grant/max_validity"},
		"a denial that gives":       {change(func(r *policy.Rule) { named(r); r.Effect, r.Grant = policy.Deny, &policy.Grant{} }), "/rules/1/grant"},
		"a denial that requires":    {change(func(r *policy.Rule) { named(r); r.Effect, r.Require = policy.Deny, []string{"acr"} }), "/rules/1/require"},
		"too many rules":            {make([]policy.Rule, policy.MaxRules+1), "/rules"},
		"a test without a name": {change(func(r *policy.Rule) {
			named(r)
			r.Tests = []policy.Test{{Claims: policy.WrittenClaims{Subject: "a"}, Request: policy.WrittenRequest{App: "a"}}}
		}), "/rules/1/tests/0/name"},
		"a test without a subject": {change(func(r *policy.Rule) {
			named(r)
			r.Tests = []policy.Test{{Name: "a", Request: policy.WrittenRequest{App: "a"}}}
		}), "/rules/1/tests/0/claims/subject"},
		"a test without a formation": {change(func(r *policy.Rule) {
			named(r)
			r.Tests = []policy.Test{{Name: "a", Claims: policy.WrittenClaims{Subject: "a"}}}
		}), "/rules/1/tests/0/request/app_id"},
		"a test from nowhere": {change(func(r *policy.Rule) {
			named(r)
			r.Tests = []policy.Test{{Name: "a", Claims: policy.WrittenClaims{Subject: "a"}, Request: policy.WrittenRequest{App: "a", Address: "x"}}}
		}), "/rules/1/tests/0/request/address"},
		"a test that expects nothing": {change(func(r *policy.Rule) {
			named(r)
			r.Tests = []policy.Test{{Name: "a", Claims: policy.WrittenClaims{Subject: "a"}, Request: policy.WrittenRequest{App: "a"}, Expect: policy.Expect{Tier: text("top")}}}
		}), "/rules/1/tests/0/expect/tier"},
		"too many tests": {change(func(r *policy.Rule) {
			named(r)
			for range policy.MaxTests + 1 {
				r.Tests = append(r.Tests, trucksMayJoin())
			}
		}), "/tests"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Compile(policy.Document{Rules: tc.rules})
			if f := fault.Of(err); !errors.Is(err, fault.Invalid) || f.Fields[0].Pointer != tc.pointer {
				t.Errorf("%v, %+v", err, f)
			}
		})
	}
	for name, tc := range map[string]struct{ text, says string }{
		"a field nobody knows":   {`{"rules":[{"id":"r","effect":"allow","whem":"true"}]}`, "rules/0/whem"},
		"a key that comes twice": {`{"rules":[],"rules":[]}`, "comes twice"},
		"null":                   {`{"rules":[{"id":"r","effect":"allow","grant":null}]}`, "rules/0/grant"},
		"two documents":          {`{"rules":[]}{}`, "something follows"},
		"too long":               {`{"rules":[{"id":"` + strings.Repeat("a", policy.MaxDocumentBytes) + `"}]}`, "longer"},
	} {
		if _, err := policy.ParseDocument([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
