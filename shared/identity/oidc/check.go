package oidc

import (
	"context"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// clockOff is how far a provider's clock may be from ours before that is worth a word.
const clockOff = 30 * time.Second

// Check implements identity.Verifier. It asks the issuer, however lately somebody has.
func (v *verifier) Check(ctx context.Context) (identity.Report, error) {
	i := v.issuer
	now := i.settings.Now()
	before := i.state()
	select {
	case i.asking <- struct{}{}:
	case <-ctx.Done():
		return identity.Report{}, ctx.Err()
	}
	limited, cancel := i.client.Limit(ctx)
	at, failed := i.discover(limited)
	var keys []key
	if failed == nil {
		keys, _, failed = i.fetch(limited, at)
	}
	cancel()
	<-i.asking
	if failed != nil && ctx.Err() != nil {
		return identity.Report{}, ctx.Err()
	}
	discovery := identity.Finding{Name: "discovery", OK: at != "", Detail: "the document is the issuer's"}
	published := identity.Finding{Name: "keys", Detail: "they were not looked for"}
	switch usable := names(keys, v.config.algorithms()); {
	case at == "":
		discovery.Detail = told(failed)
	case failed != nil:
		published.Detail = told(failed)
	case usable == "":
		published.Detail = "none of them is for an algorithm that is accepted"
	default:
		published.OK, published.Detail = true, fmt.Sprintf("%d can be used, for %s", len(keys), usable)
	}
	out := identity.Report{Findings: []identity.Finding{discovery, published}}
	if at != "" {
		out.Findings = append(out.Findings, clock(i.client.Ahead()))
	}
	if failed != nil {
		out.Findings = append(out.Findings, v.outage(before, now))
	}
	out.OK = discovery.OK && published.OK
	return out, nil
}

// clock says how far the provider's clock is from ours.
func clock(ahead time.Duration) identity.Finding {
	f := identity.Finding{Name: "clock", OK: ahead.Abs() <= clockOff, Detail: "agrees with the gateway's"}
	if !f.OK {
		f.Detail = fmt.Sprintf("is %s ahead of the gateway's; tokens may be refused as expired or as not valid yet", ahead.Round(time.Second))
	}
	return f
}

// outage says what is done as long as the provider does not answer.
func (v *verifier) outage(s state, now time.Time) identity.Finding {
	f := identity.Finding{Name: "outage", Detail: "no keys are kept here: tokens are refused until the provider answers"}
	if s.keys != nil {
		end := s.fetched.Add(v.config.outage).UTC()
		f.OK = age(now, s.fetched) <= v.config.outage
		f.Detail = fmt.Sprintf("the keys of %s are believed until %s", s.fetched.UTC().Format(time.RFC3339), end.Format(time.RFC3339))
	}
	return f
}
