package sinks

import (
	"context"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// unclaimed refuses what another sink has, whosever it is: two organizations'
// events must not run together either.
func (a *Admin) unclaimed(ctx context.Context, kind delivery.Kind, claims string) error {
	if claims == "" {
		return nil
	}
	const page = 200
	for after := tenant.OrgID(""); ; {
		orgs, err := a.Store.Orgs(ctx, after, page)
		if err != nil {
			return err
		}
		for _, o := range orgs {
			sinks, err := allSinks(ctx, a.Store, o.ID)
			if err != nil {
				return err
			}
			for _, s := range sinks {
				if s.Kind != kind {
					continue
				}
				if have, err := kinds[kind].parse(s.Config, a.Settings); err == nil && have.claims == claims {
					return fault.Conflict.New("another sink writes there already")
				}
			}
			after = o.ID
		}
		if len(orgs) < page {
			return nil
		}
	}
}
