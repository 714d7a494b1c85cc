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

// enter returns the context to go on with if p may take the route of r.
func (p Principal) enter(r *http.Request, need web.Role) (context.Context, error) {
	if err := p.May(need, tenant.OrgID(r.PathValue("org"))); err != nil {
		return nil, err
	}
	return With(r.Context(), p), nil
}
