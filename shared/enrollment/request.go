package enrollment

import (
	"crypto/ed25519"
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

const (
	requestTail    = 8 + ed25519.SignatureSize // after the token
	requestMinSize = ed25519.PublicKeySize + 1 + 1 + 1 + 2 + requestTail
)

// Encode returns r as peat-mesh sends it. It refuses what DecodeRequest would not
// give back.
func (r Request) Encode() ([]byte, error) {
	body, err := r.appendBody(make([]byte, 0, requestMinSize+len(r.MeshID)+len(r.NodeID)+len(r.Token)))
	if err != nil {
		return nil, err
	}
	return append(body, r.Signature[:]...), nil
}

// appendBody appends what is signed.
func (r Request) appendBody(out []byte) ([]byte, error) {
	for _, id := range []struct{ field, text string }{{"mesh_id", r.MeshID}, {"node_id", r.NodeID}} {
		switch {
		case len(id.text) > cert.MaxIDBytes:
			return nil, refusal.Serialization.New("%s of %d bytes is longer than %d", id.field, len(id.text), cert.MaxIDBytes)
		case !utf8.ValidString(id.text):
			return nil, refusal.Serialization.New("invalid %s: not UTF-8", id.field)
		}
	}
	if !r.Tier.Valid() {
		return nil, refusal.Serialization.New("invalid tier byte: %d", uint8(r.Tier))
	}
	if len(r.Token) > math.MaxUint16 {
		return nil, refusal.Serialization.New("token of %d bytes is longer than %d", len(r.Token), math.MaxUint16)
	}
	at, ok := millis.Of(r.At)
	if !ok {
		return nil, refusal.Serialization.New("timestamp before 1970, or after all time")
	}
	out = append(out, r.Subject[:]...)
	out = append(out, byte(len(r.MeshID)))
	out = append(out, r.MeshID...)
	out = append(out, byte(len(r.NodeID)))
	out = append(out, r.NodeID...)
	out = append(out, byte(r.Tier))
	out = binary.LittleEndian.AppendUint16(out, uint16(len(r.Token)))
	out = append(out, string(r.Token)...)
	return binary.LittleEndian.AppendUint64(out, at), nil
}

// DecodeRequest reads what Request.Encode wrote. As in peat-mesh, bytes that
// follow are ignored. The signature is not looked at.
func DecodeRequest(b []byte) (Request, error) {
	r, _, err := decodeRequest(b)
	return r, err
}

// DecodeRequestExact is DecodeRequest for bytes of which all must belong to the
// request, and which peat-mesh would take at all.
func DecodeRequestExact(b []byte) (Request, error) {
	if len(b) > MaxMessageSize {
		return Request{}, refusal.Serialization.New("enrollment request of %d bytes is longer than %d", len(b), MaxMessageSize)
	}
	r, rest, err := decodeRequest(b)
	if err != nil {
		return Request{}, err
	}
	if len(rest) > 0 {
		return Request{}, refusal.Serialization.New("enrollment request followed by %d bytes that are not of it", len(rest))
	}
	return r, nil
}

// decodeRequest checks in the order of peat-mesh, as the error is part of what
// both sides agree on.
func decodeRequest(b []byte) (r Request, rest []byte, err error) {
	if len(b) < requestMinSize {
		return Request{}, nil, refusal.Serialization.New("enrollment request too short: %d bytes (min %d)", len(b), requestMinSize)
	}
	r.Subject = [ed25519.PublicKeySize]byte(b)
	rest = b[ed25519.PublicKeySize:]
	n := int(rest[0])
	if rest = rest[1:]; len(rest) <= n {
		return Request{}, nil, refusal.Serialization.New("enrollment request truncated at mesh_id")
	}
	if r.MeshID, rest = string(rest[:n]), rest[n:]; !utf8.ValidString(r.MeshID) {
		return Request{}, nil, refusal.Serialization.New("invalid mesh_id: not UTF-8")
	}
	n = int(rest[0])
	if rest = rest[1:]; len(rest) < n+3 {
		return Request{}, nil, refusal.Serialization.New("enrollment request truncated at node_id")
	}
	if r.NodeID, rest = string(rest[:n]), rest[n:]; !utf8.ValidString(r.NodeID) {
		return Request{}, nil, refusal.Serialization.New("invalid node_id: not UTF-8")
	}
	if r.Tier = cert.Tier(rest[0]); !r.Tier.Valid() {
		return Request{}, nil, refusal.Serialization.New("invalid tier byte: %d", rest[0])
	}
	n = int(binary.LittleEndian.Uint16(rest[1:]))
	if rest = rest[3:]; len(rest) < n+requestTail {
		return Request{}, nil, refusal.Serialization.New("enrollment request truncated at token")
	}
	r.Token, rest = TokenText(rest[:n]), rest[n:]
	r.At = millis.Time(binary.LittleEndian.Uint64(rest))
	r.Signature = [ed25519.SignatureSize]byte(rest[8:])
	return r, rest[requestTail:], nil
}
