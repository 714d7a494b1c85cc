package enroll

import (
	"crypto/ed25519"
	"encoding/hex"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// proofRequest is a node's proof that a key is its own: its signature over the
// message of authority.Possession. Nobody can vouch for a node instead.
type proofRequest struct {
	TimestampMS int64  `json:"timestamp_ms"`
	Signature   string `json:"signature"`
}

// check returns p as it was proved. now is ours.
func (in *proofRequest) check(p authority.Possession, now time.Time) (authority.Possession, error) {
	if in == nil {
		return p, invalid("/proof", "is needed: a signature by the node's key")
	}
	signature, err := hex.DecodeString(in.Signature)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return p, invalid("/proof/signature", "must be 128 hexadecimal characters")
	}
	p.At = time.UnixMilli(in.TimestampMS).UTC()
	switch {
	case !p.Fresh(now):
		return p, invalid("/proof/timestamp_ms", "is more than 5 minutes from the gateway's clock")
	case !p.Signed(signature):
		return p, invalid("/proof/signature", "is not by this key over this request")
	}
	return p, nil
}

func invalid(pointer, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Message: pointer[1:] + " " + detail, Fields: []fault.Field{{Pointer: pointer, Detail: detail}}}
}
