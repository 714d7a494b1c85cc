package enroll

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// binaryMedia are the content types of peat-mesh's own messages. The answer has the
// one of the request.
var binaryMedia = map[string]bool{"application/octet-stream": true, "application/vnd.peat.enrollment": true}

// device is a node that wants to be let in, in whichever form it said so.
type device struct {
	token     enrollment.TokenText
	identity  *identity.Proof // instead of a token
	challenge string          // that its proof of possession answers
	wants     enrollment.Grant
	address   netip.Addr
	subject   ed25519.PublicKey
	node      string
	media     string // of its binary message; empty: JSON
	// prove returns the proof of possession as it was given.
	prove func(authority.Possession, time.Time) (authority.Possession, error)
}

func (f *Function) readDevice(r *http.Request) (device, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && binaryMedia[media] {
		return f.readBinary(r, media)
	}
	var in enrollRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return device{}, err
	}
	// The same fields are read by the same rules.
	o, err := issueRequest{PublicKey: in.PublicKey, NodeID: in.NodeID}.order(act{}, tenant.Key{})
	if err != nil {
		return device{}, err
	}
	d := device{token: in.Token, challenge: in.Challenge, address: f.address(r), subject: o.subject, node: o.node, prove: in.Proof.check}
	if in.Token != "" && in.Identity != nil {
		return device{}, invalid("/identity", "and a token are not shown together")
	}
	if d.identity, err = f.evidence(r, in.Identity); err != nil {
		return device{}, err
	}
	d.wants, err = in.Wants.grant()
	return d, err
}

// grant is what a node would like; what it leaves out is the least.
func (in *wantsRequest) grant() (enrollment.Grant, error) {
	g, wrong := enrollment.ParseGrant(value(in).Tier, value(in).Permissions)
	for i := range wrong {
		wrong[i].Pointer = "/wants" + wrong[i].Pointer
	}
	if len(wrong) > 0 {
		return g, &fault.Error{Kind: fault.Invalid, Message: wrong[0].Pointer[1:] + " " + wrong[0].Detail, Fields: wrong}
	}
	return g, nil
}

func (f *Function) readBinary(r *http.Request, media string) (device, error) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return device{}, fault.UnsupportedMedia.New("encoded bodies are not read here")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, enrollment.MaxMessageSize+1))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long), len(body) > enrollment.MaxMessageSize:
		return device{}, fault.TooLarge.New("an enrollment request is no longer than %d bytes", enrollment.MaxMessageSize)
	case err != nil:
		return device{}, fault.Malformed.Wrap(err, "the body could not be read")
	}
	m, err := enrollment.DecodeRequestExact(body)
	if err != nil {
		return device{}, fault.Malformed.Wrap(err, "the body is no enrollment request of peat-mesh")
	}
	if m.NodeID == "" {
		return device{}, invalid("/node_id", "must be 1 to 255 bytes long")
	}
	d := device{
		token: m.Token, wants: enrollment.Grant{Tier: m.Tier, Permissions: cert.Standard}, address: f.address(r), subject: m.Subject[:], node: m.NodeID, media: media,
		prove: func(p authority.Possession, now time.Time) (authority.Possession, error) { return proven(m, p, now) },
	}
	// Where peat-mesh has a token, there may be a challenge before it, and a proof of
	// identity instead of it. All of it is signed.
	shown := string(m.Token)
	if strings.HasPrefix(shown, enrollment.ChallengePrefix) {
		d.challenge, shown, _ = strings.Cut(shown, " ")
	}
	d.token = enrollment.TokenText(shown)
	if d.challenge == "" || enrollment.TokenKind.Is(shown) {
		return d, nil
	}
	in := &identityRequest{Token: d.token}
	if saml, ok := strings.CutPrefix(shown, "saml:"); ok {
		in = &identityRequest{SAML: saml}
	} else if shown == "" {
		in = &identityRequest{ClientCertificate: true}
	}
	d.token = ""
	d.identity, err = f.evidence(r, in)
	return d, err
}

// proven is proofRequest.check for a message that proves itself. It names a mesh and
// no organization; the token, which is signed with it, is good in one formation only.
func proven(m enrollment.Request, p authority.Possession, now time.Time) (authority.Possession, error) {
	p.At = m.At
	switch {
	case m.MeshID != p.MeshID:
		return p, invalid("/mesh_id", "is not this formation's")
	case m.Fresh(now, authority.ProofWindow, authority.ProofWindow) != nil:
		return p, invalid("/timestamp", "is more than 5 minutes from the gateway's clock")
	case m.Verify() != nil:
		return p, invalid("/signature", "is not by this key over this request")
	}
	return p, nil
}

// admitted answers a node with its certificate, or with where it may ask for one.
func (d device) admitted(f *Function, w http.ResponseWriter, out outcome) error {
	if out.waiting != nil {
		w.Header().Set("Location", pollPath(*out.waiting))
		w.Header().Set("Retry-After", strconv.Itoa(int(pollEvery.Seconds())))
	}
	switch {
	case d.media == "" && out.waiting != nil:
		return web.WriteJSON(w, http.StatusAccepted, wireWaiting(*out.waiting, out.secret))
	case d.media == "":
		return f.entered(w, http.StatusCreated, out)
	case out.waiting != nil:
		return d.answer(w, http.StatusAccepted, enrollment.Response{Status: enrollment.Pending, At: f.now()})
	}
	signed, err := cert.Decode(out.certificate.Encoded)
	if err != nil {
		return err
	}
	m := enrollment.Response{Status: enrollment.Approved, Certificate: &signed, At: out.certificate.IssuedAt}
	if out.credentials != nil {
		m.FormationSecret = out.credentials.FormationSecret[:]
	}
	return d.answer(w, http.StatusCreated, m)
}

// refused answers a node that is not let in. A message of peat-mesh has one for
// that, in which also a reader who looks at no status finds the reason; what is no
// decision about the node is a problem to anybody.
func (d device) refused(w http.ResponseWriter, why error, now time.Time) error {
	if d.media == "" || !isDecision(why) {
		return why
	}
	problem := fault.Of(why)
	if problem.After > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(problem.After.Seconds()))))
	}
	return d.answer(w, web.Status(why), enrollment.Response{Status: enrollment.Denied, Reason: problem.Message, At: now})
}

func (d device) answer(w http.ResponseWriter, status int, m enrollment.Response) error {
	body, err := m.Encode()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", d.media)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the node may be gone
	return nil
}

// said is what a node says of itself, which is not believed yet, and what is known of
// it: who vouches for it, and what was decided on that.
func said(o order) map[string]any {
	out := map[string]any{"node_id": o.node, "public_key": hex.EncodeToString(o.subject)}
	if o.address.IsValid() {
		out["address"] = o.address.String()
	}
	if o.claimed != nil {
		out["identity"] = o.claimed.shown()
	}
	return out
}

// shown is what of the claims and the decision is written down: not the attributes,
// of which a policy may need more than a trail should tell.
func (c *claimed) shown() map[string]any {
	out := map[string]any{"provider": c.voucher.Provider, "kind": c.claims.Kind, "issuer": c.claims.Issuer, "subject": c.claims.Subject}
	for name, list := range map[string][]string{"groups": c.claims.Groups, "roles": c.claims.Roles, "amr": c.claims.AMR} {
		if len(list) > 0 {
			out[name] = list[:min(len(list), maxShown)]
		}
	}
	if c.claims.ACR != "" {
		out["acr"] = c.claims.ACR
	}
	if !c.claims.Grace.IsZero() {
		out["grace_until"] = c.claims.Grace
	}
	if !c.voucher.Session.IsZero() {
		out["session_end"] = c.voucher.Session
	}
	if !c.decided {
		return out
	}
	reasons := []map[string]any{}
	for _, r := range c.decision.Reasons[:min(len(c.decision.Reasons), maxShown)] {
		reasons = append(reasons, map[string]any{"rule": r.Rule, "matched": r.Matched, "detail": r.Detail})
	}
	out["allowed"], out["rule"], out["policy_version"], out["reasons"] = c.decision.Allowed, c.decision.Rule, c.decision.Version, reasons
	return out
}

// maxShown bounds each list of what is written down.
const maxShown = 50
