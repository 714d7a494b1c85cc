package automerge

import (
	"fmt"
	"math"
)

// runs walks a run-length encoded column: n > 0 repeats the next value n times,
// n < 0 announces -n values as they are, 0 is followed by a number of nulls. A
// column that ends early goes on in nulls.
type runs struct {
	r       reader
	left    uint64
	literal bool
	null    bool
}

func (c *runs) done() bool { return c.left == 0 && c.r.empty() }

// next steps on by one and reports whether a value must be read from the column
// now (fresh) and whether there is a value at all (ok).
func (c *runs) next() (fresh, ok bool, err error) {
	if c.left > 0 {
		c.left--
		return c.literal, !c.null, nil
	}
	if c.r.empty() {
		return false, false, nil
	}
	n, err := c.r.sleb()
	if err != nil {
		return false, false, err
	}
	c.literal, c.null = n < 0, n == 0
	switch {
	case n > 0:
		c.left = uint64(n)
	case n == math.MinInt64:
		return false, false, fmt.Errorf("%w: run length", ErrMalformed)
	case n < 0:
		c.left = uint64(-n)
	default:
		if c.left, err = c.r.uleb(); err != nil {
			return false, false, err
		}
		if c.left == 0 {
			return false, false, fmt.Errorf("%w: empty run", ErrMalformed)
		}
	}
	c.left--
	return !c.null, !c.null, nil
}

type uintColumn struct {
	runs
	value uint64
}

func (c *uintColumn) next() (uint64, bool, error) {
	fresh, ok, err := c.runs.next()
	if fresh {
		c.value, err = c.r.uleb()
	}
	if err != nil || !ok {
		return 0, false, err
	}
	return c.value, true, nil
}

// deltaColumn holds differences to the value before.
type deltaColumn struct {
	runs
	delta, value int64
}

func (c *deltaColumn) next() (uint64, bool, error) {
	fresh, ok, err := c.runs.next()
	if fresh {
		c.delta, err = c.r.sleb()
	}
	if err != nil || !ok {
		return 0, false, err
	}
	v := c.value + c.delta
	if v < 0 || v > math.MaxUint32 || c.delta > math.MaxUint32 || c.delta < -math.MaxUint32 {
		return 0, false, fmt.Errorf("%w: counter out of range", ErrMalformed)
	}
	c.value = v
	return uint64(v), true, nil
}

type stringColumn struct {
	runs
	value string
}

func (c *stringColumn) next() (string, bool, error) {
	fresh, ok, err := c.runs.next()
	if fresh {
		c.value, err = c.text()
	}
	if err != nil || !ok {
		return "", false, err
	}
	return c.value, true, nil
}

func (c *stringColumn) text() (string, error) {
	n, err := c.r.uleb()
	if err != nil {
		return "", err
	}
	b, err := c.r.take(n)
	if err != nil {
		return "", err
	}
	return toText(b)
}

// boolColumn holds lengths of runs that alternate, false first.
type boolColumn struct {
	r     reader
	left  uint64
	value bool
	begun bool
}

func (c *boolColumn) next() (bool, error) {
	for c.left == 0 {
		if c.r.empty() {
			return false, nil
		}
		n, err := c.r.uleb()
		if err != nil {
			return false, err
		}
		if c.begun {
			if n == 0 {
				return false, fmt.Errorf("%w: empty run", ErrMalformed)
			}
			c.value = !c.value
		}
		c.begun, c.left = true, n
	}
	c.left--
	return c.value, nil
}
