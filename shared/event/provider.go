package event

import (
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// The types of what happens to identity providers.
const (
	ProviderCreatedType = prefix + "identityprovider.created" + version
	ProviderChangedType = prefix + "identityprovider.changed" + version
	ProviderDeletedType = prefix + "identityprovider.deleted" + version
)

// ProviderData tells of an identity provider, without its configuration: where an
// organization's provider is may be nobody else's business.
type ProviderData struct {
	Org      tenant.OrgID `json:"org_id"`
	Provider string       `json:"provider_id"`
	Kind     string       `json:"kind"`
	Enabled  bool         `json:"enabled"`
}

// Provider returns the event of the given type (ProviderCreatedType …) about an
// identity provider.
func Provider(eventType string, d ProviderData, now time.Time) cloudevents.Event {
	e := newEvent(eventType, OrgSource(d.Org), d.Provider, now)
	e.SetExtension("peatorg", string(d.Org))
	return with(e, d)
}
