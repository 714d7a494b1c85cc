package policy

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Limits of what it costs to decide, in units of package expression.
const (
	MaxRuleCost     = expression.MaxCost
	MaxDecisionCost = 10 * expression.MaxCost
)

// Decide asks the rules. It looks at as many as it must: every rule that denies, and
// those that allow until one does.
func (p *Policy) Decide(claims identity.Claims, r Request, now time.Time) Decision {
	return p.decide(claims, r, now, false, &expression.Budget{Left: MaxDecisionCost})
}

// Explain is Decide with everything that led to the decision: each rule is looked at,
// and of each rule every part.
func (p *Policy) Explain(claims identity.Claims, r Request, now time.Time) Decision {
	d := p.Decide(claims, r, now)
	// Asking everything costs more, and must not make another decision of it.
	d.Reasons = p.decide(claims, r, now, true, &expression.Budget{Left: 10 * MaxDecisionCost}).Reasons
	return d
}

func (p *Policy) decide(claims identity.Claims, r Request, now time.Time, all bool, b *expression.Budget) Decision {
	d := Decision{Version: p.version, FormationVersion: p.formationVersion}
	in := &input{claims: &claims, request: &r, now: now}
	var allows, denies *rule
	for i := range p.rules {
		rule := &p.rules[i]
		decided := denies != nil || allows != nil && rule.Effect == Allow
		if decided && !all {
			continue
		}
		reason := rule.ask(in, b, all)
		d.Reasons = append(d.Reasons, reason)
		switch {
		case !reason.Matched || decided:
		case rule.Effect == Deny:
			denies = rule
		default:
			allows = rule
		}
	}
	switch {
	case denies != nil:
		d.Rule = denies.name
		return d
	case b.Left == 0:
		// Whether one more rule denies is not known.
		d.Reasons = append(d.Reasons, Reason{Detail: "the rules cost too much, together, for these claims"})
		return d
	case allows == nil:
		return d
	}
	d.Rule = allows.name
	d.Validity = allows.validity
	if !claims.ExpiresAt.IsZero() {
		d.Validity = min(d.Validity, claims.ExpiresAt.Sub(now))
	}
	if d.Validity <= 0 {
		d.Validity = 0
		d.Reasons = append(d.Reasons, Reason{Detail: "the identity's session is over"})
		return d
	}
	d.Allowed = true
	d.Grant = allows.grant
	if allows.Grant != nil {
		d.Credentials, d.Review, d.RefreshAfter = allows.Grant.Credentials, allows.Grant.Review, allows.Grant.refreshAfter()
	}
	// Whoever is a member already was agreed to.
	d.Review = (d.Review || r.Enrollment == tenant.Strict) && !r.Renewal
	return d
}

// ask is what one rule comes to.
func (r *rule) ask(in *input, b *expression.Budget, all bool) Reason {
	out := Reason{Rule: r.name, Matched: true}
	part := func(holds bool, text, detail string) {
		if !holds && out.Matched {
			out.Matched, out.Detail = false, detail
		}
		if all {
			result := True
			if !holds {
				result = False
			}
			out.Parts = append(out.Parts, Part{Text: text, Result: result})
		}
	}
	if len(r.Formations) > 0 && (out.Matched || all) {
		part(r.covers(in.request.Key.App), "formations: "+strings.Join(r.Formations, ", "), "it is not for this formation")
	}
	if len(r.Providers) > 0 && (out.Matched || all) {
		part(slices.Contains(r.Providers, in.claims.Provider), "providers: "+strings.Join(r.Providers, ", "), "it is not for this provider")
	}
	for _, claim := range r.Require {
		if out.Matched || all {
			part(has(*in.claims, claim), "require: "+claim, "the claim "+claim+" is missing")
		}
	}
	if r.when == nil || !out.Matched && !all {
		return out
	}
	own := expression.Budget{Left: min(b.Left, MaxRuleCost)}
	before := own.Left
	judge := r.when.Judge
	if all {
		judge = r.when.Explain
	}
	o := judge(in, &own)
	b.Left -= before - own.Left
	if all {
		out.Parts = append(out.Parts, written(o))
	}
	// What cannot be told is held against whoever asks.
	if out.Matched && o.Result != expression.True {
		out.Matched = o.Result == expression.Failed && r.Effect == Deny
		out.Detail = o.Why()
	}
	return out
}

// written writes what the parts of a condition came to.
func written(o expression.Outcome) Part {
	p := Part{Text: o.Text, Result: results[o.Result]}
	if o.Err != nil {
		p.Detail = o.Err.Error()
		if errors.Is(o.Err, expression.ErrCost) {
			p.Detail = "costs too much"
		}
	}
	for _, s := range o.Saw {
		p.Saw = append(p.Saw, Seen(s))
	}
	for _, part := range o.Of {
		p.Parts = append(p.Parts, written(part))
	}
	return p
}

var results = map[expression.Result]Result{
	expression.True: True, expression.False: False, expression.Failed: Failed, expression.Skipped: Skipped,
}
