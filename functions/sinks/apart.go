package sinks

import (
	"context"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// apart refuses a sink that would write a formation's documents to where another
// one writes them: each of the two keeps its own order and leaves out what its own
// filter says, so what arrives there would have neither. It runs under the lock of
// the organization, so no such sink is made meanwhile.
//
// Other organizations' sinks need no look: where places of two organizations could
// be the same, the driver claims them (driver.Config.Claims).
func (a *Admin) apart(ctx context.Context, tx *store.Tx, sink delivery.Sink) error {
	place := kinds[sink.Kind].place
	if place == nil {
		return nil
	}
	const page = 100
	ours := place(sink.Config, a.Settings.Settings)
	for after := ""; ; {
		others, err := tx.Sinks(ctx, sink.Org, after, page)
		if err != nil {
			return err
		}
		for _, other := range others {
			if after = other.ID; other.ID == sink.ID || other.Kind != sink.Kind || !overlap(sink, other) {
				continue
			}
			if place(other.Config, a.Settings.Settings) == ours {
				return fault.Conflict.New("sink %s writes a formation of this one to the same place already; give this one another place, or that one more formations", other.ID)
			}
		}
		if len(others) < page {
			return nil
		}
	}
}

// overlap reports whether some formation may be covered by both.
func overlap(a, b delivery.Sink) bool {
	all := func(s delivery.Sink) bool { return slices.Contains(s.Formations, delivery.AllFormations) }
	if a.Source != b.Source {
		return false
	}
	return a.Source == delivery.AuditTrail || all(a) || all(b) || slices.ContainsFunc(a.Formations, func(name string) bool { return b.Covers(tenant.AppID(name)) })
}
