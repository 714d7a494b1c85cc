package watcher

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// nodeTicketRequest is a node's request for its own ticket. The proof is its signature
// over the message of authority.Possession, with the serial of its certificate.
type nodeTicketRequest struct {
	Serial     string `json:"serial"`
	PeerID     string `json:"peer_id,omitempty"`
	TTLSeconds int    `json:"ttl_seconds,omitempty"`
	Proof      *struct {
		TimestampMS int64  `json:"timestamp_ms"`
		Signature   string `json:"signature"`
	} `json:"proof"`
}

// check returns the proof as it was made by the certificate's key.
func (in nodeTicketRequest) check(p authority.Possession, now time.Time) (authority.Possession, error) {
	if in.Proof == nil {
		return p, invalidField("proof", "is needed: a signature by the node's key")
	}
	signature, err := hex.DecodeString(in.Proof.Signature)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return p, invalidField("proof/signature", "must be 128 hexadecimal characters")
	}
	p.At = time.UnixMilli(in.Proof.TimestampMS).UTC()
	switch {
	case !p.Fresh(now):
		return p, invalidField("proof/timestamp_ms", "is more than 5 minutes from the gateway's clock")
	case !p.Signed(signature):
		return p, invalidField("proof/signature", "is not by this certificate's key over this request")
	}
	return p, nil
}

// errNoCertificate is the one answer for every certificate that gets no ticket before
// its key is shown: nobody learns here which there are.
var errNoCertificate = fault.Unauthenticated.New("the certificate gives no ticket here")

// postNodeTicket issues a ticket to a node that shows a good certificate of the
// formation and that its key is its own. The ticket ends with the certificate at the
// latest. A proof is good once, and not one that is older than the node's last.
func (f *Function) postNodeTicket(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	var in nodeTicketRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	life, err := ticketRequest{PeerID: in.PeerID, TTLSeconds: in.TTLSeconds}.life()
	if err != nil {
		return err
	}
	ctx := r.Context()
	formation, err := f.Store.Formation(ctx, key)
	if err != nil {
		return err
	}
	if b, err := hex.DecodeString(in.Serial); err != nil || len(b) != sha256.Size {
		return errNoCertificate
	}
	c, err := f.Store.Certificate(ctx, key, in.Serial)
	if errors.Is(err, fault.NotFound) {
		return errNoCertificate
	}
	if err != nil {
		return err
	}
	proof, err := in.check(authority.Possession{
		Purpose: authority.ForTicket, Key: key, MeshID: formation.MeshID, NodeID: c.NodeID, Subject: c.Subject, Serial: c.Serial,
	}, f.Now())
	if err != nil {
		return err
	}
	text, ticket, err := f.newTicket(key, in.PeerID, min(life, c.ExpiresAt.Sub(f.Now())))
	if err != nil {
		return err
	}
	if err := f.Store.InTx(ctx, func(tx *store.Tx) error {
		formation, err := tx.Formation(ctx, key)
		if err != nil {
			return err
		}
		if err := formation.State.MustBe(tenant.Active); err != nil {
			return err
		}
		c, err := tx.Certificate(ctx, key, in.Serial)
		if err != nil {
			return err
		}
		if s := c.Standing(f.Now()); s != authority.Good {
			return fault.Forbidden.New("the certificate is %s", s)
		}
		if err := tx.ProveNode(ctx, key, c.NodeID, c.Subject, store.Precise(proof.At)); err != nil {
			return err
		}
		entry := f.audit(r, key, "ticket.create", ticket.ID)
		entry.Actor = "node:" + c.NodeID
		return f.keepTicket(ctx, tx, ticket, entry)
	}); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusCreated, issuedTicket{ticket.ID, text, f.syncURL(r, key, text), ticket.ExpiresAt})
}
