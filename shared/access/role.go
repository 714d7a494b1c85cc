package access

import (
	"context"
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// rank orders the roles that a caller may have in an organization. A role that is
// not here is none.
var rank = map[web.Role]int{web.Viewer: 1, web.OrgAdmin: 2}

// May returns nil if p may do, in org, what needs the role. Org is empty for what
// belongs to no organization.
func (p Principal) May(need web.Role, org tenant.OrgID) error {
	if p.Gateway {
		return nil
	}
	if org == "" {
		return fault.Forbidden.New("this needs the role %s", web.GatewayAdmin)
	}
	has, member := rank[p.Orgs[org]]
	if !member {
		// Word for word what the store says of one that does not exist.
		return fault.NotFound.New("no organization %q", org)
	}
	if wants, ok := rank[need]; !ok || has < wants {
		return fault.Forbidden.New("this needs the role %s", need)
	}
	return nil
}

// enter returns the context to go on with if p may take the route of r. What p
// cannot see comes first: of a formation that is not theirs nobody learns which
// role it would need.
func (p Principal) enter(r *http.Request, need web.Role) (context.Context, error) {
	key := tenant.Key{Org: tenant.OrgID(r.PathValue("org")), App: tenant.AppID(r.PathValue("app"))}
	if t := p.Token; t != nil && key.Org == t.Org && key.App != "" && !t.Covers(key.App) {
		// Word for word what the store says of one that does not exist.
		return nil, fault.NotFound.New("no formation %q", key)
	}
	if err := p.May(need, key.Org); err != nil {
		return nil, err
	}
	if p.Token != nil {
		if err := p.Token.allows(r.Pattern, need, key.App); err != nil {
			return nil, err
		}
	}
	return With(r.Context(), p), nil
}
