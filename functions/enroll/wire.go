package enroll

import (
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// issueRequest orders a certificate. What is left out is the least: the lowest
// tier, the standard permissions, a day.
type issueRequest struct {
	PublicKey   string        `json:"public_key"`
	NodeID      string        `json:"node_id"`
	Tier        *string       `json:"tier,omitempty"`
	Permissions *[]string     `json:"permissions,omitempty"`
	Validity    *string       `json:"validity,omitempty"`
	Why         *string       `json:"why,omitempty"`
	Proof       *proofRequest `json:"proof"`
}

// enrollRequest is what a node says that wants to be let in, by a token or by who it
// is.
type enrollRequest struct {
	Token     enrollment.TokenText `json:"token,omitempty"`
	Identity  *identityRequest     `json:"identity,omitempty"`
	Challenge string               `json:"challenge,omitempty"`
	Wants     *wantsRequest        `json:"wants,omitempty"`
	PublicKey string               `json:"public_key"`
	NodeID    string               `json:"node_id"`
	Proof     *proofRequest        `json:"proof"`
}

// identityRequest is a proof of identity: one of token, saml and client_certificate.
type identityRequest struct {
	Provider          string               `json:"provider_id,omitempty"` // which it is of, where it does not say so itself
	Token             enrollment.TokenText `json:"token,omitempty"`
	SAML              string               `json:"saml,omitempty"` // base64
	ClientCertificate bool                 `json:"client_certificate,omitempty"`
}

// wantsRequest is what a node would like. A policy may look at it.
type wantsRequest struct {
	Tier        string   `json:"tier,omitempty"`
	Permissions []string `json:"permissions,omitempty"`
}

type challengeWire struct {
	Nonce     string    `json:"nonce"`
	ExpiresAt time.Time `json:"expires_at"`
	MeshID    string    `json:"mesh_id"`
}

// credentialsWire is what members of a formation share. It is for the node alone.
type credentialsWire struct {
	MeshName  string                  `json:"mesh_name"`
	MeshID    string                  `json:"mesh_id"`
	Secret    string                  `json:"formation_secret"` // base64
	Authority string                  `json:"authority_public_key"`
	Policy    tenant.EnrollmentPolicy `json:"enrollment_policy"`
	Encoded   string                  `json:"encoded"` // all of it as peat-mesh has it, in base64
}

func wireCredentials(c *genesis.Credentials) (*credentialsWire, error) {
	encoded, err := c.Encode()
	if err != nil {
		return nil, err
	}
	return &credentialsWire{
		MeshName: c.Name, MeshID: c.MeshID, Secret: base64.StdEncoding.EncodeToString(c.FormationSecret[:]),
		Authority: hex.EncodeToString(c.AuthorityPublicKey), Policy: c.Policy, Encoded: base64.StdEncoding.EncodeToString(encoded),
	}, nil
}

type renewRequest struct {
	Proof    *proofRequest    `json:"proof"`
	Identity *identityRequest `json:"identity,omitempty"`
}

type revokeRequest struct {
	Reason string `json:"reason"`
}

type retireRequest struct {
	Authority string `json:"authority_id"`
	Force     bool   `json:"force,omitempty"`
}

type taintRequest struct {
	Authority string `json:"authority_id"`
	Reason    string `json:"reason"`
}

// certificateWire is a certificate with what is known of it.
type certificateWire struct {
	Serial      string             `json:"serial"`
	State       authority.Standing `json:"state"`
	PublicKey   string             `json:"public_key"`
	NodeID      string             `json:"node_id"`
	MeshID      string             `json:"mesh_id"`
	Tier        string             `json:"tier"`
	Permissions []string           `json:"permissions"`
	IssuedAt    time.Time          `json:"issued_at"`
	ExpiresAt   time.Time          `json:"expires_at"`
	RenewAfter  time.Time          `json:"renew_after"`
	Authority   string             `json:"authority_id"`
	Issuer      string             `json:"authority_public_key"`
	Certificate string             `json:"certificate"` // the bytes that peers read, in base64
	IssuedBy    string             `json:"issued_by"`
	Rule        string             `json:"rule"`
	Why         string             `json:"why,omitempty"`
	AdmittedBy  string             `json:"admitted_by,omitempty"`
	Replaces    string             `json:"replaces,omitempty"`
	ReplacedBy  string             `json:"replaced_by,omitempty"`
	RevokedAt   *time.Time         `json:"revoked_at,omitempty"`
	RevokedBy   string             `json:"revoked_by,omitempty"`
	Reason      string             `json:"reason,omitempty"`
	// Credentials are only in the answer to the node that was let in.
	Credentials *credentialsWire `json:"credentials,omitempty"`
}

func wireCertificate(c authority.Certificate, now time.Time) (certificateWire, error) {
	decoded, err := cert.Decode(c.Encoded)
	if err != nil {
		return certificateWire{}, err
	}
	out := certificateWire{
		Serial: c.Serial, State: c.Standing(now), PublicKey: hex.EncodeToString(c.Subject), NodeID: c.NodeID, MeshID: decoded.MeshID,
		Tier: enrollment.TierName(decoded.Tier), Permissions: enrollment.PermissionNames(decoded.Permissions),
		IssuedAt: c.IssuedAt, ExpiresAt: c.ExpiresAt, RenewAfter: c.RenewAfter, Authority: c.Authority, Issuer: hex.EncodeToString(decoded.Issuer[:]),
		Certificate: base64.StdEncoding.EncodeToString(c.Encoded), IssuedBy: c.By, Rule: c.Rule, Why: c.Why, AdmittedBy: c.AdmittedBy,
		Replaces: c.Replaces, ReplacedBy: c.ReplacedBy, RevokedBy: c.RevokedBy, Reason: c.Reason,
	}
	if !c.RevokedAt.IsZero() {
		out.RevokedAt = &c.RevokedAt
	}
	return out, nil
}

// inspectionWire is one certificate and what came before and after it.
type inspectionWire struct {
	certificateWire
	Document documentWire  `json:"document"`
	History  []historyWire `json:"history"`
}

// documentWire is a document for the mesh: its name there, and its fields.
type documentWire struct {
	Key    string `json:"key"`
	Fields any    `json:"fields"`
}

type historyWire struct {
	Serial    string             `json:"serial"`
	State     authority.Standing `json:"state"`
	IssuedAt  time.Time          `json:"issued_at"`
	ExpiresAt time.Time          `json:"expires_at"`
	Rule      string             `json:"rule"`
	Replaces  string             `json:"replaces,omitempty"`
}

func certificatePath(key tenant.Key, serial string) string {
	return event.FormationSource(key.Org, key.App) + "/certificates/" + serial
}

func eventOf(c authority.Certificate) event.CertificateData {
	return event.CertificateData{
		Org: c.Key.Org, App: c.Key.App, Serial: c.Serial, NodeID: c.NodeID, PublicKey: hex.EncodeToString(c.Subject), ExpiresAt: c.ExpiresAt,
		Replaces: c.Replaces, Reason: c.Reason,
	}
}

func eventOfAuthority(a authority.Authority) event.AuthorityData {
	return event.AuthorityData{Org: a.Key.Org, App: a.Key.App, Authority: a.ID, PublicKey: hex.EncodeToString(a.PublicKey), State: string(a.State)}
}

type revocationsWire struct {
	Version   uint64           `json:"version"`
	MeshID    string           `json:"mesh_id"`
	Issuer    string           `json:"authority_public_key"`
	IssuedAt  time.Time        `json:"issued_at"`
	NextAt    time.Time        `json:"next_at"`
	Entries   []revocationWire `json:"entries"`
	Signed    string           `json:"signed"` // the list that the signature is over, and it, in base64
	Authority string           `json:"authority_id"`
}

type revocationWire struct {
	PublicKey string    `json:"public_key"`
	Serial    string    `json:"serial,omitempty"` // left out, it is all that the key has
	RevokedAt time.Time `json:"revoked_at"`
	Reason    string    `json:"reason"`
}

func wireRevocations(l authority.List, decoded cert.RevocationList) revocationsWire {
	out := revocationsWire{
		Version: decoded.Version, MeshID: decoded.MeshID, Issuer: hex.EncodeToString(decoded.Issuer[:]), IssuedAt: decoded.IssuedAt, NextAt: decoded.NextAt,
		Signed: base64.StdEncoding.EncodeToString(l.Encoded), Authority: l.Authority, Entries: make([]revocationWire, len(decoded.Entries)),
	}
	for i, e := range decoded.Entries {
		out.Entries[i] = revocationWire{PublicKey: hex.EncodeToString(e.Subject[:]), RevokedAt: e.RevokedAt, Reason: e.Reason.String()}
		if e.Serial != [32]byte{} {
			out.Entries[i].Serial = hex.EncodeToString(e.Serial[:])
		}
	}
	return out
}

// wireDocuments is what of a list can be published into the mesh.
func wireDocuments(l cert.RevocationList) map[string]any {
	items := []documentWire{}
	for _, e := range l.Entries {
		if d, ok := e.Document(); ok {
			items = append(items, documentWire{d.Key(), d})
		}
	}
	return map[string]any{"version": l.Version, "items": items}
}

type authorityWire struct {
	ID           string          `json:"authority_id"`
	PublicKey    string          `json:"public_key"`
	State        authority.State `json:"state"`
	Reason       string          `json:"reason,omitempty"`
	CreatedAt    time.Time       `json:"created_at"`
	ActivatedAt  *time.Time      `json:"activated_at,omitempty"`
	ReplacedAt   *time.Time      `json:"replaced_at,omitempty"`
	EndedAt      *time.Time      `json:"ended_at,omitempty"`
	Certificates int             `json:"certificates"` // that are good and were signed by it
}

func wireAuthorities(all []authority.Authority, hanging map[string]int) map[string]any {
	items := make([]authorityWire, len(all))
	for i, a := range all {
		items[i] = authorityWire{
			ID: a.ID, PublicKey: hex.EncodeToString(a.PublicKey), State: a.State, Reason: a.Reason, CreatedAt: a.CreatedAt,
			ActivatedAt: optional(a.ActivatedAt), ReplacedAt: optional(a.ReplacedAt), EndedAt: optional(a.EndedAt), Certificates: hanging[a.ID],
		}
	}
	return map[string]any{"items": items}
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
