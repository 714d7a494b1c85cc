package federation

import (
	"context"
	"errors"
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const (
	orgPage = 200
	// headEvery bounds how much is checked for one head: what took longer would be
	// begun anew, if it does not end in time.
	headEvery = 20_000
	entryPage = 500
)

// onPing links what was left behind and signs what is new, of every organization
// there ever was. It also forgets which logins were ended, once they would have.
func (f *Function) onPing(ctx context.Context, _ cloudevents.Event) error {
	f.Notify()
	var errs []error
	if f.Logins != nil {
		errs = append(errs, f.Store.InTx(ctx, func(tx *store.Tx) error { return tx.ForgetLogins(ctx, f.Now()) }))
	}
	for org := tenant.OrgID(""); ; {
		next, err := f.Store.NextUnlinked(ctx, org)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("look for audit entries: %w", err))...)
		}
		if next == "" {
			break
		}
		if err := f.linkAll(ctx, next); err != nil {
			errs = append(errs, err)
		}
		org = next
	}
	for org := tenant.OrgID(""); ; {
		chains, err := f.Store.UnsignedChains(ctx, org, orgPage)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("look for audit chains: %w", err))...)
		}
		for _, c := range chains {
			// One organization's trouble must not keep the others from being signed.
			if _, err := f.seal(ctx, c.Org); err != nil {
				errs = append(errs, fmt.Errorf("sign the audit chain of %q: %w", c.Org, err))
			}
			org = c.Org
		}
		if len(chains) < orgPage {
			return errors.Join(errs...)
		}
	}
}

// linkAll links all entries of an organization that wait for it.
func (f *Function) linkAll(ctx context.Context, org tenant.OrgID) error {
	for {
		if n, err := f.Store.LinkAudit(ctx, org, time.Time{}); err != nil || n == 0 {
			return err
		}
		f.Notify() // it may have rung for the trail's sinks
	}
}

// seal links what waits and returns the end of the chain with a head over it. It
// signs nothing that does not continue what was signed before: the key's word would
// be worth as little as that of the database.
func (f *Function) seal(ctx context.Context, org tenant.OrgID) (store.Chain, error) {
	if err := f.linkAll(ctx, org); err != nil {
		return store.Chain{}, err
	}
	c, err := f.Store.AuditChain(ctx, org)
	if err != nil {
		return store.Chain{}, err
	}
	for {
		at, hash, err := f.signed(ctx, c)
		if err != nil {
			return c, err
		}
		if at > c.Seq || at == c.Seq && hash != c.Hash {
			return c, altered(c.Org, c.Seq)
		}
		if at == c.Seq {
			return c, nil
		}
		if at, hash, err = f.check(ctx, c, at, hash); err != nil {
			return c, err
		}
		if at == c.Seq && hash != c.Hash {
			return c, altered(c.Org, at)
		}
		faultpoint.Hit("audit-sign/checked")
		head := f.Key.Head(org, at, hash, store.Precise(f.Now()))
		if err := f.Store.InTx(ctx, func(tx *store.Tx) error { return tx.AddAuditHead(ctx, head) }); err != nil {
			return c, err
		}
		faultpoint.Hit("audit-sign/committed")
		c.Signed = at
	}
}

// signed is how far a chain is signed by this gateway, and the hash there.
func (f *Function) signed(ctx context.Context, c store.Chain) (uint64, audit.Hash, error) {
	if c.Signed == 0 {
		return 0, audit.Hash{}, nil
	}
	h, err := f.Store.AuditHead(ctx, c.Org, c.Signed)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return 0, audit.Hash{}, err
	}
	if err != nil || !h.Genuine() || !f.Key.Owns(h.Key) {
		return 0, audit.Hash{}, fault.Conflict.New("the newest head of the audit trail, of entry %d, was not signed with this gateway's audit key", c.Signed)
	}
	return h.Seq, h.Hash, nil
}

// check follows a chain from an entry on, as far as one head should cover.
func (f *Function) check(ctx context.Context, c store.Chain, at uint64, hash audit.Hash) (uint64, audit.Hash, error) {
	for end := min(c.Seq, at+headEvery); at < end; {
		page, err := f.Store.ChainEntries(ctx, c.Org, at, int(min(entryPage, end-at)))
		if err != nil {
			return 0, audit.Hash{}, err
		}
		if len(page) == 0 {
			return 0, audit.Hash{}, altered(c.Org, at+1)
		}
		for _, e := range page {
			if e.Seq != at+1 || e.Prev != hash || !e.Intact() {
				return 0, audit.Hash{}, altered(c.Org, at+1)
			}
			at, hash = e.Seq, e.Hash
		}
	}
	return at, hash, nil
}

func altered(org tenant.OrgID, seq uint64) error {
	return fault.Conflict.New("the audit trail of %q was altered: entry %d is not what was recorded", org, seq)
}
