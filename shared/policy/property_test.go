package policy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// seeds are what a property is tried with: one of chance, or that of PEAT_SEED.
func seeds(t *testing.T, n int, try func(t *testing.T, rng *rand.Rand)) {
	t.Helper()
	first := rand.Uint64()
	if s := os.Getenv("PEAT_SEED"); s != "" {
		var err error
		if first, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
		n = 1
	}
	for i := range n {
		seed := first + uint64(i)
		try(t, rand.New(rand.NewPCG(seed, 0)))
		if t.Failed() {
			t.Fatalf("PEAT_SEED=%d repeats this", seed)
		}
	}
}

// condition is an expression with what it comes to, found without CEL. Failed ones
// come to neither.
type condition struct {
	when  string
	holds func(c identity.Claims, r policy.Request) (holds, fails bool)
}

var groups = []string{"a", "b", "c"}

func conditions(rng *rand.Rand) condition {
	g := groups[rng.IntN(len(groups))]
	n := rng.IntN(4)
	simple := []condition{
		{"", func(identity.Claims, policy.Request) (bool, bool) { return true, false }},
		{fmt.Sprintf("%q in claims.groups", g), func(c identity.Claims, _ policy.Request) (bool, bool) { return slices.Contains(c.Groups, g), false }},
		{fmt.Sprintf("!(%q in claims.groups)", g), func(c identity.Claims, _ policy.Request) (bool, bool) { return !slices.Contains(c.Groups, g), false }},
		{fmt.Sprintf("claims.attributes.level > %d", n), func(c identity.Claims, _ policy.Request) (bool, bool) {
			l, ok := c.Attributes["level"].(json.Number)
			if !ok {
				return false, true
			}
			v, _ := l.Int64()
			return v > int64(n), false
		}},
		{"request.renewal", func(_ identity.Claims, r policy.Request) (bool, bool) { return r.Renewal, false }},
	}
	one := simple[rng.IntN(len(simple))]
	if one.when == "" || rng.IntN(3) > 0 {
		return one
	}
	other := simple[1+rng.IntN(len(simple)-1)]
	if rng.IntN(2) == 0 {
		return condition{one.when + " && " + other.when, func(c identity.Claims, r policy.Request) (bool, bool) {
			a, fa := one.holds(c, r)
			b, fb := other.holds(c, r)
			if !a && !fa || !b && !fb {
				return false, false
			}
			return !fa && !fb, fa || fb
		}}
	}
	return condition{one.when + " || " + other.when, func(c identity.Claims, r policy.Request) (bool, bool) {
		a, fa := one.holds(c, r)
		b, fb := other.holds(c, r)
		if a && !fa || b && !fb {
			return true, false
		}
		return false, fa || fb
	}}
}

func randomClaims(rng *rand.Rand) (identity.Claims, policy.Request) {
	c := identity.Claims{Subject: "u", Attributes: map[string]any{}}
	for _, g := range groups {
		if rng.IntN(2) == 0 {
			c.Groups = append(c.Groups, g)
		}
	}
	if rng.IntN(2) == 0 {
		c.Attributes["level"] = json.Number(strconv.Itoa(rng.IntN(5)))
	}
	if rng.IntN(2) == 0 {
		c.ExpiresAt = now.Add(time.Duration(rng.IntN(100)-20) * time.Minute)
	}
	return c, policy.Request{Key: tenant.Key{Org: "acme", App: tenant.AppID(groups[rng.IntN(len(groups))])}, Renewal: rng.IntN(2) == 0}
}

// TestDecisions holds random rules and people to what policies promise: a rule that
// denies wins; the first that allows gives; where none matches the answer is no;
// nothing is given for longer than the rule or the session has it; to explain a
// decision does not change it.
func TestDecisions(t *testing.T) {
	seeds(t, 100, func(t *testing.T, rng *rand.Rand) {
		var rules []policy.Rule
		var conds []condition
		for i := range rng.IntN(8) {
			r := policy.Rule{ID: fmt.Sprint("r", i), Effect: policy.Allow}
			if rng.IntN(3) == 0 {
				r.Effect = policy.Deny
			} else {
				r.Grant = &policy.Grant{MaxValidity: fmt.Sprint(1+rng.IntN(60), "m")}
			}
			if rng.IntN(3) == 0 {
				r.Formations = []string{groups[rng.IntN(len(groups))]}
			}
			cond := conditions(rng)
			r.When = cond.when
			rules, conds = append(rules, r), append(conds, cond)
		}
		p := compile(t, rules...)
		for range 20 {
			c, request := randomClaims(rng)
			denied, allowed := "", ""
			var gives time.Duration
			for i, r := range rules {
				holds, fails := conds[i].holds(c, request)
				matches := (holds || fails && r.Effect == policy.Deny) && (len(r.Formations) == 0 || r.Formations[0] == string(request.Key.App))
				switch {
				case matches && r.Effect == policy.Deny && denied == "":
					denied = r.ID
				case matches && r.Effect == policy.Allow && allowed == "":
					allowed = r.ID
					gives, _ = time.ParseDuration(r.Grant.MaxValidity)
				}
			}
			over := !c.ExpiresAt.IsZero() && !c.ExpiresAt.After(now)
			want := denied
			if want == "" {
				want = allowed
			}
			d := p.Decide(c, request, now)
			if d.Allowed != (denied == "" && allowed != "" && !over) || d.Rule != want {
				t.Errorf("%+v of %+v: %+v, want the rule %q", c, rules, d, want)
			}
			if d.Allowed && (d.Validity <= 0 || d.Validity > gives || !c.ExpiresAt.IsZero() && now.Add(d.Validity).After(c.ExpiresAt)) {
				t.Errorf("good for %s, the rule gives %s and the session ends %s", d.Validity, gives, c.ExpiresAt)
			}
			explained := p.Explain(c, request, now)
			explained.Reasons, d.Reasons = nil, nil
			if diff := cmp.Diff(d, explained); diff != "" {
				t.Errorf("explained it is another: %s", diff)
			}
		}
	})
}

// TestDenialsOnlyTakeAway: one more rule that denies, wherever it is put, lets nobody
// in who was out; and the order of those that deny does not matter.
func TestDenialsOnlyTakeAway(t *testing.T) {
	seeds(t, 80, func(t *testing.T, rng *rand.Rand) {
		var rules []policy.Rule
		for i := range 1 + rng.IntN(6) {
			r := policy.Rule{ID: fmt.Sprint("r", i), Effect: policy.Allow, When: conditions(rng).when}
			if rng.IntN(2) == 0 {
				r.Effect = policy.Deny
			}
			rules = append(rules, r)
		}
		more := slices.Insert(slices.Clone(rules), rng.IntN(len(rules)+1), policy.Rule{ID: "more", Effect: policy.Deny, When: conditions(rng).when})
		shuffled := slices.Clone(rules)
		rng.Shuffle(len(shuffled), func(i, j int) {
			if shuffled[i].Effect == policy.Deny || shuffled[j].Effect == policy.Deny {
				// Only past each other: those that allow stay in their order.
				if shuffled[i].Effect == shuffled[j].Effect {
					shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
				}
			}
		})
		p, with, other := compile(t, rules...), compile(t, more...), compile(t, shuffled...)
		for range 20 {
			c, request := randomClaims(rng)
			d := p.Decide(c, request, now)
			if with.Decide(c, request, now).Allowed && !d.Allowed {
				t.Errorf("%+v is let in by one more denial: %+v", c, more)
			}
			if other.Decide(c, request, now).Allowed != d.Allowed {
				t.Errorf("%+v: %+v and %+v differ", c, rules, shuffled)
			}
		}
	})
}
