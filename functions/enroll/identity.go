package enroll

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// identities finds the provider of a proof and has it checked.
type identities interface {
	Verify(ctx context.Context, org tenant.OrgID, p identity.Proof, now time.Time) (identity.Claims, identity.Provider, error)
}

// rules decide by an organization's policy.
type rules interface {
	Decide(ctx context.Context, c identity.Claims, r policy.Request, now time.Time) (policy.Decision, error)
}

// stored are the rules that the store has, ready.
type stored struct {
	store *store.Store
	cache policy.Cache
}

// Decide asks the rules that count at this moment.
func (s *stored) Decide(ctx context.Context, c identity.Claims, r policy.Request, now time.Time) (policy.Decision, error) {
	p, err := s.cache.For(ctx, s.store, r.Key)
	if err != nil {
		return policy.Decision{}, err
	}
	return p.Decide(c, r, now), nil
}

// maxSAMLBytes bounds a SAML response.
const maxSAMLBytes = 256 << 10

// evidence reads what a node shows of who it is. r is the request that it came with.
func (f *Function) evidence(r *http.Request, in *identityRequest) (*identity.Proof, error) {
	if in == nil {
		return nil, nil
	}
	p := identity.Proof{Token: string(in.Token), Provider: in.Provider}
	shown := 0
	for _, is := range []bool{in.Token != "", in.SAML != "", in.ClientCertificate} {
		if is {
			shown++
		}
	}
	switch {
	case shown != 1:
		return nil, invalid("/identity", "must have one of token, saml and client_certificate")
	case len(in.Token) > identity.MaxTokenBytes:
		return nil, invalid("/identity/token", "is longer than any that is looked at")
	case in.SAML != "":
		xml, err := base64.StdEncoding.DecodeString(in.SAML)
		if err != nil || len(xml) > maxSAMLBytes {
			return nil, invalid("/identity/saml", "must be a SAML response in base64, of at most 256 KiB")
		}
		p.SAML = xml
	case in.ClientCertificate:
		chain, err := f.Chain(r)
		if err != nil {
			return nil, identity.Refused(err)
		}
		if len(chain) == 0 {
			return nil, identity.Refused(fault.Unauthenticated.New("no client certificate was shown"))
		}
		p.Chain = chain
	}
	return &p, nil
}

// claimed is somebody whom a provider vouched for, and what was decided on that.
type claimed struct {
	claims   identity.Claims
	voucher  enrollment.Voucher
	request  policy.Request
	decision policy.Decision
	decided  bool
}

// vouch has a proof of identity checked. What it returns may be of use with an error
// too: whoever is refused by then is known.
func (f *Function) vouch(ctx context.Context, org tenant.OrgID, p identity.Proof) (*claimed, error) {
	if f.Identities == nil {
		return nil, identity.Refused(fault.Unauthenticated.New("no identity provider is asked here"))
	}
	if err := f.limitOrg(org); err != nil {
		return nil, err
	}
	now := f.Now()
	claims, provider, err := f.Identities.Verify(ctx, org, p, now)
	switch {
	case errors.Is(err, fault.Unauthenticated):
		return refusedBy(provider), identity.Refused(err)
	case errors.Is(err, fault.Unavailable):
		// Where the provider is, is nobody's business outside.
		return nil, fault.Unavailable.Wrap(err, "the organization's identity provider does not answer now")
	case err != nil:
		return nil, err
	case claims.Subject == "" || len(claims.Subject) > enrollment.MaxClaimantBytes:
		return nil, identity.Refused(fault.Unauthenticated.New("the subject is empty or longer than %d bytes", enrollment.MaxClaimantBytes))
	}
	v := enrollment.Voucher{
		Provider: provider.ID, Claimant: claims.Subject, VouchedAt: store.Precise(now), Session: store.Precise(claims.ExpiresAt),
	}
	if claims.ExpiresAt.IsZero() {
		v.Session = time.Time{}
	}
	if v.Digest, err = digest(claims); err != nil {
		return nil, err
	}
	c := &claimed{claims: claims, voucher: v}
	if !claims.Grace.IsZero() {
		f.Log.WarnContext(ctx, "an identity provider does not answer; what it said last is believed", "org", org, "provider_id", provider.ID,
			"grace_until", claims.Grace, "request_id", web.RequestID(ctx))
	}
	if err := f.limitSubject(org, v.Provider, v.Claimant); err != nil {
		return c, err
	}
	return c, nil
}

// refusedBy is all that is known of somebody whose proof is not good: which provider it
// would be of.
func refusedBy(p identity.Provider) *claimed {
	if p.ID == "" {
		return nil
	}
	return &claimed{claims: identity.Claims{Kind: p.Kind, Issuer: p.Issuer}, voucher: enrollment.Voucher{Provider: p.ID}}
}

// answering is a proof that must not answer anything but what the node does: a SAML
// response to a request is good with the challenge alone that the request was made for.
func answering(p identity.Proof, challenge string) identity.Proof {
	if len(p.SAML) > 0 {
		p.Expect = saml.ExpectFor(p.SAML, challenge)
	}
	return p
}

// digest names what was claimed, and not when or by which proof.
func digest(c identity.Claims) (string, error) {
	text, err := json.Marshal(identity.Claims{
		Provider: c.Provider, Kind: c.Kind, Issuer: c.Issuer, Subject: c.Subject, Groups: c.Groups, Roles: c.Roles, Attributes: c.Attributes, ACR: c.ACR, AMR: c.AMR,
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// errOffboarded says no more than a policy that denies: who is offboarded is the
// organization's business.
var errOffboarded = fault.Forbidden.Wrap(errors.New("the identity was offboarded"), "the organization's policy does not let this node in")

// errPolicy is all that a node is told that no rule lets in.
var errPolicy = fault.Forbidden.New("the organization's policy does not let this node in")

// judge asks the organization's policy. Nobody is let in by nothing: without rules the
// answer is no.
func (f *Function) judge(ctx context.Context, c *claimed, r policy.Request) error {
	gone, err := f.Store.Offboarded(ctx, r.Key.Org, c.voucher.Provider, c.voucher.Claimant)
	switch {
	case err != nil:
		return err
	case gone:
		return errOffboarded
	}
	c.request = r
	if c.decision, err = f.Rules.Decide(ctx, c.claims, r, f.Now()); err != nil {
		return err
	}
	c.decided = true
	c.voucher.RefreshAt = c.voucher.Session
	if c.decision.RefreshAfter > 0 {
		c.voucher.RefreshAt = c.voucher.VouchedAt.Add(c.decision.RefreshAfter)
	}
	switch {
	case !c.decision.Allowed:
		return errPolicy
	case c.decision.Validity < minValidity:
		return fault.Forbidden.Wrap(errors.New("the identity's session ends within a minute"), "the organization's policy does not let this node in")
	}
	return nil
}

// enrollByIdentity takes a node that an identity provider vouches for from its request
// to its certificate, or to where it waits for one.
func (f *Function) enrollByIdentity(ctx context.Context, key tenant.Key, d device) (outcome, error) {
	formation, err := f.Store.Formation(ctx, key)
	if err != nil {
		return outcome{}, err
	}
	o := order{
		act: act{"device", web.RequestID(ctx)}, key: key, meshID: formation.MeshID, node: d.node, subject: d.subject, address: d.address,
	}
	// What costs a hash and a signature comes first: nobody's provider is asked before
	// it is known that the node has its key and answers a challenge of ours.
	if d.challenge == "" {
		return outcome{}, f.denied(ctx, o, invalid("/challenge", "is needed with a proof of identity"))
	}
	if o.challenge, err = f.answered(d, formation); err != nil {
		return outcome{}, f.denied(ctx, o, err)
	}
	if o.proof, err = d.prove(authority.Possession{
		Purpose: authority.ForEnroll, Key: key, MeshID: formation.MeshID, NodeID: d.node, Subject: d.subject, Nonce: d.challenge,
	}, f.Now()); err != nil {
		return outcome{}, f.denied(ctx, o, err)
	}
	if err := issuing(formation); err != nil {
		return outcome{}, f.denied(ctx, o, err)
	}
	if o.claimed, err = f.vouch(ctx, key.Org, answering(*d.identity, d.challenge)); err != nil {
		return outcome{}, f.denied(ctx, o, err)
	}
	if err := f.judge(ctx, o.claimed, policy.Request{
		Key: key, Enrollment: formation.Policy, NodeID: d.node, Wants: d.wants, Address: d.address,
	}); err != nil {
		return outcome{}, f.denied(ctx, o, err)
	}
	given := o.claimed.decision
	o.admittedBy = o.claimed.voucher.AdmittedBy()
	o.actor, o.rule = o.admittedBy, "policy:"+given.Rule
	o.grant, o.validity, o.credentials = given.Grant, given.Validity, given.Credentials
	return f.admit(ctx, formation, o, given.Review)
}
