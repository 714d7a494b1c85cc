package automerge

import (
	"fmt"
	"math"
)

// reader takes values off the front of b.
type reader struct{ b []byte }

func (r *reader) empty() bool { return len(r.b) == 0 }

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.b)) {
		return nil, fmt.Errorf("%w: %d bytes wanted, %d left", ErrMalformed, n, len(r.b))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out, nil
}

// uleb reads an unsigned LEB128 number. Longer encodings than needed are let
// through here: they are harmless, and other implementations accept them inside
// columns.
func (r *reader) uleb() (uint64, error) {
	var v uint64
	for i, c := range r.b {
		if i == 9 && c > 1 || i > 9 {
			return 0, fmt.Errorf("%w: number too large", ErrMalformed)
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.b = r.b[i+1:]
			return v, nil
		}
	}
	return 0, fmt.Errorf("%w: number cut short", ErrMalformed)
}

// canonical reads an unsigned LEB128 number in its shortest form only, as the
// reference demands everywhere outside of columns.
func (r *reader) canonical() (uint64, error) {
	before := r.b
	v, err := r.uleb()
	if err != nil {
		return 0, err
	}
	if n := len(before) - len(r.b); n > 1 && before[n-1] == 0 {
		return 0, fmt.Errorf("%w: number not in its shortest form", ErrMalformed)
	}
	return v, nil
}

func (r *reader) sleb() (int64, error) {
	var v int64
	for i, c := range r.b {
		if i == 9 && c != 0 && c != 0x7f || i > 9 {
			return 0, fmt.Errorf("%w: number too large", ErrMalformed)
		}
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if shift := 7 * (i + 1); shift < 64 && c&0x40 != 0 {
				v |= -1 << shift
			}
			r.b = r.b[i+1:]
			return v, nil
		}
	}
	return 0, fmt.Errorf("%w: number cut short", ErrMalformed)
}

// count reads a number of things of at least size bytes each, and refuses what
// is over limit or cannot be there, so that callers may reserve memory for it.
func (r *reader) count(what string, size, limit int) (int, error) {
	n, err := r.canonical()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if n > uint64(max(limit, 0)) {
		return 0, fmt.Errorf("%w: %d %s, %d allowed", ErrLimit, n, what, limit)
	}
	if n > uint64(len(r.b)/size) {
		return 0, fmt.Errorf("%w: %d %s in %d bytes", ErrMalformed, n, what, len(r.b))
	}
	return int(n), nil
}

func (r *reader) hash() (Hash, error) {
	b, err := r.take(uint64(len(Hash{})))
	if err != nil {
		return Hash{}, err
	}
	return Hash(b), nil
}

func (r *reader) hashes(what string, limit int) ([]Hash, error) {
	n, err := r.count(what, len(Hash{}), limit)
	if err != nil || n == 0 {
		return nil, err
	}
	out := make([]Hash, n)
	for i := range out {
		if out[i], err = r.hash(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func toUint32(what string, v uint64) (uint32, error) {
	if v > math.MaxUint32 {
		return 0, fmt.Errorf("%w: %s %d", ErrMalformed, what, v)
	}
	return uint32(v), nil
}
