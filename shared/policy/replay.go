package policy

import (
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Replay is what other rules would have decided.
type Replay struct {
	Decisions int      // that were asked again
	Changes   []Change // of those, which would be decided otherwise
	Untold    []string // ids of decisions that hang on what was not kept of their claims
	Complete  bool     // false if the budget was used up before the last
}

// Change is a decision that would be another.
type Change struct {
	Record Record
	After  Decision
	What   []string // allowed, rule, tier, permissions, validity, credentials, review
}

// Ask asks again what the records were asked, each as of its time, of the policy that
// would decide on its formation.
func Ask(records []Record, of func(tenant.AppID) (*Policy, error)) (Replay, error) {
	out := Replay{Complete: true}
	b := &expression.Budget{Left: MaxRunCost}
	policies := map[tenant.AppID]*Policy{}
	for _, r := range records {
		p, ok := policies[r.Request.Key.App]
		if !ok {
			var err error
			if p, err = of(r.Request.Key.App); err != nil {
				return out, err
			}
			policies[r.Request.Key.App] = p
		}
		d, ran := p.within(r.Claims, r.Request, r.At, b)
		if !ran {
			out.Complete = false
			break
		}
		out.Decisions++
		what := differences(r.Decision, d)
		switch {
		case len(what) == 0:
		case p.hangsOnWithheld(r):
			out.Untold = append(out.Untold, r.ID)
		default:
			out.Changes = append(out.Changes, Change{r, d, what})
		}
	}
	return out, nil
}

// differences names what two decisions differ in. The rule counts by itself only
// where both allow: what matters of a denial is that it is one.
func differences(a, b Decision) (what []string) {
	if a.Allowed != b.Allowed {
		return []string{"allowed"}
	}
	if !a.Allowed {
		return nil
	}
	for _, d := range []struct {
		name   string
		differ bool
	}{
		{"rule", a.Rule != b.Rule},
		{"tier", a.Grant.Tier != b.Grant.Tier},
		{"permissions", a.Grant.Permissions != b.Grant.Permissions},
		// Times are kept less precisely than they are decided on.
		{"validity", (a.Validity - b.Validity).Abs() >= time.Second},
		{"credentials", a.Credentials != b.Credentials},
		{"review", a.Review != b.Review},
	} {
		if d.differ {
			what = append(what, d.name)
		}
	}
	return what
}

// hangsOnWithheld reports whether a rule failed on an attribute that was not kept.
func (p *Policy) hangsOnWithheld(r Record) bool {
	for _, reason := range p.Explain(r.Claims, r.Request, r.At).Reasons {
		if failedOnWithheld(reason.Parts) {
			return true
		}
	}
	return false
}

func failedOnWithheld(parts []Part) bool {
	for _, part := range parts {
		if part.Result == Failed && strings.Contains(part.Detail, notKept) || failedOnWithheld(part.Parts) {
			return true
		}
	}
	return false
}
