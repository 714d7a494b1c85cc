package access

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Mapping says what the gateway's identity provider must say of a person for them to
// have a role. The names are of roles or of groups.
//
//   - Admin makes a gateway-admin, and nothing else does.
//   - OrgAdmin and Viewer give that role in every organization that the claim Orgs
//     names. It is a text, a list of texts, or an object whose names they are.
//   - OrgAdmin or Viewer with ":" and an organization behind it gives the role there
//     alone; so does the group of that name below the organization's, as in
//     "/acme/peat-viewer".
//
// Nothing else means anything: who has a role and no organization, or an organization
// and no role, sees nothing.
type Mapping struct {
	Admin, OrgAdmin, Viewer string
	Orgs                    string // a claim, by its path; empty: none
	// OrgsAreGroups has the organizations be the groups.
	OrgsAreGroups bool
}

// maxSubject is how long OpenID Connect lets a subject be.
const maxSubject = 255

// Principal is the caller that claims are of.
func (m Mapping) Principal(c identity.Claims) (Principal, error) {
	if c.Subject == "" || len(c.Subject) > maxSubject {
		return Principal{}, fault.Unauthenticated.New("the identity provider does not say who this is")
	}
	p := Principal{Name: PersonName(c.Subject), Orgs: map[tenant.OrgID]web.Role{}}
	p.Person = &Person{Subject: c.Subject, Label: label(c)}
	var everywhere web.Role
	for _, name := range c.Roles {
		m.take(&p, &everywhere, name)
	}
	for _, name := range c.Groups {
		name = strings.TrimPrefix(name, "/")
		m.take(&p, &everywhere, name)
		if org, role, below := strings.Cut(name, "/"); below {
			p.grant(org, m.role(role))
		}
	}
	orgs := names(lookup(c.Attributes, m.Orgs))
	if m.OrgsAreGroups {
		orgs = c.Groups
	}
	for _, org := range orgs {
		p.grant(strings.TrimPrefix(org, "/"), everywhere)
	}
	return p, nil
}

// take has a role or group of a person count.
func (m Mapping) take(p *Principal, everywhere *web.Role, name string) {
	if name == m.Admin && name != "" {
		p.Gateway = true
	}
	if role := m.role(name); rank[role] > rank[*everywhere] {
		*everywhere = role
	}
	if role, org, kept := strings.Cut(name, ":"); kept {
		p.grant(org, m.role(role))
	}
}

// role is the role in an organization that a name stands for; none for most names.
func (m Mapping) role(name string) web.Role {
	switch name {
	case "":
		return ""
	case m.OrgAdmin:
		return web.OrgAdmin
	case m.Viewer:
		return web.Viewer
	}
	return ""
}

// grant gives a role in an organization, unless a greater one was given. What cannot
// be an organization's name is none.
func (p *Principal) grant(name string, role web.Role) {
	org, err := tenant.ParseOrgID(name)
	if err == nil && rank[role] > rank[p.Orgs[org]] {
		p.Orgs[org] = role
	}
}

// Digest tells mappings apart, also by the provider that they are for.
func (m Mapping) Digest(issuer, client string) string {
	text, _ := json.Marshal([]any{issuer, client, m}) // texts only
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// lookup finds a claim by its path: names with dots between them, and a name may
// have dots of its own.
func lookup(attributes map[string]any, path string) any {
	if path == "" {
		return nil
	}
	if v, ok := attributes[path]; ok {
		return v
	}
	for i, c := range path {
		if c != '.' {
			continue
		}
		if inner, ok := attributes[path[:i]].(map[string]any); ok {
			if v := lookup(inner, path[i+1:]); v != nil {
				return v
			}
		}
	}
	return nil
}

// names are the texts in a claim.
func names(claim any) []string {
	var out []string
	switch v := claim.(type) {
	case string:
		out = append(out, v)
	case []string:
		out = v
	case []any:
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
	case map[string]any:
		for name := range v {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// maxLabel is how much of somebody's name is shown.
const maxLabel = 128

// label is a name to show. People may choose it, so nothing depends on it.
func label(c identity.Claims) string {
	for _, name := range []string{"preferred_username", "email", "name"} {
		s, ok := c.Attributes[name].(string)
		if ok && s != "" && len(s) <= maxLabel && fmt.Sprintf("%q", s) == `"`+s+`"` {
			return s
		}
	}
	return c.Subject
}
