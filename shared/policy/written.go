package policy

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Limits of claims as they are written.
const (
	maxListed    = 1000 // groups, roles or methods
	maxTextBytes = 1024 // of one text outside attributes
)

// WrittenClaims are claims as they are written in tests, in the lab and in what is
// kept of decisions.
type WrittenClaims struct {
	Provider        string         `json:"provider,omitempty"`
	Kind            identity.Kind  `json:"kind,omitempty"`
	Issuer          string         `json:"issuer,omitempty"`
	Subject         string         `json:"subject"`
	Groups          []string       `json:"groups,omitempty"`
	Roles           []string       `json:"roles,omitempty"`
	Attributes      map[string]any `json:"attributes,omitempty"`
	ACR             string         `json:"acr,omitempty"`
	AMR             []string       `json:"amr,omitempty"`
	AuthenticatedAt time.Time      `json:"authenticated_at,omitzero"`
	ExpiresAt       time.Time      `json:"expires_at,omitzero"`
}

// WriteClaims writes claims. What names the proof and its session is left out: no
// rule sees it.
func WriteClaims(c identity.Claims) WrittenClaims {
	return WrittenClaims{
		Provider: c.Provider, Kind: c.Kind, Issuer: c.Issuer, Subject: c.Subject, Groups: c.Groups, Roles: c.Roles, Attributes: c.Attributes,
		ACR: c.ACR, AMR: c.AMR, AuthenticatedAt: c.AuthenticatedAt, ExpiresAt: c.ExpiresAt,
	}
}

// Read returns the claims as a verifier would give them, or what is wrong with them.
func (w WrittenClaims) Read() (identity.Claims, []fault.Field) {
	var wrong wrongs
	if w.Subject == "" {
		wrong.add("/subject", "must not be empty")
	}
	for pointer, text := range map[string]string{"/provider": w.Provider, "/kind": string(w.Kind), "/issuer": w.Issuer, "/subject": w.Subject, "/acr": w.ACR} {
		if len(text) > maxTextBytes {
			wrong.add(pointer, "is longer than %d bytes", maxTextBytes)
		}
	}
	for pointer, list := range map[string][]string{"/groups": w.Groups, "/roles": w.Roles, "/amr": w.AMR} {
		if len(list) > maxListed {
			wrong.add(pointer, "holds more than %d", maxListed)
		}
		if slices.ContainsFunc(list, func(s string) bool { return len(s) > maxTextBytes }) {
			wrong.add(pointer, "holds a text of more than %d bytes", maxTextBytes)
		}
	}
	if text, err := json.Marshal(w.Attributes); err != nil || len(text) > identity.MaxAttributesBytes {
		wrong.add("/attributes", "is longer than %d bytes", identity.MaxAttributesBytes)
	}
	return identity.Claims{
		Provider: w.Provider, Kind: w.Kind, Issuer: w.Issuer, Subject: w.Subject, Groups: sorted(w.Groups), Roles: sorted(w.Roles), Attributes: w.Attributes,
		ACR: w.ACR, AMR: sorted(w.AMR), AuthenticatedAt: w.AuthenticatedAt.UTC(), ExpiresAt: w.ExpiresAt.UTC(),
	}, wrong
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// WrittenRequest is a request as it is written in tests, in the lab and in what is
// kept of decisions.
type WrittenRequest struct {
	App         tenant.AppID            `json:"app_id"`
	Enrollment  tenant.EnrollmentPolicy `json:"enrollment_policy,omitempty"` // absent: controlled
	NodeID      string                  `json:"node_id,omitempty"`
	Tier        string                  `json:"tier,omitempty"` // which the node would like
	Permissions []string                `json:"permissions,omitzero"`
	Address     string                  `json:"address,omitempty"`
	Renewal     bool                    `json:"renewal,omitempty"`
}

// WriteRequest writes a request.
func WriteRequest(r Request) WrittenRequest {
	w := WrittenRequest{
		App: r.Key.App, Enrollment: r.Enrollment, NodeID: r.NodeID, Tier: enrollment.TierName(r.Wants.Tier),
		Permissions: enrollment.PermissionNames(r.Wants.Permissions), Renewal: r.Renewal,
	}
	if r.Address.IsValid() {
		w.Address = r.Address.String()
	}
	return w
}

// Read returns the request, in an organization, or what is wrong with it.
func (w WrittenRequest) Read(org tenant.OrgID) (Request, []fault.Field) {
	var wrong wrongs
	if _, err := tenant.ParseAppID(string(w.App)); err != nil {
		wrong.addAll("", fault.Of(err).Fields)
	}
	r := Request{Key: tenant.Key{Org: org, App: w.App}, Enrollment: w.Enrollment, NodeID: w.NodeID, Renewal: w.Renewal}
	if r.Enrollment == "" {
		r.Enrollment = tenant.Controlled
	} else if _, err := tenant.ParseEnrollmentPolicy(string(w.Enrollment)); err != nil {
		wrong.addAll("", fault.Of(err).Fields)
	}
	if len(w.NodeID) > maxTextBytes {
		wrong.add("/node_id", "is longer than %d bytes", maxTextBytes)
	}
	wants, bad := enrollment.ParseGrant(w.Tier, w.Permissions)
	wrong.addAll("", bad)
	r.Wants = wants
	if w.Address != "" {
		a, err := netip.ParseAddr(w.Address)
		if err != nil {
			wrong.add("/address", "must be an IP address")
		}
		r.Address = a
	}
	return r, wrong
}
