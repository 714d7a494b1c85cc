package enroll

import (
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// postRevoke revokes a certificate and with it whatever else its key has: peers
// know a revocation by the key. The key gets no certificate here any more, and the
// node id is free for another. Doing it twice changes nothing.
func (f *Function) postRevoke(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	serial, err := serialOf(r)
	if err != nil {
		return err
	}
	var in revokeRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	reason, err := cert.ParseReason(in.Reason)
	if err != nil || byGateway[reason] {
		return invalid("/reason", "must be unspecified, key_compromise, device_lost, superseded or withdrawn")
	}
	ctx, did := r.Context(), actOf(r)
	var c authority.Certificate
	var changed bool
	if err := f.Store.InTxOn(ctx, key, func(tx *store.Tx) error {
		changed = false
		if _, err := tx.LockLedger(ctx, key); err != nil {
			return err
		}
		now := store.Precise(f.Now())
		if c, err = tx.Certificate(ctx, key, serial); err != nil {
			return err
		}
		switch s := c.Standing(now); {
		case s == authority.Revoked && !c.ByAuthority():
			return nil
		case !now.Before(c.ExpiresAt):
			return fault.Conflict.New("the certificate has expired")
		}
		n, err := tx.RevokeKey(ctx, key, c.NodeID, c.Subject, now, did.actor, reason.String())
		if err != nil {
			return err
		}
		faultpoint.Hit("revoke/revoked")
		c.RevokedAt, c.RevokedBy, c.Reason, changed = now, did.actor, reason.String(), true
		detail := map[string]any{"node_id": c.NodeID, "reason": c.Reason, "certificates": n}
		if err := tx.AppendAudit(ctx, f.audit(did, key, "certificate.revoke", serial, detail)); err != nil {
			return err
		}
		return tx.Enqueue(ctx, event.Certificate(event.CertificateRevokedType, eventOf(c), f.Now()))
	}); err != nil {
		return err
	}
	if changed {
		f.Notify()
	}
	return f.issued(w, http.StatusOK, c)
}

// byGateway are the reasons that only the gateway itself gives.
var byGateway = map[cert.Reason]bool{cert.FormationDestroyed: true, cert.AuthorityTainted: true}
