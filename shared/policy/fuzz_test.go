package policy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
)

// FuzzDocument: whatever the text, reading and compiling it ends without a panic; one
// that is taken is the same after it was kept, and decides.
func FuzzDocument(f *testing.F) {
	text, err := trucks().Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, s := range []string{
		`{"rules":[{"id":"a","effect":"deny","when":"claims.acr == \"x\""}]}`,
		`{"rules":[{"id":"a","effect":"allow","formations":["a*","!ab"],"providers":["p"],"require":["attributes.a.b"],"grant":{"permissions":[],"max_validity":"24h","review":true}}]}`,
		`{"rules":[],"tests":[{"name":"a","claims":{"subject":"a","attributes":{"a":[1,{"b":null}]},"expires_at":"2026-01-01T00:00:00Z"},"request":{"app_id":"a","address":"::1"},"at":"2026-01-01T00:00:00.5+01:00","expect":{"allowed":false,"rule":""}}]}`,
		`{"rules":null}`, `[]`, `{"rules":[{"id":"a","effect":"allow","grant":{"permissions":[]}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := policy.ParseDocument(text)
		if err != nil {
			return
		}
		p, err := policy.Compile(d)
		if err != nil {
			return
		}
		first := p.Decide(ann(), asked(), now)
		_ = policy.Check(d, "acme", now)
		kept, err := d.Text()
		if err != nil {
			return // longer when it is written out
		}
		again, err := policy.ParseDocument(kept)
		if err != nil {
			t.Fatalf("%s: %v", kept, err)
		}
		if second, err := again.Text(); err != nil || string(second) != string(kept) {
			t.Fatalf("%s becomes %s, %v", kept, second, err)
		}
		q, err := policy.Compile(again)
		if err != nil {
			t.Fatalf("%s: %v", kept, err)
		}
		if diff := cmp.Diff(first, q.Decide(ann(), asked(), now)); diff != "" {
			t.Fatalf("%s: %s", kept, diff)
		}
	})
}

// FuzzCost: no rule, whatever the claims, costs more than it may, and what does is
// denied.
func FuzzCost(f *testing.F) {
	for _, when := range []string{
		`claims.groups.exists(a, claims.groups.exists(b, a == b && a.contains("zz")))`,
		`claims.groups.all(a, a.matches("^(a|b)+$"))`,
		`claims.attributes.list.exists(x, claims.attributes.list.exists(y, x == y && x > 10))`,
		`claims.groups == claims.roles && claims.attributes == claims.attributes`,
		`claims.attributes.list in [claims.attributes.list, claims.attributes.list]`,
		`cidr("10.0.0.0/8").containsIP(request.address) || request.node_id.split("").size() > 3`,
	} {
		f.Add(when, uint16(1000), `{"list":[1,2,3]}`)
	}
	f.Fuzz(func(t *testing.T, when string, groups uint16, attributes string) {
		var attrs map[string]any
		if json.Unmarshal([]byte(attributes), &attrs) != nil || len(attributes) > identity.MaxAttributesBytes {
			return
		}
		p, err := policy.Compile(policy.Document{Rules: []policy.Rule{{ID: "a", When: when, Effect: policy.Allow}, {ID: "b", When: "!(" + when + ")", Effect: policy.Allow}}})
		if err != nil {
			return
		}
		c := ann()
		c.Attributes = attrs
		for i := range int(groups % 1001) {
			c.Groups = append(c.Groups, strings.Repeat("a", i%64))
		}
		b := expression.Budget{Left: 1 << 40}
		d := p.DecideWithin(c, asked(), now, &b)
		// A rule may overstep its limit by the last of its parts.
		if spent := uint64(1<<40) - b.Left; spent > 2*2*policy.MaxRuleCost {
			t.Fatalf("%q on %d groups cost %d", when, len(c.Groups), spent)
		}
		if d.Allowed && d.Rule == "" {
			t.Fatalf("%+v", d)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	one := trucks()
	many := policy.Document{}
	for i := range 20 {
		many.Rules = append(many.Rules, policy.Rule{ID: "deny-" + string(rune('a'+i)), When: `"leavers" in claims.groups && claims.acr != "gold"`, Effect: policy.Deny})
	}
	many.Rules = append(many.Rules, one.Rules...)
	for name, d := range map[string]policy.Document{"1 rule": one, "21 rules": many} {
		p, err := policy.Compile(d)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(ann(), asked(), now).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}
