package enroll

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint"
	"github.com/defenseunicorns/peat-gateway/shared/platform/gather"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// How long a certificate may be good for.
const (
	defaultValidity = 24 * time.Hour
	minValidity     = time.Minute
	maxValidity     = 366 * 24 * time.Hour
)

// byAdministrator is the rule by which a certificate is issued that an
// administrator asks for.
const byAdministrator = "administrator"

// order is a certificate that somebody decided on and that is to be made.
type order struct {
	act
	key      tenant.Key
	meshID   string
	node     string
	subject  ed25519.PublicKey
	grant    enrollment.Grant
	validity time.Duration
	proof    authority.Possession

	why, rule, admittedBy string
	replaces              string // the serial of the one that is renewed
	shown                 *shown // the token that lets the node in; nil without one
	plain                 bool   // nothing has to be used up or replaced; see together.go

	claimed   *claimed                // who vouches for the node; nil if nobody has to
	challenge *enrollment.Challenge   // that the proof answers; nil without one
	approved  *enrollment.Application // that an administrator said yes to
	vouched   bool                    // what is renewed was given on somebody's word
	grace     time.Time               // until when it is believed that their provider, which does not answer, still gives it
	address   netip.Addr
	// credentials tells whether those of the formation go with the certificate.
	credentials bool
}

// postCertificate issues a certificate by an administrator's order. The node takes
// part: its proof comes with the order.
func (f *Function) postCertificate(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	var in issueRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	o, err := in.order(actOf(r), key)
	if err != nil {
		return err
	}
	signer, err := f.signers.Do(r.Context(), key, struct{}{})
	if err != nil {
		return err
	}
	o.meshID = signer.Formation.MeshID
	if o.proof, err = in.Proof.check(authority.Possession{
		Purpose: authority.ForIssue, Key: key, MeshID: o.meshID, NodeID: o.node, Subject: o.subject,
	}, f.Now()); err != nil {
		return err
	}
	c, err := f.issueBy(r.Context(), o, signer)
	if err != nil {
		return err
	}
	return f.issued(w, http.StatusCreated, c)
}

// issued answers with a certificate that its node can use now.
func (f *Function) issued(w http.ResponseWriter, status int, c authority.Certificate) error {
	return f.entered(w, status, outcome{certificate: c})
}

// entered is issued for a node that may be told what members share.
func (f *Function) entered(w http.ResponseWriter, status int, o outcome) error {
	c := o.certificate
	out, err := wireCertificate(c, f.Now())
	if err != nil {
		return err
	}
	if o.credentials != nil {
		if out.Credentials, err = wireCredentials(o.credentials); err != nil {
			return err
		}
	}
	if status == http.StatusCreated {
		w.Header().Set("Location", certificatePath(c.Key, c.Serial))
	}
	return web.WriteJSON(w, status, out)
}

// issueAttempts bounds how often an order is signed anew because the authority was
// changed meanwhile. Each change is an administrator's act, so that one is enough
// and three are patience.
const issueAttempts = 3

// errSigner means that the authority was changed while something was signed.
var errSigner = errors.New("enroll: the authority was changed meanwhile")

// issue makes the certificate of an order.
func (f *Function) issue(ctx context.Context, o order) (authority.Certificate, error) {
	signer, err := f.signers.Do(ctx, o.key, struct{}{})
	if err != nil {
		return authority.Certificate{}, err
	}
	return f.issueBy(ctx, o, signer)
}

// issueBy makes the certificate of an order for which the signer was looked up. The
// authority is opened and signs before the transaction; what is decided there may
// come to nothing, and then the signature was for nobody to see.
func (f *Function) issueBy(ctx context.Context, o order, signer store.Signer) (authority.Certificate, error) {
	for range issueAttempts {
		c, err := f.sign(ctx, o, signer)
		if err != nil {
			return c, err
		}
		faultpoint.Hit("issue/signed")
		c, err = f.commit(ctx, o, c)
		if errors.Is(err, errSigner) {
			if signer, err = f.signers.Do(ctx, o.key, struct{}{}); err != nil {
				return authority.Certificate{}, err
			}
			continue
		}
		if err == nil {
			faultpoint.Hit("issue/committed")
			f.Notify()
		}
		return c, err
	}
	return authority.Certificate{}, fault.Unavailable.New("the authority is being changed")
}

// findSigner is the work of a Function's signers: one answer is everybody's who waits
// for it.
func (f *Function) findSigner(ctx context.Context, key tenant.Key, calls []*gather.Call[struct{}, store.Signer]) {
	ctx, cancel := context.WithTimeout(ctx, signerTimeout)
	defer cancel()
	found, err := f.Store.Signer(ctx, key)
	for _, c := range calls {
		c.Out, c.Err = found, err
	}
}

// signerTimeout bounds a read of one row.
const signerTimeout = 10 * time.Second

// sign has the authority that signs now sign what is ordered.
func (f *Function) sign(ctx context.Context, o order, signer store.Signer) (authority.Certificate, error) {
	var signed cert.Certificate
	if err := f.Keys.Sign(ctx, signer.Root, func(private ed25519.PrivateKey) (err error) {
		signed, err = cert.Issue(private, cert.Order{
			Subject: o.subject, MeshID: o.meshID, NodeID: o.node, Tier: o.grant.Tier, Permissions: o.grant.Permissions,
			IssuedAt: f.now(), Validity: o.validity,
		})
		return err
	}); err != nil {
		return authority.Certificate{}, refused(err)
	}
	encoded, err := signed.Encode()
	if err != nil {
		return authority.Certificate{}, err
	}
	serial := signed.Serial()
	return authority.Certificate{
		Key: o.key, Serial: serial, Subject: o.subject, NodeID: o.node, Tier: uint8(o.grant.Tier), Permissions: uint8(o.grant.Permissions),
		IssuedAt: signed.IssuedAt, ExpiresAt: signed.ExpiresAt, RenewAfter: authority.RenewAfter(signed.IssuedAt, signed.ExpiresAt, serial),
		Authority: signer.Authority.ID, Encoded: encoded, By: o.actor, Why: o.why, Rule: o.rule, AdmittedBy: o.admittedBy, Replaces: o.replaces,
	}, nil
}

// refused says which part of an order could be in no certificate.
func refused(err error) error {
	var why *refusal.Error
	switch {
	case !errors.As(err, &why):
		return err
	case errors.Is(why, refusal.InvalidPublicKey):
		return invalid("/public_key", "is refused: "+why.Detail)
	}
	return invalid("/node_id", "is refused: "+why.Detail)
}

// order reads what an administrator asks for, all that is wrong with it at once.
func (in issueRequest) order(a act, key tenant.Key) (order, error) {
	o := order{act: a, key: key, node: in.NodeID, validity: defaultValidity, rule: byAdministrator, plain: true}
	grant, wrong := enrollment.ParseGrant(value(in.Tier), value(in.Permissions))
	bad := func(pointer, detail string) { wrong = append(wrong, fault.Field{Pointer: pointer, Detail: detail}) }
	o.grant = grant
	if subject, err := hex.DecodeString(in.PublicKey); err != nil || len(subject) != ed25519.PublicKeySize {
		bad("/public_key", "must be 64 hexadecimal characters")
	} else {
		o.subject = subject
	}
	if in.NodeID == "" || len(in.NodeID) > cert.MaxIDBytes {
		bad("/node_id", "must be 1 to 255 bytes long")
	}
	if in.Validity != nil {
		d, err := time.ParseDuration(*in.Validity)
		if err != nil || d < minValidity || d > maxValidity {
			bad("/validity", `must be a duration such as "24h", from 1m to 8784h`)
		}
		o.validity = d
	}
	if in.Why != nil {
		if _, err := tenant.ParseDisplayName(*in.Why); err != nil || len(*in.Why) > maxWhyBytes {
			bad("/why", "must be text of 1 to 256 bytes")
		}
		o.why = *in.Why
	}
	if len(wrong) > 0 {
		return o, &fault.Error{Kind: fault.Invalid, Message: wrong[0].Pointer[1:] + " " + wrong[0].Detail, Fields: wrong}
	}
	return o, nil
}

// maxWhyBytes bounds what somebody says about an act.
const maxWhyBytes = 256

// value is what a pointer points at, or nothing.
func value[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}
