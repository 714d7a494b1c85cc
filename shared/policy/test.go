package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// MaxRunCost bounds what all tests of a document may cost together, and likewise a
// replay.
const MaxRunCost = 100 * expression.MaxCost

// checkTests says what is wrong with tests as they are written.
func checkTests(tests []Test) []fault.Field {
	var wrong wrongs
	for i, t := range tests {
		at := fmt.Sprintf("/tests/%d", i)
		if !isName(t.Name) {
			wrong.add(at+"/name", "must be one line of 1 to 128 characters")
		}
		_, bad := t.Claims.Read()
		wrong.addAll(at+"/claims", bad)
		_, bad = t.Request.Read("")
		wrong.addAll(at+"/request", bad)
		e := t.Expect
		if e.Tier != nil {
			_, bad := enrollment.ParseGrant(*e.Tier, nil)
			wrong.addAll(at+"/expect", bad)
		}
		if e.Permissions != nil {
			_, bad := enrollment.ParseGrant("", *e.Permissions)
			wrong.addAll(at+"/expect", bad)
		}
		if e.Validity != nil {
			if d, err := time.ParseDuration(*e.Validity); err != nil || d <= 0 {
				wrong.add(at+"/expect/validity", "must be a duration such as 24h")
			}
		}
	}
	return wrong
}

// Check runs the tests of an organization's document; see CheckFor.
func Check(d Document, org tenant.OrgID, now time.Time) error {
	p, err := Compile(d)
	if err != nil {
		return err
	}
	return p.check(d, org, now)
}

// CheckFor runs the tests of a formation's own document, on its rules and those of
// its organization together, as they will decide. A test that is broken gives a
// fault.Invalid that names it and says what the decision is and why.
func CheckFor(s Sources, org tenant.OrgID, now time.Time) error {
	p, err := CompileFor(s)
	if err != nil {
		return err
	}
	return p.check(s.Formation.Document, org, now)
}

func (p *Policy) check(d Document, org tenant.OrgID, now time.Time) error {
	var wrong wrongs
	b := &expression.Budget{Left: MaxRunCost}
	run := func(at string, tests []Test) {
		for i, t := range tests {
			pointer := fmt.Sprintf("%s/tests/%d", at, i)
			detail, ran := p.test(t, org, now, b)
			if !ran {
				wrong.add(pointer, "could not be run: the tests cost too much, together")
				return
			}
			if detail != "" {
				wrong.add(pointer, "%q is broken: %s", t.Name, detail)
			}
		}
	}
	for i, r := range d.Rules {
		run(fmt.Sprintf("/rules/%d", i), r.Tests)
	}
	run("", d.Tests)
	return wrong.err()
}

// test runs one test and says how the decision differs from what is expected; ran is
// false if there was no budget for it.
func (p *Policy) test(t Test, org tenant.OrgID, now time.Time, b *expression.Budget) (detail string, ran bool) {
	claims, _ := t.Claims.Read()
	request, _ := t.Request.Read(org)
	at := t.At
	if at.IsZero() {
		at = now
	}
	d, ran := p.within(claims, request, at, b)
	if !ran {
		return "", false
	}
	return t.Expect.differs(d), true
}

// within decides within a budget that many decisions share; ran is false if there is
// not enough left for one.
func (p *Policy) within(claims identity.Claims, r Request, now time.Time, b *expression.Budget) (d Decision, ran bool) {
	if b.Left < MaxDecisionCost {
		return Decision{}, false
	}
	one := &expression.Budget{Left: MaxDecisionCost}
	d = p.decide(claims, r, now, false, one)
	b.Left -= MaxDecisionCost - one.Left
	return d, true
}

// differs says in words how a decision is not what is expected; empty if it is.
func (e Expect) differs(d Decision) string {
	switch {
	case e.Allowed && !d.Allowed && d.Rule != "":
		return fmt.Sprintf("expected to be allowed, is denied by %s%s", d.Rule, last(d))
	case e.Allowed && !d.Allowed:
		return "expected to be allowed, is denied: no rule allows it" + because(d)
	case !e.Allowed && d.Allowed:
		return fmt.Sprintf("expected to be denied, is allowed by %s", d.Rule)
	case e.Rule != nil && *e.Rule != d.Rule:
		return fmt.Sprintf("expected the rule %q to decide, and %q does", *e.Rule, d.Rule)
	case !d.Allowed:
		return ""
	}
	if tier := enrollment.TierName(d.Grant.Tier); e.Tier != nil && *e.Tier != tier {
		return fmt.Sprintf("expected the tier %s, is %s", *e.Tier, tier)
	}
	if e.Permissions != nil {
		if want, _ := enrollment.ParseGrant("", *e.Permissions); want.Permissions != d.Grant.Permissions {
			return fmt.Sprintf("expected the permissions %v, are %v", *e.Permissions, enrollment.PermissionNames(d.Grant.Permissions))
		}
	}
	if e.Validity != nil {
		if want, _ := time.ParseDuration(*e.Validity); want != d.Validity {
			return fmt.Sprintf("expected a validity of %s, is %s", want, d.Validity)
		}
	}
	if e.Credentials != nil && *e.Credentials != d.Credentials {
		return fmt.Sprintf("expected credentials: %t, is %t", *e.Credentials, d.Credentials)
	}
	if e.Review != nil && *e.Review != d.Review {
		return fmt.Sprintf("expected review: %t, is %t", *e.Review, d.Review)
	}
	return ""
}

// last is what was said after all rules, for example that the session is over.
func last(d Decision) string {
	if n := len(d.Reasons); n > 0 && d.Reasons[n-1].Rule == "" {
		return ": " + d.Reasons[n-1].Detail
	}
	return ""
}

// because are the first reasons of rules that did not match.
func because(d Decision) string {
	out := ""
	for i, r := range slices.DeleteFunc(slices.Clone(d.Reasons), func(r Reason) bool { return r.Detail == "" }) {
		if i == 3 {
			return out + "; …"
		}
		if i > 0 {
			out += "; "
		}
		if r.Rule != "" {
			out += r.Rule + ": "
		}
		out += r.Detail
	}
	if out == "" {
		return ""
	}
	return " (" + out + ")"
}
