package enroll

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// binaryMedia are the content types of peat-mesh's own messages. The answer has the
// one of the request.
var binaryMedia = map[string]bool{"application/octet-stream": true, "application/vnd.peat.enrollment": true}

// device is a node that wants to be let in, in whichever form it said so.
type device struct {
	token   enrollment.TokenText
	subject ed25519.PublicKey
	node    string
	media   string // of its binary message; empty: JSON
	// prove returns the proof of possession as it was given.
	prove func(authority.Possession, time.Time) (authority.Possession, error)
}

func readDevice(r *http.Request) (device, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && binaryMedia[media] {
		return readBinary(r, media)
	}
	var in enrollRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return device{}, err
	}
	// The same fields are read by the same rules.
	o, err := issueRequest{PublicKey: in.PublicKey, NodeID: in.NodeID}.order(act{}, tenant.Key{})
	return device{token: in.Token, subject: o.subject, node: o.node, prove: in.Proof.check}, err
}

func readBinary(r *http.Request, media string) (device, error) {
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
	return device{
		token: m.Token, subject: m.Subject[:], node: m.NodeID, media: media,
		prove: func(p authority.Possession, now time.Time) (authority.Possession, error) { return proven(m, p, now) },
	}, nil
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

// admitted answers a node with its certificate.
func (d device) admitted(f *Function, w http.ResponseWriter, c authority.Certificate) error {
	if d.media == "" {
		return f.issued(w, http.StatusCreated, c)
	}
	signed, err := cert.Decode(c.Encoded)
	if err != nil {
		return err
	}
	return d.answer(w, http.StatusCreated, enrollment.Response{Status: enrollment.Approved, Certificate: &signed, At: c.IssuedAt})
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

// claimed is what a node says of itself, which is not believed yet.
func claimed(o order) map[string]any {
	return map[string]any{"node_id": o.node, "public_key": hex.EncodeToString(o.subject)}
}
