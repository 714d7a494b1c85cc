package policy

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
)

// DecideWithin is Decide with the budget that it has.
func (p *Policy) DecideWithin(c identity.Claims, r Request, now time.Time, b *expression.Budget) Decision {
	return p.decide(c, r, now, false, b)
}
