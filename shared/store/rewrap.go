package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Records returns the store as a place of sealed records, for an actor whom the
// audit trail names.
func (s *Store) Records(actor string, now func() time.Time) keyring.Records {
	return records{Store: s, actor: actor, now: now}
}

type records struct {
	*Store
	actor string
	now   func() time.Time
}

// Kinds implements keyring.Records.
func (records) Kinds() []string { return SealedKinds() }

// OrgsAfter implements keyring.Records.
func (r records) OrgsAfter(ctx context.Context, after tenant.OrgID, limit int) ([]tenant.OrgID, error) {
	orgs, err := r.Orgs(ctx, after, limit)
	out := make([]tenant.OrgID, len(orgs))
	for i, o := range orgs {
		out[i] = o.ID
	}
	return out, err
}

// Reseal implements keyring.Records, in one transaction with what the audit trail
// of the organization hears of it.
func (r records) Reseal(ctx context.Context, run keyring.Run, org tenant.OrgID, all []keyring.Reseal) (changed []keyring.Reseal, err error) {
	err = r.InTx(ctx, func(tx *Tx) error {
		changed = nil
		for _, one := range all {
			if one.Record.Org != string(org) {
				return fmt.Errorf("store: a record of %q among those of %q", one.Record.Org, org)
			}
			switch err := tx.Reseal(ctx, one.Record, one.Blob, one.New); {
			case errors.Is(err, fault.Stale):
				changed = append(changed, one)
			case err != nil:
				return err
			}
		}
		if len(changed) == len(all) {
			return nil
		}
		return tx.AppendAudit(ctx, Audit{
			Org: org, At: r.now(), Actor: r.actor, Action: "keys.rewrap", Target: string(org), RequestID: run.ID,
			Detail: map[string]any{"kind": all[0].Record.Kind, "records": len(all) - len(changed)},
		})
	})
	return changed, err
}

// Unfinished implements keyring.Records.
func (r records) Unfinished(ctx context.Context, scope tenant.OrgID) (keyring.Run, error) {
	return r.Rewrap(ctx, scope)
}

// Save implements keyring.Records.
func (r records) Save(ctx context.Context, run keyring.Run) error {
	return r.InTx(ctx, func(tx *Tx) error { return tx.SaveRewrap(ctx, run) })
}
