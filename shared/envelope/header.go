package envelope

import (
	"encoding/binary"
	"fmt"
)

// Header is what an envelope says about itself to everybody. None of it is
// authentic before the envelope has been opened.
type Header struct {
	Version int
	KeyID   string // of the key that wrapped the data key; version 1 does not say
}

// ReadHeader returns the header of an envelope of a version that is read here.
func ReadHeader(blob []byte) (Header, error) {
	p, err := split(blob)
	return p.Header, err
}

// parts are those of an envelope, none of them copied.
type parts struct {
	Header
	wrapped []byte // data key
	sealed  []byte // nonce, ciphertext, tag
}

func split(blob []byte) (parts, error) {
	if !IsEnvelope(blob) {
		return parts{}, ErrNotEnvelope
	}
	p := parts{Header: Header{Version: int(blob[len(magic)])}}
	rest := blob[len(magic)+1:]
	switch p.Version {
	case version1:
	case version2:
		n := int(rest[0])
		if len(rest) < 1+n+2 {
			return parts{}, ErrTruncated
		}
		p.KeyID, rest = string(rest[1:1+n]), rest[1+n:]
		if !validKeyID(p.KeyID) {
			return parts{}, ErrTampered
		}
	default:
		return parts{}, fmt.Errorf("%w %d", ErrVersion, p.Version)
	}
	n := int(binary.LittleEndian.Uint16(rest))
	rest = rest[2:]
	if len(rest) < n+nonceSize+tagSize {
		return parts{}, ErrTruncated
	}
	p.wrapped, p.sealed = rest[:n:n], rest[n:]
	return p, nil
}

// validKeyID holds for what may stand in an envelope, and be printed by whoever
// lists them, as the id of a key.
func validKeyID(id string) bool {
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= 0xff
}
