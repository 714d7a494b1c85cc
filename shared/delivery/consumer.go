package delivery

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Consumer is a receiver that fetches a formation's changes by itself. Position
// is how far it has said to have come: what is after it, it may be given again.
type Consumer struct {
	Org       tenant.OrgID
	App       tenant.AppID
	Name      string
	Position  uint64
	Format    Format
	Filter    filter.Spec
	CreatedAt time.Time
	SeenAt    time.Time // when it last asked for something; zero is never
}

// ParseConsumerName checks a consumer's name: it follows the rules of a formation's.
func ParseConsumerName(s string) (string, error) {
	if _, err := tenant.ParseAppID(s); err != nil {
		return "", invalid("name", "must be 1 to 128 letters, digits, dashes and underscores, the first a letter or digit")
	}
	return s, nil
}

// Key names the consumer's formation.
func (c Consumer) Key() tenant.Key { return tenant.Key{Org: c.Org, App: c.App} }
