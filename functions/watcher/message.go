package watcher

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// The kinds of message of automerge-repo's network protocol, version 1, that
// mean something here. Others (leave, ephemeral, remote heads) are read and
// passed over: they carry no change.
const (
	typeJoin        = "join"
	typePeer        = "peer"
	typeSync        = "sync"
	typeRequest     = "request"
	typeUnavailable = "doc-unavailable"
	typeError       = "error"
)

// protocolVersion is the only one there is.
const protocolVersion = "1"

// maxPeerIDBytes bounds what a peer may call itself, in bytes.
const maxPeerIDBytes = 256

// message is one frame. Fields that a kind does not use are left out.
type message struct {
	Type       string   `cbor:"type"`
	SenderID   string   `cbor:"senderId,omitempty"`
	TargetID   string   `cbor:"targetId,omitempty"`
	DocumentID string   `cbor:"documentId,omitempty"`
	Data       []byte   `cbor:"data,omitempty"`
	Versions   []string `cbor:"supportedProtocolVersions,omitempty"`
	Version    string   `cbor:"selectedProtocolVersion,omitempty"`
	Message    string   `cbor:"message,omitempty"`
	// Metadata is sent as an empty map: we are nobody whose state a peer should keep.
	Metadata *metadata `cbor:"peerMetadata,omitempty"`
}

// metadata says of a peer whether it keeps anything. We do, but not under a
// storage id: a peer starts its sync with us afresh on each connection.
type metadata struct {
	IsEphemeral bool `cbor:"isEphemeral"`
}

// codec reads and writes frames within bounds.
type codec struct {
	dec cbor.DecMode
	enc cbor.EncMode
}

func newCodec() (codec, error) {
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  16,
		MaxArrayElements: 100_000,
		MaxMapPairs:      1_000,
		UTF8:             cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("cbor: %w", err)
	}
	enc, err := cbor.EncOptions{}.EncMode()
	if err != nil {
		return codec{}, fmt.Errorf("cbor: %w", err)
	}
	return codec{dec, enc}, nil
}

var errMalformed = errors.New("not a message of this protocol")

// decode reads one frame and checks the fields its kind needs.
func (c codec) decode(frame []byte) (message, error) {
	var m message
	if err := c.dec.Unmarshal(frame, &m); err != nil {
		return message{}, fmt.Errorf("%w: %v", errMalformed, err)
	}
	switch m.Type {
	case "":
		return message{}, fmt.Errorf("%w: it has no type", errMalformed)
	case typeJoin:
		if m.SenderID == "" || len(m.SenderID) > maxPeerIDBytes {
			return message{}, fmt.Errorf("%w: a peer id has 1 to %d bytes", errMalformed, maxPeerIDBytes)
		}
		if len(m.Versions) > 0 && !slices.Contains(m.Versions, protocolVersion) {
			return message{}, errors.New("unsupported protocol version")
		}
	case typeSync, typeRequest:
		if len(m.Data) == 0 {
			return message{}, fmt.Errorf("%w: a %s message has no data", errMalformed, m.Type)
		}
	}
	return m, nil
}

func (c codec) encode(m message) ([]byte, error) { return c.enc.Marshal(m) }
