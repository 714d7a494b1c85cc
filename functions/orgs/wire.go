package orgs

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// orgRequest makes an organization. A quota that is left out has its default.
type orgRequest struct {
	ID          string         `json:"org_id"`
	DisplayName string         `json:"display_name"`
	Quotas      *quotasRequest `json:"quotas,omitempty"`
}

// orgPatch changes an organization. What is left out stays.
type orgPatch struct {
	DisplayName *string        `json:"display_name,omitempty"`
	Quotas      *quotasRequest `json:"quotas,omitempty"`
}

type quotasRequest struct {
	MaxFormations            *int `json:"max_formations,omitempty"`
	MaxPeersPerFormation     *int `json:"max_peers_per_formation,omitempty"`
	MaxDocumentsPerFormation *int `json:"max_documents_per_formation,omitempty"`
	MaxCDCSinks              *int `json:"max_cdc_sinks,omitempty"`
	MaxTokens                *int `json:"max_tokens,omitempty"`
	MaxEnrollmentsPerHour    *int `json:"max_enrollments_per_hour,omitempty"`
	MaxBytesStored           *int `json:"max_bytes_stored,omitempty"`
	MaxCDCBytesPerSecond     *int `json:"max_cdc_bytes_per_second,omitempty"`
}

// over returns old with the quotas that were given.
func (q *quotasRequest) over(old tenant.Quotas) (tenant.Quotas, error) {
	if q == nil {
		return old, nil
	}
	for from, to := range map[*int]*int{
		q.MaxFormations:            &old.MaxFormations,
		q.MaxPeersPerFormation:     &old.MaxPeersPerFormation,
		q.MaxDocumentsPerFormation: &old.MaxDocumentsPerFormation,
		q.MaxCDCSinks:              &old.MaxCDCSinks,
		q.MaxTokens:                &old.MaxTokens,
		q.MaxEnrollmentsPerHour:    &old.MaxEnrollmentsPerHour,
		q.MaxBytesStored:           &old.MaxBytesStored,
		q.MaxCDCBytesPerSecond:     &old.MaxCDCBytesPerSecond,
	} {
		if from != nil {
			*to = *from
		}
	}
	return old, old.Validate()
}

type orgWire struct {
	ID          tenant.OrgID  `json:"org_id"`
	DisplayName string        `json:"display_name"`
	Quotas      tenant.Quotas `json:"quotas"`
	Usage       store.Usage   `json:"usage"`
	CreatedAt   time.Time     `json:"created_at"`
}

func wireOrg(o tenant.Org, u store.Usage) orgWire {
	return orgWire{o.ID, o.DisplayName, o.Quotas, u, o.CreatedAt}
}

type formationRequest struct {
	ID     string  `json:"app_id"`
	Policy *string `json:"enrollment_policy,omitempty"` // left out, it is controlled
}

// formationPatch changes a formation. What is left out stays.
type formationPatch struct {
	Policy *string `json:"enrollment_policy,omitempty"`
}

type formationWire struct {
	Org                tenant.OrgID            `json:"org_id"`
	App                tenant.AppID            `json:"app_id"`
	MeshID             string                  `json:"mesh_id"`
	Policy             tenant.EnrollmentPolicy `json:"enrollment_policy"`
	State              tenant.State            `json:"state"`
	AuthorityPublicKey string                  `json:"authority_public_key"`
	CreatedAt          time.Time               `json:"created_at"`
	// Sealed: the last attempt to open the formation's root failed for good. Nothing
	// is opened to find out, so without it nothing is known to be wrong.
	Sealed bool                  `json:"sealed,omitempty"`
	Usage  *store.FormationUsage `json:"usage,omitempty"` // of one, not in lists
}

func wireFormation(f tenant.Formation) formationWire {
	return formationWire{
		Org: f.Org, App: f.App, MeshID: f.MeshID, Policy: f.Policy, State: f.State,
		AuthorityPublicKey: hex.EncodeToString(f.AuthorityPublicKey), CreatedAt: f.CreatedAt,
	}
}

// destructionWire is the record of a formation's end. Statement and signature are
// what was signed; the rest is read from the statement.
type destructionWire struct {
	ID           string       `json:"destruction_id"`
	Org          tenant.OrgID `json:"org_id"`
	App          tenant.AppID `json:"app_id"`
	MeshID       string       `json:"mesh_id"`
	Authority    string       `json:"authority_public_key"`
	CreatedAt    time.Time    `json:"created_at"`
	DestroyedAt  time.Time    `json:"destroyed_at"`
	DestroyedBy  string       `json:"destroyed_by"`
	RequestID    string       `json:"request_id"`
	Certificates uint64       `json:"certificates_revoked"`
	Position     uint64       `json:"log_position"`
	Statement    []byte       `json:"statement"` // base64
	Signature    string       `json:"signature"` // hexadecimal; empty if the key could not be opened
}

func wireDestruction(s tenant.SignedDestruction) (destructionWire, error) {
	d, err := tenant.DecodeDestruction(s.Statement)
	return destructionWire{
		s.ID, d.Org, d.App, d.MeshID, hex.EncodeToString(d.Authority), d.CreatedAt, d.At, d.By, d.RequestID,
		d.Certificates, d.Position, s.Statement, hex.EncodeToString(s.Signature),
	}, err
}

// tag is the ETag of a revision.
func tag(revision uint64) string { return strconv.FormatUint(revision, 10) }
