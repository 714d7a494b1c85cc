package automerge

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	chunkDocument = 0
	chunkChange   = 1
	chunkDeflated = 2

	// headerBytes is magic, checksum and type; the length follows.
	headerBytes = 9
)

func magic() [4]byte { return [4]byte{0x85, 0x6f, 0x4a, 0x83} }

// openChunk checks the envelope of one change and returns its hash, the chunk in
// its uncompressed form (a copy) and the body within that.
func openChunk(chunk []byte, lim Limits) (Hash, []byte, []byte, error) {
	if len(chunk) > lim.MaxChangeBytes {
		return Hash{}, nil, nil, fmt.Errorf("%w: change of %d bytes, %d allowed", ErrLimit, len(chunk), lim.MaxChangeBytes)
	}
	m := magic()
	if len(chunk) < headerBytes || !bytes.Equal(chunk[:4], m[:]) {
		return Hash{}, nil, nil, fmt.Errorf("%w: not a chunk", ErrMalformed)
	}
	typ := chunk[8]
	if typ != chunkChange && typ != chunkDeflated {
		return Hash{}, nil, nil, fmt.Errorf("%w: chunk of type %d is not a change", ErrMalformed, typ)
	}
	r := reader{chunk[headerBytes:]}
	n, err := r.canonical()
	if err != nil {
		return Hash{}, nil, nil, err
	}
	if n != uint64(len(r.b)) {
		return Hash{}, nil, nil, fmt.Errorf("%w: chunk says %d bytes and has %d", ErrMalformed, n, len(r.b))
	}
	body := r.b
	if typ == chunkDeflated {
		if body, err = inflate(body, lim.MaxInflatedBytes); err != nil {
			return Hash{}, nil, nil, err
		}
	}
	raw := make([]byte, 0, headerBytes+binary.MaxVarintLen64+len(body))
	raw = append(raw, chunk[:8]...)
	raw = append(raw, chunkChange)
	raw = binary.AppendUvarint(raw, uint64(len(body)))
	start := len(raw)
	raw = append(raw, body...)
	// The checksum of a compressed change, too, is that of its plain form.
	hash := Hash(sha256.Sum256(raw[8:]))
	if !bytes.Equal(hash[:4], chunk[4:8]) {
		return Hash{}, nil, nil, fmt.Errorf("%w: checksum", ErrMalformed)
	}
	return hash, raw[:len(raw):len(raw)], raw[start:], nil
}

func inflate(b []byte, limit int) ([]byte, error) {
	src := bytes.NewReader(b)
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(src), int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: deflate: %w", ErrMalformed, err)
	}
	if len(out) > limit {
		return nil, fmt.Errorf("%w: change inflates to over %d bytes", ErrLimit, limit)
	}
	if src.Len() != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the deflated change", ErrMalformed, src.Len())
	}
	return out, nil
}

// chunkHash returns the hash of a plain change chunk without looking inside, and
// false for anything else.
func chunkHash(chunk []byte) (Hash, bool) {
	if len(chunk) < headerBytes || chunk[8] != chunkChange {
		return Hash{}, false
	}
	return sha256.Sum256(chunk[8:]), true
}
