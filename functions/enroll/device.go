package enroll

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// postEnroll lets a node in that shows an enrollment token, or a proof of who it is, and
// that its key is its own. The token or the policy decides what the node is given; what
// the node would like does not.
func (f *Function) postEnroll(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	from := f.address(r)
	if err := f.limitAddress(from); err != nil {
		return f.unheard(r.Context(), key, from, tooOften, err)
	}
	d, err := f.readDevice(r)
	if err != nil {
		return f.unheard(r.Context(), key, from, malformed, err)
	}
	enroll := f.enrollByToken
	if d.identity != nil {
		enroll = f.enrollByIdentity
	}
	out, err := enroll(r.Context(), key, d)
	if err != nil {
		return d.refused(w, err, f.now())
	}
	return d.admitted(f, w, out)
}

// outcome is what came of a node's wish: a certificate, or that it waits for one.
type outcome struct {
	certificate authority.Certificate
	credentials *genesis.Credentials
	waiting     *enrollment.Application
	secret      string // that it asks with
}

// admit has the certificate made of a node that is let in, or has the node wait for an
// administrator.
func (f *Function) admit(ctx context.Context, formation tenant.Formation, o order, review bool) (outcome, error) {
	if review || formation.Policy == tenant.Strict {
		out, err := f.queue(ctx, formation, o)
		if err != nil {
			return outcome{}, f.denied(ctx, o, err)
		}
		return out, nil
	}
	// What is signed comes to something only in the transaction that also uses the
	// token and the challenge: if anything else stands against it there, that was no use.
	var out outcome
	var err error
	if o.credentials {
		if out.credentials, err = f.membership(ctx, formation); err != nil {
			return outcome{}, err
		}
	}
	if out.certificate, err = f.issue(ctx, o); err != nil {
		return outcome{}, f.denied(ctx, o, err)
	}
	return out, nil
}

// enrollByToken takes a node that shows a token from its request to its certificate, or
// to where it waits for one.
func (f *Function) enrollByToken(ctx context.Context, key tenant.Key, d device) (outcome, error) {
	var none outcome

	// What cannot be a token costs a checksum. An answer of the store's is needed for
	// the rest.
	if err := enrollment.TokenKind.Check(string(d.token)); err != nil {
		return none, f.unheard(ctx, key, d.address, denied, useless(err))
	}
	formation, err := f.Store.Formation(ctx, key)
	if err != nil {
		return none, err
	}

	// Without a token of this formation nothing is said of anything, and little written
	// down: anybody can make up as many of these as they like.
	hashes := f.Tokens.Hashes(string(d.token))
	t, err := f.Store.FindEnrollmentToken(ctx, key, hashes)
	if errors.Is(err, fault.Unauthenticated) {
		f.Log.WarnContext(ctx, "an unknown enrollment token", "org", key.Org, "app", key.App, "request_id", web.RequestID(ctx))
		return none, f.unheard(ctx, key, d.address, denied, useless(err))
	}
	if err != nil {
		return none, err
	}
	o := order{
		act: act{t.Rule(), web.RequestID(ctx)}, key: key, meshID: formation.MeshID, node: d.node, subject: d.subject, address: d.address,
		grant: t.Grant, validity: defaultValidity, rule: t.Rule(), admittedBy: t.Rule(), shown: &shown{t, hashes},
	}

	// The authority is opened only for a node that would be let in as things are. One
	// that comes back to a strict formation may have used the token up itself.
	if err := o.shown.refusal(f.Now()); err != nil && formation.Policy != tenant.Strict {
		return none, f.denied(ctx, o, err)
	}
	if o.challenge, err = f.answered(d, formation); err != nil {
		return none, f.denied(ctx, o, err)
	}
	if o.proof, err = d.prove(authority.Possession{
		Purpose: authority.ForEnroll, Key: key, MeshID: formation.MeshID, NodeID: d.node, Subject: d.subject, Nonce: d.challenge,
	}, f.Now()); err != nil {
		return none, f.denied(ctx, o, err)
	}
	if err := issuing(formation); err != nil {
		return none, f.denied(ctx, o, err)
	}
	return f.admit(ctx, formation, o, false)
}

// errStrict is the refusal of what was to be issued in a formation that has become
// strict meanwhile.
var errStrict = fault.Conflict.New("the formation is strict now: an administrator must decide on each node; ask again")

// issuing returns why a formation lets nobody in, with whatever proof. Open is no
// different from controlled: nobody is let in for nothing.
func issuing(formation tenant.Formation) error {
	if formation.State != tenant.Active {
		return fault.Conflict.New("the formation is %s: it issues no certificates", formation.State)
	}
	return nil
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
