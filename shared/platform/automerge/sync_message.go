package automerge

import (
	"encoding/binary"
	"fmt"
)

// syncVersion1 starts a message of the first version of the protocol. Later ones
// are only sent to peers that announce in a trailing section that they
// understand them, and we never do.
const syncVersion1 = 0x42

// SyncMessage is one message of the sync protocol.
type SyncMessage struct {
	// Heads are those of the sender's document.
	Heads []Hash
	// Need are changes that the sender asks for by name.
	Need []Hash
	// Have sums up the changes that the sender has.
	Have []Have
	// Changes are chunks as DecodeChange reads them, not looked into yet.
	Changes [][]byte
}

// Have says: all up to LastSync, and of what came since probably those in Bloom.
type Have struct {
	LastSync []Hash
	Bloom    Bloom
}

// DecodeSyncMessage reads a message. It keeps no part of b.
func DecodeSyncMessage(b []byte, lim Limits) (*SyncMessage, error) {
	m, err := decodeSyncMessage(b, lim)
	if err != nil {
		return nil, fmt.Errorf("decode sync message: %w", err)
	}
	return m, nil
}

func decodeSyncMessage(b []byte, lim Limits) (*SyncMessage, error) {
	if len(b) > lim.MaxMessageBytes {
		return nil, fmt.Errorf("%w: %d bytes, %d allowed", ErrLimit, len(b), lim.MaxMessageBytes)
	}
	if len(b) == 0 || b[0] != syncVersion1 {
		return nil, fmt.Errorf("%w: not version 1", ErrMalformed)
	}
	r := &reader{b[1:]}
	m := &SyncMessage{}
	hashes := lim.MaxMessageHashes
	var err error
	if m.Heads, err = r.hashes("heads", hashes); err != nil {
		return nil, err
	}
	hashes -= len(m.Heads)
	if m.Need, err = r.hashes("needs", hashes); err != nil {
		return nil, err
	}
	hashes -= len(m.Need)
	haves, err := r.count("filters", 2, lim.MaxMessageHaves)
	if err != nil {
		return nil, err
	}
	for range haves {
		var h Have
		if h.LastSync, err = r.hashes("last synced heads", hashes); err != nil {
			return nil, err
		}
		hashes -= len(h.LastSync)
		bloom, err := r.bytes()
		if err != nil {
			return nil, err
		}
		if h.Bloom, err = decodeBloom(bloom); err != nil {
			return nil, err
		}
		m.Have = append(m.Have, h)
	}
	return m, m.decodeChanges(r, lim)
}

func (m *SyncMessage) decodeChanges(r *reader, lim Limits) error {
	changes, err := r.count("changes", 1, lim.MaxMessageChanges)
	if err != nil {
		return err
	}
	// One copy for all; b may be the buffer of a connection. What follows the
	// changes announces abilities of the sender that we have no use for.
	rest := reader{append([]byte(nil), r.b...)}
	for range changes {
		c, err := rest.bytes()
		if err != nil {
			return err
		}
		m.Changes = append(m.Changes, c)
	}
	return nil
}

func (r *reader) bytes() ([]byte, error) {
	n, err := r.canonical()
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

// Encode writes the message.
func (m *SyncMessage) Encode() []byte {
	b := []byte{syncVersion1}
	b = appendHashes(b, m.Heads)
	b = appendHashes(b, m.Need)
	b = binary.AppendUvarint(b, uint64(len(m.Have)))
	for i := range m.Have {
		b = appendHashes(b, m.Have[i].LastSync)
		b = appendBytes(b, m.Have[i].Bloom.encode())
	}
	b = binary.AppendUvarint(b, uint64(len(m.Changes)))
	for _, c := range m.Changes {
		b = appendBytes(b, c)
	}
	return b
}

func appendHashes(b []byte, hs []Hash) []byte {
	b = binary.AppendUvarint(b, uint64(len(hs)))
	for _, h := range hs {
		b = append(b, h[:]...)
	}
	return b
}

func appendBytes(b, x []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x)))
	return append(b, x...)
}
