package enroll

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Times of a list.
const (
	listLife    = 24 * time.Hour // what a list says of when the next one is there
	listRefresh = 12 * time.Hour // when one is made though nothing has changed
	listMaxAge  = time.Minute    // how long a cache may give it out
)

// getRevocations serves the newest list. It is public: whoever checks certificates
// needs it, and the signature says whether to believe it.
func (f *Function) getRevocations(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	format := r.URL.Query().Get("format")
	if !slices.Contains([]string{"", "json", "binary", "documents"}, format) {
		return fault.Malformed.New("format must be json, binary or documents")
	}
	list, err := f.revocations(r.Context(), key)
	if err != nil {
		return err
	}
	etag := fmt.Sprintf(`"%d.%s"`, list.Version, format)
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(listMaxAge.Seconds())))
	if known(r, etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if format == "binary" {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(list.Encoded) // the client may be gone
		return nil
	}
	decoded, err := cert.DecodeRevocations(list.Encoded)
	if err != nil {
		return err
	}
	if format == "documents" {
		return web.WriteJSON(w, http.StatusOK, wireDocuments(decoded))
	}
	return web.WriteJSON(w, http.StatusOK, wireRevocations(list, decoded))
}

// known tells whether the caller has what the tag is of.
func known(r *http.Request, etag string) bool {
	for _, have := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == etag || have == "*" {
			return true
		}
	}
	return false
}

// revocations returns the newest list, and makes it first if what was made before
// does not tell the truth any more.
func (f *Function) revocations(ctx context.Context, key tenant.Key) (authority.List, error) {
	for range issueAttempts {
		formation, err := f.Store.Formation(ctx, key)
		if err != nil {
			return authority.List{}, err
		}
		now := f.now()
		ledger, list, signer, err := f.listState(ctx, key)
		if err != nil {
			return list, err
		}
		current := list.Version > 0 && list.Revision == ledger.Revision && list.Authority == signer.Authority.ID
		if current && (list.GoodUntil.IsZero() || now.Before(list.GoodUntil)) && now.Before(list.MadeAt.Add(listRefresh)) {
			return list, nil
		}
		made, err := f.makeList(ctx, formation, ledger, list.Version+1, signer, now)
		if err != nil {
			if current && now.Before(list.MadeAt.Add(listLife)) && (errors.Is(err, fault.Unavailable) || errors.Is(err, fault.Sealed)) {
				return list, nil // it is right, if longer than it need be
			}
			return list, err
		}
		faultpoint.Hit("revocations/signed")
		err = f.Store.InTxOn(ctx, key, func(tx *store.Tx) error {
			now, err := tx.LockLedger(ctx, key)
			if err != nil {
				return err
			}
			active, err := tx.ActiveAuthority(ctx, key)
			if err != nil {
				return err
			}
			if now.Revision != ledger.Revision || active.ID != signer.Authority.ID {
				return fault.Conflict.New("the ledger was changed meanwhile")
			}
			return tx.PutRevocationList(ctx, key, made)
		})
		if !errors.Is(err, fault.Conflict) {
			return made, err
		}
	}
	return authority.List{}, fault.Unavailable.New("the list is being changed")
}

func (f *Function) listState(ctx context.Context, key tenant.Key) (ledger authority.Ledger, list authority.List, signer store.Signer, err error) {
	// The ledger first: what is revoked after it was read makes the list's revision stale.
	if ledger, err = f.Store.Ledger(ctx, key); err != nil {
		return
	}
	if list, err = f.Store.RevocationList(ctx, key); err != nil {
		return
	}
	signer, err = f.Store.Signer(ctx, key)
	return
}

// makeList signs the list of what is revoked and has not expired.
func (f *Function) makeList(ctx context.Context, formation tenant.Formation, ledger authority.Ledger, version uint64, signer store.Signer, now time.Time) (authority.List, error) {
	key := tenant.Key{Org: formation.Org, App: formation.App}
	made := authority.List{Version: version, Revision: ledger.Revision, Authority: signer.Authority.ID, MadeAt: now}
	revoked, err := f.Store.RevokedCertificates(ctx, key, now, cert.MaxRevocations)
	if err != nil {
		return made, err
	}
	list := cert.RevocationList{MeshID: formation.MeshID, Version: version, IssuedAt: now, NextAt: now.Add(listLife), Entries: entriesOf(revoked)}
	for _, c := range revoked {
		if made.GoodUntil.IsZero() || c.ExpiresAt.Before(made.GoodUntil) {
			made.GoodUntil = c.ExpiresAt
		}
	}
	if err := f.Keys.Sign(ctx, signer.Root, func(private ed25519.PrivateKey) error {
		list, err = list.Sign(private)
		return err
	}); err != nil {
		return made, err
	}
	made.Encoded, err = list.Encode()
	return made, err
}

// entriesOf are the revocations that certificates stand for. A key that was revoked
// is listed as a whole, once; what an authority took with it, by the certificate:
// the key may have another.
func entriesOf(revoked []authority.Certificate) []cert.Revocation {
	var out []cert.Revocation
	whole := map[string]bool{}
	for _, c := range revoked {
		if c.ByAuthority() || whole[string(c.Subject)] {
			continue
		}
		whole[string(c.Subject)] = true
		out = append(out, entryOf(c))
	}
	for _, c := range revoked {
		if c.ByAuthority() && !whole[string(c.Subject)] {
			e := entryOf(c)
			serial, _ := hex.DecodeString(c.Serial) // of our own making
			copy(e.Serial[:], serial)
			out = append(out, e)
		}
	}
	return out
}

func entryOf(c authority.Certificate) cert.Revocation {
	reason, err := cert.ParseReason(c.Reason)
	switch {
	case c.Reason == authority.ByRetirement:
		reason = cert.Superseded
	case err != nil:
		reason = cert.Unspecified
	}
	return cert.Revocation{Subject: [ed25519.PublicKeySize]byte(c.Subject), RevokedAt: c.RevokedAt, Reason: reason}
}
