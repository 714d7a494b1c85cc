package providers

import (
	"context"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Freshness is how long a process goes on with what it has read of an organization's
// providers, and so how long one that was disabled elsewhere may go on vouching.
const Freshness = 5 * time.Second

// maxOrgs bounds how many organizations' providers are remembered.
const maxOrgs = 5_000

// known is what was read of organizations' providers.
type known struct {
	mu   sync.Mutex
	orgs map[tenant.OrgID]read
	// forgotten counts calls of Forget, so that what was being read meanwhile is not
	// kept.
	forgotten uint64
}

type read struct {
	providers []identity.Provider
	at        time.Time
}

func newKnown() known { return known{orgs: map[tenant.OrgID]read{}} }

// providersOf returns an organization's providers, and whether they were read just now.
func (p *Providers) providersOf(ctx context.Context, org tenant.OrgID, anew bool) (all []identity.Provider, fresh bool, err error) {
	now := p.Now()
	p.known.mu.Lock()
	r, ok := p.known.orgs[org]
	before := p.known.forgotten
	p.known.mu.Unlock()
	if age := now.Sub(r.at); ok && !anew && age >= 0 && age < Freshness {
		return r.providers, false, nil
	}
	all, err = p.Store.Providers(ctx, org)
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, err
		}
		return nil, false, fault.Unavailable.Wrap(err, "the organization's identity providers cannot be read now")
	}
	p.known.mu.Lock()
	defer p.known.mu.Unlock()
	if p.known.forgotten == before {
		if len(p.known.orgs) >= maxOrgs {
			clear(p.known.orgs) // cheaper than to know which one is needed least
		}
		p.known.orgs[org] = read{all, now}
	}
	return all, true, nil
}

// Forget has an organization's providers read anew. Whoever changes them in this
// process calls it afterwards.
func (p *Providers) Forget(org tenant.OrgID) {
	p.known.mu.Lock()
	defer p.known.mu.Unlock()
	p.known.forgotten++
	delete(p.known.orgs, org)
}
