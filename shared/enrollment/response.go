package enrollment

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// responseMinSize is that of status, length of the reason, two flags and time.
const responseMinSize = 1 + 2 + 1 + 1 + 8

// hasReason tells whether a reason is part of the answer.
func (s Status) hasReason() bool { return s == Denied || s == Revoked }

// Encode returns r as peat-mesh sends it. It refuses what DecodeResponse would not
// give back.
func (r Response) Encode() ([]byte, error) {
	switch {
	case int(r.Status) >= len(statusNames):
		return nil, refusal.Serialization.New("invalid status byte: %d", uint8(r.Status))
	case r.Reason != "" && !r.Status.hasReason():
		return nil, refusal.Serialization.New("a reason, and nothing that would need one")
	case len(r.Reason) > math.MaxUint16 || !utf8.ValidString(r.Reason):
		return nil, refusal.Serialization.New("invalid reason: too long, or not UTF-8")
	case len(r.FormationSecret) > math.MaxUint16:
		return nil, refusal.Serialization.New("formation secret of %d bytes is too long", len(r.FormationSecret))
	}
	at, ok := millis.Of(r.At)
	if !ok {
		return nil, refusal.Serialization.New("timestamp before 1970, or after all time")
	}
	out := []byte{byte(r.Status)}
	out = binary.LittleEndian.AppendUint16(out, uint16(len(r.Reason)))
	out = append(out, r.Reason...)
	var certificate []byte
	if r.Certificate != nil {
		b, err := r.Certificate.Encode()
		if err != nil {
			return nil, err
		}
		certificate = b
	}
	out = appendOptional(out, certificate)
	out = appendOptional(out, r.FormationSecret)
	if len(out)+8 > MaxMessageSize {
		return nil, refusal.Serialization.New("enrollment response is longer than %d bytes", MaxMessageSize)
	}
	return binary.LittleEndian.AppendUint64(out, at), nil
}

// appendOptional appends a flag and, if there is something, that after its length.
func appendOptional(out, b []byte) []byte {
	if len(b) == 0 {
		return append(out, 0)
	}
	out = binary.LittleEndian.AppendUint16(append(out, 1), uint16(len(b)))
	return append(out, b...)
}

// DecodeResponse reads what Response.Encode wrote. As in peat-mesh, bytes that
// follow are ignored, as is a reason where none is due; whether the answer makes
// sense is for Check to say.
func DecodeResponse(b []byte) (Response, error) {
	if len(b) < responseMinSize {
		return Response{}, refusal.Serialization.New("enrollment response too short: %d bytes (min %d)", len(b), responseMinSize)
	}
	if len(b) > MaxMessageSize {
		return Response{}, refusal.Serialization.New("enrollment response of %d bytes is longer than %d", len(b), MaxMessageSize)
	}
	r := Response{Status: Status(b[0])}
	n, rest := int(binary.LittleEndian.Uint16(b[1:])), b[3:]
	if len(rest) <= n {
		return Response{}, refusal.Serialization.New("enrollment response truncated at reason")
	}
	if r.Reason, rest = string(rest[:n]), rest[n:]; !utf8.ValidString(r.Reason) {
		return Response{}, refusal.Serialization.New("invalid reason: not UTF-8")
	}
	if int(r.Status) >= len(statusNames) {
		return Response{}, refusal.Serialization.New("invalid status byte: %d", b[0])
	}
	if !r.Status.hasReason() {
		r.Reason = ""
	}
	certificate, rest, err := optional("cert", rest)
	if err != nil {
		return Response{}, err
	}
	if certificate != nil {
		c, err := cert.Decode(certificate)
		if err != nil {
			return Response{}, err
		}
		r.Certificate = &c
	}
	secret, rest, err := optional("secret", rest)
	if err != nil {
		return Response{}, err
	}
	if len(rest) < 8 {
		return Response{}, refusal.Serialization.New("enrollment response truncated at timestamp")
	}
	if len(secret) > 0 {
		r.FormationSecret = bytes.Clone(secret)
	}
	r.At = millis.Time(binary.LittleEndian.Uint64(rest))
	return r, nil
}

// optional takes what follows a flag of 1, or nothing for every other flag.
func optional(what string, b []byte) (value, rest []byte, err error) {
	if len(b) < 1 {
		return nil, nil, refusal.Serialization.New("enrollment response truncated at %s_flag", what)
	}
	if b[0] != 1 {
		return nil, b[1:], nil
	}
	if len(b) < 3 {
		return nil, nil, refusal.Serialization.New("enrollment response truncated at %s_len", what)
	}
	n, rest := int(binary.LittleEndian.Uint16(b[1:])), b[3:]
	if len(rest) < n {
		return nil, nil, refusal.Serialization.New("enrollment response truncated at %s", what)
	}
	return rest[:n:n], rest[n:], nil
}
