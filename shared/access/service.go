package access

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// ServiceKind is what service tokens begin with.
const ServiceKind token.Kind = "peat_svc_"

// How long a service token may be good for.
const (
	DefaultServiceLife = 90 * 24 * time.Hour
	MaxServiceLife     = 366 * 24 * time.Hour
)

// maxFormations is how many formations a token can name.
const maxFormations = 100

// AllFormations stands, as the only name in ServiceToken.Formations, for every
// formation of the organization, also those made later.
const AllFormations = "*"

// ServiceToken lets a program into one organization. Its text is not kept, only a
// keyed hash of it.
type ServiceToken struct {
	Org        tenant.OrgID
	ID         string // no secret: in lists, in the audit trail
	Label      string
	Hash       []byte
	Role       web.Role // viewer or org-admin
	Formations []string // names, or AllFormations alone; empty once all it names are gone
	Scopes     []Scope  // none: all that the role allows
	CreatedAt  time.Time
	CreatedBy  string
	ExpiresAt  time.Time
	RevokedAt  time.Time // zero: not revoked
	LastUsedAt time.Time // rounded; zero: not yet
}

// ServiceRequest is what somebody asks of a new service token.
type ServiceRequest struct {
	Label      string
	Role       string
	Formations []string // none: all
	Scopes     []string // none: all that the role allows
	ExpiresAt  time.Time
}

// Token returns the token that is asked for, as of now, or all that is wrong with
// what is asked.
func (r ServiceRequest) Token(now time.Time) (ServiceToken, error) {
	var wrong []fault.Field
	bad := func(pointer, format string, args ...any) {
		wrong = append(wrong, fault.Field{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
	if _, err := tenant.ParseLabel(r.Label); err != nil {
		wrong = append(wrong, fault.Of(err).Fields...)
	}
	t := ServiceToken{Label: r.Label, Role: web.Role(r.Role), CreatedAt: now, ExpiresAt: r.ExpiresAt}
	if _, ok := rank[t.Role]; !ok {
		bad("/role", "must be %s or %s", web.Viewer, web.OrgAdmin)
	}
	if t.ExpiresAt.IsZero() {
		t.ExpiresAt = now.Add(DefaultServiceLife)
	}
	if !t.ExpiresAt.After(now) || t.ExpiresAt.Sub(now) > MaxServiceLife {
		bad("/expires_at", "must be in the future, and no more than %d days away", int(MaxServiceLife.Hours()/24))
	}
	t.Formations = r.formations(bad)
	t.Scopes = r.scopes(t.Role, bad)
	if len(wrong) > 0 {
		return ServiceToken{}, &fault.Error{Kind: fault.Invalid, Message: strings.TrimPrefix(wrong[0].Pointer, "/") + " " + wrong[0].Detail, Fields: wrong}
	}
	return t, nil
}

func (r ServiceRequest) formations(bad func(pointer, format string, args ...any)) []string {
	if r.Formations == nil {
		return []string{AllFormations}
	}
	switch {
	case len(r.Formations) == 0 || len(r.Formations) > maxFormations:
		bad("/formations", `must name 1 to %d formations or be ["*"]`, maxFormations)
	case slices.Contains(r.Formations, AllFormations):
		if len(r.Formations) > 1 {
			bad("/formations", `"*" stands alone`)
		}
	default:
		for i, name := range r.Formations {
			if _, err := tenant.ParseAppID(name); err != nil {
				bad(fmt.Sprintf("/formations/%d", i), "is not a formation's name")
			}
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(r.Formations)))
}

func (r ServiceRequest) scopes(role web.Role, bad func(pointer, format string, args ...any)) []Scope {
	if r.Scopes == nil {
		return nil
	}
	if len(r.Scopes) == 0 {
		bad("/scopes", "must name a scope; left out, they are all")
	}
	known := Scopes()
	var out []Scope
	for i, name := range r.Scopes {
		switch s := Scope(name); {
		case !slices.Contains(known, s):
			bad(fmt.Sprintf("/scopes/%d", i), "is not a scope")
		case strings.HasSuffix(name, ":write") && role == web.Viewer:
			bad(fmt.Sprintf("/scopes/%d", i), "needs the role %s", web.OrgAdmin)
		default:
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// EveryFormation tells whether the token is for its whole organization.
func (t *ServiceToken) EveryFormation() bool { return slices.Contains(t.Formations, AllFormations) }

// Covers tells whether the token is for a formation of its organization.
func (t *ServiceToken) Covers(app tenant.AppID) bool {
	return t.EveryFormation() || slices.Contains(t.Formations, string(app))
}

// Reaches tells whether a caller may have to do with all of these formations of an
// organization of theirs: names, or AllFormations alone. It is for what serves
// several at once; of the formation in the path the gate has judged.
func (p Principal) Reaches(formations []string) bool {
	return p.Token == nil || p.Token.EveryFormation() ||
		!slices.ContainsFunc(formations, func(name string) bool { return !slices.Contains(p.Token.Formations, name) })
}

// ReadsAudit tells whether a caller may see the whole audit trail of an organization
// of theirs.
func (p Principal) ReadsAudit() bool {
	t := p.Token
	return t == nil || t.EveryFormation() && (len(t.Scopes) == 0 || slices.ContainsFunc(t.Scopes, func(s Scope) bool { return s.includes(Scope(audit + ":read")) }))
}

// State is active, expired or revoked.
func (t *ServiceToken) State(now time.Time) string {
	switch {
	case !t.RevokedAt.IsZero():
		return "revoked"
	case !t.ExpiresAt.After(now):
		return "expired"
	}
	return "active"
}

// principal is the caller who shows the token.
func (t ServiceToken) principal() Principal {
	return Principal{Name: "service-token:" + t.ID, Orgs: map[tenant.OrgID]web.Role{t.Org: t.Role}, Token: &t}
}
