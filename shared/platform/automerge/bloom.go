package automerge

import (
	"encoding/binary"
	"fmt"
)

// Bloom is a set of hashes that may wrongly say yes. The zero value is empty.
type Bloom struct {
	entries uint32
	perHash uint32 // bits
	probes  uint32
	bits    []byte
}

const (
	// One in a hundred answers is wrong with these.
	bloomBitsPerEntry = 10
	bloomProbes       = 7

	// A filter from the wire costs time for each probe of each hash asked for.
	maxBloomProbes = 32
)

func newBloom(entries int) Bloom {
	return Bloom{
		entries: uint32(entries), perHash: bloomBitsPerEntry, probes: bloomProbes,
		bits: make([]byte, (entries*bloomBitsPerEntry+7)/8),
	}
}

func decodeBloom(b []byte) (Bloom, error) {
	if len(b) == 0 {
		return Bloom{}, nil
	}
	r := reader{b}
	var f Bloom
	for _, field := range []*uint32{&f.entries, &f.perHash, &f.probes} {
		n, err := r.canonical()
		if err != nil {
			return Bloom{}, err
		}
		if *field, err = toUint32("filter size", n); err != nil {
			return Bloom{}, err
		}
	}
	if f.probes > maxBloomProbes {
		return Bloom{}, fmt.Errorf("%w: filter with %d probes, %d allowed", ErrLimit, f.probes, maxBloomProbes)
	}
	bits, err := r.take((uint64(f.entries)*uint64(f.perHash) + 7) / 8)
	if err != nil {
		return Bloom{}, err
	}
	f.bits = append([]byte(nil), bits...)
	return f, nil
}

func (f *Bloom) encode() []byte {
	if f.entries == 0 {
		return nil
	}
	b := binary.AppendUvarint(nil, uint64(f.entries))
	b = binary.AppendUvarint(b, uint64(f.perHash))
	b = binary.AppendUvarint(b, uint64(f.probes))
	return append(b, f.bits...)
}

// each calls visit with the bits a hash stands for, until it returns false.
func (f *Bloom) each(h Hash, visit func(bit uint64) bool) {
	size := uint64(len(f.bits)) * 8
	if size == 0 {
		return
	}
	x := uint64(binary.LittleEndian.Uint32(h[0:])) % size
	y := uint64(binary.LittleEndian.Uint32(h[4:])) % size
	z := uint64(binary.LittleEndian.Uint32(h[8:])) % size
	for range f.probes {
		if !visit(x) {
			return
		}
		x = (x + y) % size
		y = (y + z) % size
	}
}

func (f *Bloom) add(h Hash) {
	f.each(h, func(bit uint64) bool {
		f.bits[bit>>3] |= 1 << (bit & 7)
		return true
	})
}

// Contains reports whether h may be in the set.
func (f *Bloom) Contains(h Hash) bool {
	if f.entries == 0 || len(f.bits) == 0 {
		return false
	}
	all := true
	f.each(h, func(bit uint64) bool {
		all = f.bits[bit>>3]&(1<<(bit&7)) != 0
		return all
	})
	return all
}
