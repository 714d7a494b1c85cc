package enroll

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// offboardRequest names somebody as their identity provider does.
type offboardRequest struct {
	Provider     string `json:"provider_id"`
	Subject      string `json:"subject"`
	Reason       string `json:"reason,omitempty"`
	Certificates bool   `json:"certificates,omitempty"` // whether those of their nodes are revoked
}

type offboardedWire struct {
	Provider string    `json:"provider_id"`
	Subject  string    `json:"subject"`
	At       time.Time `json:"offboarded_at"`
	By       string    `json:"offboarded_by"`
	Reason   string    `json:"reason,omitempty"`
	Revoked  *int      `json:"revoked_certificates,omitempty"`
}

func (in offboardRequest) check() error {
	switch {
	case in.Provider == "" || len(in.Provider) > cert.MaxIDBytes || strings.ContainsRune(in.Provider, 0):
		return invalid("/provider_id", "must be an identity provider's id")
	case in.Subject == "" || len(in.Subject) > enrollment.MaxClaimantBytes || !utf8.ValidString(in.Subject) || strings.ContainsRune(in.Subject, 0):
		return invalid("/subject", "must be 1 to 512 bytes long")
	}
	if in.Reason == "" {
		return nil
	}
	if _, err := tenant.ParseDisplayName(in.Reason); err != nil || len(in.Reason) > maxWhyBytes {
		return invalid("/reason", "must be text of 1 to 256 bytes")
	}
	return nil
}

// readOffboard reads of whom, in which organization, a request is.
func readOffboard(r *http.Request) (tenant.OrgID, offboardRequest, error) {
	var in offboardRequest
	org, err := access.OrgOf(r)
	if err != nil {
		return org, in, err
	}
	if err := web.ReadJSON(r, &in); err != nil {
		return org, in, err
	}
	return org, in, in.check()
}

// postOffboard ends somebody's time with the organization: nodes that they vouched for
// are renewed no more, and new ones are not let in, whatever their provider still says.
// Asked so, what the nodes have is revoked. It comes first that nothing new is given,
// in a transaction of its own; if the gateway dies while it revokes, asking again goes
// on with the rest.
func (f *Function) postOffboard(w http.ResponseWriter, r *http.Request) error {
	org, in, err := readOffboard(r)
	if err != nil {
		return err
	}
	ctx, did := r.Context(), actOf(r)
	o := enrollment.Offboarding{Provider: in.Provider, Claimant: in.Subject, At: store.Precise(f.Now()), By: did.actor, Reason: in.Reason}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.Offboard(ctx, org, o); err != nil {
			return err
		}
		return tx.AppendAudit(ctx, f.auditIdentity(did, org, "identity.offboard", in, map[string]any{"certificates": in.Certificates}))
	}); err != nil {
		return err
	}
	faultpoint.Hit("offboard/committed")
	out := offboardedWire{Provider: o.Provider, Subject: o.Claimant, At: o.At, By: o.By, Reason: o.Reason}
	if in.Certificates {
		n, err := f.revokeVouched(ctx, did, org, in)
		if err != nil {
			return err
		}
		out.Revoked = &n
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

func (f *Function) auditIdentity(did act, org tenant.OrgID, action string, in offboardRequest, detail map[string]any) store.Audit {
	detail["subject"] = in.Subject
	if in.Reason != "" {
		detail["reason"] = in.Reason
	}
	return store.Audit{Org: org, At: f.Now(), Actor: did.actor, Action: action, Target: in.Provider, RequestID: did.request, Detail: detail}
}

// revokePage is how many keys are looked up at once.
const revokePage = 100

// revokeVouched revokes what the nodes of somebody have, key by key.
func (f *Function) revokeVouched(ctx context.Context, did act, org tenant.OrgID, in offboardRequest) (total int, err error) {
	var after enrollment.Vouched
	for {
		page, err := f.Store.VouchedFor(ctx, org, in.Provider, in.Subject, after, revokePage)
		if err != nil || len(page) == 0 {
			return total, err
		}
		for _, v := range page {
			n, err := f.revokeKey(ctx, did, v)
			if err != nil {
				return total, err
			}
			total += n
		}
		after = page[len(page)-1]
	}
}

// revokeKey revokes what a key has, as an administrator who revokes one of its
// certificates does.
func (f *Function) revokeKey(ctx context.Context, did act, v enrollment.Vouched) (n int, err error) {
	if err := f.Store.InTxOn(ctx, v.Key, func(tx *store.Tx) error {
		n = 0
		if _, err := tx.LockLedger(ctx, v.Key); err != nil {
			return err
		}
		now := store.Precise(f.Now())
		c, err := tx.NewestOf(ctx, v.Key, v.Subject)
		if errors.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if s := c.Standing(now); s == authority.Expired || s == authority.Revoked && !c.ByAuthority() {
			return nil
		}
		reason := cert.Withdrawn.String()
		if n, err = tx.RevokeKey(ctx, v.Key, c.NodeID, c.Subject, now, did.actor, reason); err != nil {
			return err
		}
		faultpoint.Hit("offboard/revoked")
		c.RevokedAt, c.RevokedBy, c.Reason = now, did.actor, reason
		detail := map[string]any{"node_id": c.NodeID, "reason": reason, "certificates": n, "admitted_by": v.AdmittedBy()}
		if err := tx.AppendAudit(ctx, f.audit(did, v.Key, "certificate.revoke", c.Serial, detail)); err != nil {
			return err
		}
		return tx.Enqueue(ctx, event.Certificate(event.CertificateRevokedType, eventOf(c), f.Now()))
	}); err != nil {
		return 0, err
	}
	if n > 0 {
		f.Notify()
	}
	return n, nil
}

// postReinstate takes an offboarding back. What was revoked stays so.
func (f *Function) postReinstate(w http.ResponseWriter, r *http.Request) error {
	org, in, err := readOffboard(r)
	if err != nil {
		return err
	}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := tx.Reinstate(r.Context(), org, in.Provider, in.Subject); err != nil {
			return err
		}
		return tx.AppendAudit(r.Context(), f.auditIdentity(actOf(r), org, "identity.reinstate", in, map[string]any{}))
	}); err != nil {
		return err
	}
	return web.NoContent(w)
}

// listOffboarded lists whom the organization offboarded.
func (f *Function) listOffboarded(w http.ResponseWriter, r *http.Request) error {
	org, err := access.OrgOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	var after enrollment.Offboarding
	if page.After != "" {
		var ok bool
		if after.Provider, after.Claimant, ok = strings.Cut(page.After, "\n"); !ok {
			return fault.Malformed.New("cursor is not one that this API gave out")
		}
	}
	found, err := f.Store.Offboardings(r.Context(), org, after, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(o enrollment.Offboarding) string { return o.Provider + "\n" + o.Claimant })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, func(o enrollment.Offboarding) offboardedWire {
		return offboardedWire{Provider: o.Provider, Subject: o.Claimant, At: o.At, By: o.By, Reason: o.Reason}
	}))
}
