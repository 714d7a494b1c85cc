package enroll

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// decisionRequest is an administrator's word on a node that waits.
type decisionRequest struct {
	Note string `json:"note,omitempty"`
}

// applicationWire is an application as an administrator sees it.
type applicationWire struct {
	ID          string              `json:"enrollment_id"`
	State       enrollment.Standing `json:"state"`
	NodeID      string              `json:"node_id"`
	PublicKey   string              `json:"public_key"`
	Tier        string              `json:"tier"`
	Permissions []string            `json:"permissions"`
	Validity    string              `json:"validity"`
	Credentials bool                `json:"credentials"` // whether those of the formation go with the certificate
	Rule        string              `json:"rule"`
	AdmittedBy  string              `json:"admitted_by"`
	Evidence    json.RawMessage     `json:"evidence"`
	CreatedAt   time.Time           `json:"created_at"`
	ExpiresAt   time.Time           `json:"expires_at"`
	DecidedAt   *time.Time          `json:"decided_at,omitempty"`
	DecidedBy   string              `json:"decided_by,omitempty"`
	Note        string              `json:"note,omitempty"`
	Serial      string              `json:"serial,omitempty"`
}

func wireApplication(a enrollment.Application, now time.Time) applicationWire {
	return applicationWire{
		ID: a.ID, State: a.At(now), NodeID: a.NodeID, PublicKey: hex.EncodeToString(a.Subject), Tier: enrollment.TierName(a.Grant.Tier),
		Permissions: enrollment.PermissionNames(a.Grant.Permissions), Validity: a.Validity.String(), Credentials: a.Credentials, Rule: a.Rule,
		AdmittedBy: a.AdmittedBy, Evidence: a.Evidence, CreatedAt: a.CreatedAt, ExpiresAt: a.ExpiresAt, DecidedAt: optional(a.DecidedAt),
		DecidedBy: a.DecidedBy, Note: a.Note, Serial: a.Serial,
	}
}

// listApplications lists a formation's applications, the oldest first.
func (f *Function) listApplications(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	standing := enrollment.Standing(r.URL.Query().Get("state"))
	if standing != "" && !slices.Contains(enrollment.Standings(), standing) {
		return fault.Malformed.New("state must be pending, approved, denied or expired")
	}
	now := f.Now()
	found, err := f.Store.Applications(r.Context(), key, standing, now, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(a enrollment.Application) string { return a.ID })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, func(a enrollment.Application) applicationWire { return wireApplication(a, now) }))
}

// enrollmentOf reads an application's id from the path.
func enrollmentOf(r *http.Request) (string, error) {
	return web.Path(r, "enrollment", func(s string) (string, error) {
		_, err := ulid.ParseStrict(s)
		return s, err
	})
}

func (f *Function) getApplication(w http.ResponseWriter, r *http.Request) error {
	key, id, err := applicationOf(r)
	if err != nil {
		return err
	}
	a, err := f.Store.Application(r.Context(), key, id)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireApplication(a, f.Now()))
}

func applicationOf(r *http.Request) (key tenant.Key, id string, err error) {
	if key, err = access.KeyOf(r); err == nil {
		id, err = enrollmentOf(r)
	}
	return key, id, err
}

// read reads an administrator's decision.
func (in *decisionRequest) read(r *http.Request) error {
	if err := web.ReadOptionalJSON(r, in); err != nil || in.Note == "" {
		return err
	}
	if _, err := tenant.ParseDisplayName(in.Note); err != nil || len(in.Note) > maxWhyBytes {
		return invalid("/note", "must be text of 1 to 256 bytes")
	}
	return nil
}

// postApprove lets a node in that waits. It is now that the certificate is made; the
// node comes for it. What it is given is what was decided when it came, counted from
// now: the administrator's word stands for an identity's session that is over by now.
// Doing it twice changes nothing.
func (f *Function) postApprove(w http.ResponseWriter, r *http.Request) error {
	key, id, err := applicationOf(r)
	if err != nil {
		return err
	}
	var in decisionRequest
	if err := in.read(r); err != nil {
		return err
	}
	ctx, did := r.Context(), actOf(r)
	formation, err := f.Store.Formation(ctx, key)
	if err != nil {
		return err
	}
	a, err := f.Store.Application(ctx, key, id)
	if err != nil {
		return err
	}
	a, fresh, err := a.Decide(enrollment.Accepted, did.actor, in.Note, store.Precise(f.Now()))
	if err != nil {
		return err
	}
	if fresh {
		c, err := f.issue(ctx, order{
			act: did, key: key, meshID: formation.MeshID, node: a.NodeID, subject: a.Subject, grant: a.Grant, validity: a.Validity,
			proof: authority.Possession{At: a.ProvedAt}, why: in.Note, rule: a.Rule, admittedBy: a.AdmittedBy, approved: &a,
		})
		if err != nil {
			return err
		}
		a.Serial = c.Serial
	}
	return web.WriteJSON(w, http.StatusOK, wireApplication(a, f.Now()))
}

// postDeny turns a node away that waits. What it used of a token is used. Doing it
// twice changes nothing.
func (f *Function) postDeny(w http.ResponseWriter, r *http.Request) error {
	key, id, err := applicationOf(r)
	if err != nil {
		return err
	}
	var in decisionRequest
	if err := in.read(r); err != nil {
		return err
	}
	ctx, did := r.Context(), actOf(r)
	var a enrollment.Application
	var fresh bool
	if err := f.Store.InTxOn(ctx, key, func(tx *store.Tx) error {
		if _, err := tx.LockLedger(ctx, key); err != nil {
			return err
		}
		if a, err = tx.Application(ctx, key, id); err != nil {
			return err
		}
		if a, fresh, err = a.Decide(enrollment.Rejected, did.actor, in.Note, store.Precise(f.Now())); err != nil || !fresh {
			return err
		}
		return f.reject(ctx, tx, did, a)
	}); err != nil {
		return err
	}
	if fresh {
		faultpoint.Hit("deny/committed")
		f.Notify()
	}
	return web.WriteJSON(w, http.StatusOK, wireApplication(a, f.Now()))
}

func (f *Function) reject(ctx context.Context, tx *store.Tx, did act, a enrollment.Application) error {
	if err := tx.DecideApplication(ctx, a); err != nil {
		return err
	}
	faultpoint.Hit("deny/decided")
	detail := map[string]any{"node_id": a.NodeID, "public_key": hex.EncodeToString(a.Subject), "admitted_by": a.AdmittedBy}
	if a.Note != "" {
		detail["note"] = a.Note
	}
	if err := tx.AppendAudit(ctx, f.audit(did, a.Key, "enrollment.reject", string(a.Key.App)+"/"+a.ID, detail)); err != nil {
		return err
	}
	return tx.Enqueue(ctx, event.EnrollmentDecided(event.EnrollmentData{
		Org: a.Key.Org, App: a.Key.App, Outcome: event.EnrollmentDenied, NodeID: a.NodeID, PublicKey: hex.EncodeToString(a.Subject),
		Provider: a.Voucher.Provider, Enrollment: a.ID,
	}, f.Now()))
}
