package federation

import (
	"encoding/json"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

type entryWire struct {
	Seq       uint64          `json:"seq"`
	ID        string          `json:"id"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	Action    string          `json:"action"`
	Target    string          `json:"target"`
	RequestID string          `json:"request_id"`
	Detail    json.RawMessage `json:"detail"`
	Hash      audit.Hash      `json:"hash"`
}

func wireEntry(e audit.Entry) entryWire {
	return entryWire{e.Seq, e.ID, e.At, e.Actor, e.Action, e.Target, e.RequestID, e.Detail, e.Hash}
}

// trailWire is a trail as a whole. Since is the entry with which the organization
// of this name began that came last.
type trailWire struct {
	Org     tenant.OrgID `json:"org_id"`
	Entries uint64       `json:"entries"`
	Since   uint64       `json:"since"`
	Signed  uint64       `json:"signed"`
	Exists  bool         `json:"exists"`
}

// tokenRequest asks for an enrollment token. What is left out has its default.
type tokenRequest struct {
	Label       string     `json:"label"`
	MaxUses     *int       `json:"max_uses,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	Tier        *string    `json:"tier,omitempty"`
	Permissions *[]string  `json:"permissions,omitempty"`
}

type tokenWire struct {
	ID          string     `json:"token_id"`
	Label       string     `json:"label"`
	State       string     `json:"state"`
	MaxUses     int        `json:"max_uses"`
	Uses        int        `json:"uses"`
	Tier        string     `json:"tier"`
	Permissions []string   `json:"permissions"`
	CreatedAt   time.Time  `json:"created_at"`
	CreatedBy   string     `json:"created_by"`
	ExpiresAt   time.Time  `json:"expires_at"`
	LastUsedAt  *time.Time `json:"last_used_at"`
	RevokedAt   *time.Time `json:"revoked_at"`
	Reason      string     `json:"reason,omitempty"`

	Token               string `json:"token,omitempty"`                // once, when it is made
	CertificatesRevoked *int   `json:"certificates_revoked,omitempty"` // where that was asked for
}

func wireToken(t enrollment.Token, now time.Time) tokenWire {
	return tokenWire{
		ID: t.ID, Label: t.Label, State: t.State(now), MaxUses: t.MaxUses, Uses: t.Uses,
		Tier: enrollment.TierName(t.Grant.Tier), Permissions: enrollment.PermissionNames(t.Grant.Permissions),
		CreatedAt: t.CreatedAt, CreatedBy: t.CreatedBy, ExpiresAt: t.ExpiresAt,
		LastUsedAt: optional(t.UsedAt), RevokedAt: optional(t.RevokedAt), Reason: t.Reason,
	}
}

// revocation ends an enrollment token, and with it what it admitted if that is asked.
type revocation struct {
	Reason       string `json:"reason,omitempty"`
	Certificates bool   `json:"certificates,omitempty"`
}

// serviceRequest asks for a service token. What is left out has its default.
type serviceRequest struct {
	Label      string     `json:"label"`
	Role       string     `json:"role"`
	Formations *[]string  `json:"formations,omitempty"`
	Scopes     *[]string  `json:"scopes,omitempty"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
}

type serviceWire struct {
	ID         string         `json:"token_id"`
	Label      string         `json:"label"`
	State      string         `json:"state"`
	Role       web.Role       `json:"role"`
	Formations []string       `json:"formations"`
	Scopes     []access.Scope `json:"scopes"` // null: all that the role allows
	CreatedAt  time.Time      `json:"created_at"`
	CreatedBy  string         `json:"created_by"`
	ExpiresAt  time.Time      `json:"expires_at"`
	LastUsedAt *time.Time     `json:"last_used_at"`
	RevokedAt  *time.Time     `json:"revoked_at"`

	Token string `json:"token,omitempty"` // once, when it is made
}

func wireService(t access.ServiceToken, now time.Time) serviceWire {
	w := serviceWire{
		ID: t.ID, Label: t.Label, State: t.State(now), Role: t.Role, Formations: t.Formations, Scopes: t.Scopes,
		CreatedAt: t.CreatedAt, CreatedBy: t.CreatedBy, ExpiresAt: t.ExpiresAt,
		LastUsedAt: optional(t.LastUsedAt), RevokedAt: optional(t.RevokedAt),
	}
	if w.Formations == nil {
		w.Formations = []string{} // all it named are gone
	}
	return w
}

// providerRequest makes an identity provider.
type providerRequest struct {
	Kind    identity.Kind   `json:"kind"`
	Label   string          `json:"label"`
	Config  json.RawMessage `json:"config"`
	Enabled *bool           `json:"enabled,omitempty"` // default: true
}

// providerPatch changes an identity provider. What it leaves out stays.
type providerPatch struct {
	Label  *string         `json:"label,omitempty"`
	Config json.RawMessage `json:"config,omitempty"` // a merge patch: null removes a field
}

type providerWire struct {
	ID        string          `json:"provider_id"`
	Kind      identity.Kind   `json:"kind"`
	Label     string          `json:"label"`
	Issuer    string          `json:"issuer"`
	Enabled   bool            `json:"enabled"`
	Config    json.RawMessage `json:"config"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
}

func wireProvider(p identity.Provider) providerWire {
	return providerWire{p.ID, p.Kind, p.Label, p.Issuer, p.Enabled, p.Config, p.CreatedAt, p.UpdatedAt}
}

// reportWire is what a check of an identity provider found.
type reportWire struct {
	OK       bool          `json:"ok"`
	Findings []findingWire `json:"findings"`
}

type findingWire struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// optional is a time as JSON has it: null if it never came.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// value is what was sent, or the zero value for what was left out.
func value[T any](sent *T) T {
	if sent == nil {
		var none T
		return none
	}
	return *sent
}
