package enroll

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// postEnroll lets a node in that shows an enrollment token and that its key is its
// own. The token decides what the node is given; what the node would like does not.
func (f *Function) postEnroll(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	d, err := readDevice(r)
	if err != nil {
		return err
	}
	c, err := f.enroll(r.Context(), key, d)
	if err != nil {
		return d.refused(w, err, f.now())
	}
	return d.admitted(f, w, c)
}

// enroll takes a node from its request to its certificate.
func (f *Function) enroll(ctx context.Context, key tenant.Key, d device) (authority.Certificate, error) {
	var none authority.Certificate

	// What cannot be a token costs a checksum. An answer of the store's is needed for
	// the rest.
	if err := enrollment.TokenKind.Check(string(d.token)); err != nil {
		return none, useless(err)
	}
	formation, err := f.Store.Formation(ctx, key)
	if err != nil {
		return none, err
	}

	// Without a token of this formation nothing is said of anything, nor written down:
	// anybody can make up as many of these as they like.
	hashes := f.Tokens.Hashes(string(d.token))
	t, err := f.Store.FindEnrollmentToken(ctx, key, hashes)
	if errors.Is(err, fault.Unauthenticated) {
		f.Log.WarnContext(ctx, "an unknown enrollment token", "org", key.Org, "app", key.App, "request_id", web.RequestID(ctx))
		return none, useless(err)
	}
	if err != nil {
		return none, err
	}
	o := order{
		act: act{t.Rule(), web.RequestID(ctx)}, key: key, meshID: formation.MeshID, node: d.node, subject: d.subject,
		grant: t.Grant, validity: defaultValidity, rule: t.Rule(), admittedBy: t.Rule(), shown: &shown{t, hashes},
	}

	// The authority is opened only for a node that would be let in as things are.
	if err := o.shown.refusal(f.Now()); err != nil {
		return none, f.denied(ctx, o, err)
	}
	if o.proof, err = d.prove(authority.Possession{
		Purpose: authority.ForEnroll, Key: key, MeshID: formation.MeshID, NodeID: d.node, Subject: d.subject,
	}, f.Now()); err != nil {
		return none, f.denied(ctx, o, err)
	}
	if err := admits(formation); err != nil {
		return none, f.denied(ctx, o, err)
	}

	// What is signed comes to something only in the transaction that also uses the
	// token: if anything else stands against it there, that was no use.
	c, err := f.issue(ctx, o)
	if err != nil {
		return none, f.denied(ctx, o, err)
	}
	return c, nil
}

// errStrict is the refusal of a formation that asks an administrator each time.
var errStrict = fault.Forbidden.New("the formation is strict: an administrator must decide on each node, and nodes cannot queue for that yet; have one issue the certificate")

// admits returns why a formation lets nobody in, with whatever token. Open is no
// different from controlled: without anything that says who a node is, a token is
// all there is to go by.
func admits(formation tenant.Formation) error {
	switch {
	case formation.State != tenant.Active:
		return fault.Conflict.New("the formation is %s: it issues no certificates", formation.State)
	case formation.Policy == tenant.Open || formation.Policy == tenant.Controlled:
		return nil
	}
	return errStrict
}

// shown is a token that a node has shown.
type shown struct {
	token  enrollment.Token // as it was when it was looked up
	hashes [][]byte
}

// useless is the one answer for every token that lets nobody in. Why is for the
// audit trail.
func useless(why error) error {
	return fault.Unauthenticated.Wrap(why, "the enrollment token lets nobody in here")
}

func (s *shown) refusal(now time.Time) error {
	if err := s.token.Refusal(now); err != nil {
		return useless(err)
	}
	return nil
}

// use takes one use of the token for what was signed.
func (s *shown) use(ctx context.Context, tx *store.Tx, o order, now time.Time) error {
	t, err := tx.UseEnrollmentToken(ctx, o.key, s.hashes, now)
	switch {
	case errors.Is(err, fault.Unauthenticated):
		return useless(err)
	case err != nil:
		return err
	case t.ID != s.token.ID || t.Grant != o.grant:
		return fault.Conflict.New("the enrollment token was changed meanwhile")
	}
	faultpoint.Hit("enroll/token-used")
	return nil
}
