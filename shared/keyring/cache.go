package keyring

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
)

// refusedFor is how long a key that refused an organization is not asked again for
// it. An organization that is sealed off would else keep its key service busy, and
// with it whoever else uses that service.
const refusedFor = 5 * time.Second

// cached is a key that remembers, for a time that counts from the answer, what it
// unwrapped. Each key has a cache of its own, so that nobody's many records push
// out those of others.
type cached struct {
	envelope.KeyProvider
	life time.Duration
	size int

	mu      sync.Mutex
	kept    map[digest]*list.Element
	order   list.List // of entries, the first to expire first
	flights map[digest]*flight
	refused map[string]time.Time // organizations, and until when
	sweeper *time.Timer          // nil while nothing is kept
	closed  bool
}

// digest names a wrapped key, for its record.
type digest [sha256.Size]byte

type entry struct {
	digest  digest
	dek     []byte
	expires time.Time
}

// flight is one call for all who want the same data key now.
type flight struct {
	done    chan struct{}
	dek     []byte
	err     error
	holders int // who still have to take a copy; the last one wipes
}

func newCached(key envelope.KeyProvider, life time.Duration, size int) *cached {
	return &cached{
		KeyProvider: key, life: life, size: size,
		kept: map[digest]*list.Element{}, flights: map[digest]*flight{}, refused: map[string]time.Time{},
	}
}

// Wrap implements envelope.KeyProvider.
func (c *cached) Wrap(ctx context.Context, rec envelope.Record, dek []byte) ([]byte, error) {
	if c.isRefused(rec.Org) {
		return nil, envelope.ErrKeyRefused
	}
	wrapped, err := c.KeyProvider.Wrap(ctx, rec, dek)
	c.heed(rec.Org, err)
	return wrapped, err
}

// Unwrap implements envelope.KeyProvider.
func (c *cached) Unwrap(ctx context.Context, rec envelope.Record, wrapped []byte) ([]byte, error) {
	d := digestOf(rec, wrapped)
	for {
		dek, f, mine := c.find(d)
		if dek != nil {
			return dek, nil
		}
		if mine {
			return c.fly(ctx, f, d, rec, wrapped)
		}
		select {
		case <-ctx.Done():
			c.leave(f)
			return nil, ctx.Err()
		case <-f.done:
		}
		dek, err := c.take(f)
		// Whoever made the call may have given up, which is no answer for others.
		if !isContext(err) || ctx.Err() != nil {
			return dek, err
		}
	}
}

// find returns a copy of the data key, or the flight that will bring it and whether
// it is the caller's to make.
func (c *cached) find(d digest) (dek []byte, f *flight, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(time.Now())
	if e := c.kept[d]; e != nil {
		return append([]byte(nil), e.Value.(*entry).dek...), nil, false
	}
	if f = c.flights[d]; f != nil {
		f.holders++
		return nil, f, false
	}
	f = &flight{done: make(chan struct{}), holders: 1}
	c.flights[d] = f
	return nil, f, true
}

// fly asks the key, for itself and all who wait.
func (c *cached) fly(ctx context.Context, f *flight, d digest, rec envelope.Record, wrapped []byte) ([]byte, error) {
	func() {
		// Nobody may join after the end, when the key may be wiped already, and nobody
		// wait for ever if the provider panics.
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.flights, d)
			close(f.done)
		}()
		f.err = envelope.ErrUnavailable
		if c.isRefused(rec.Org) {
			f.err = envelope.ErrKeyRefused
			return
		}
		f.dek, f.err = c.KeyProvider.Unwrap(ctx, rec, wrapped)
		c.heed(rec.Org, f.err)
		if f.err == nil {
			c.keep(d, f.dek)
		}
	}()
	return c.take(f)
}

// take returns a copy of what a flight brought.
func (c *cached) take(f *flight) ([]byte, error) {
	c.mu.Lock()
	dek, err := append([]byte(nil), f.dek...), f.err
	c.mu.Unlock()
	c.leave(f)
	return dek, err
}

func (c *cached) leave(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.holders--; f.holders == 0 {
		clear(f.dek)
	}
}

func (c *cached) keep(d digest, dek []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.life <= 0 || c.size <= 0 || len(dek) == 0 || c.kept[d] != nil {
		return
	}
	for c.order.Len() >= c.size {
		c.forget(c.order.Front())
	}
	c.kept[d] = c.order.PushBack(&entry{d, append([]byte(nil), dek...), time.Now().Add(c.life)})
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(c.life, c.wake)
	}
}

// wake wipes what has expired, though nobody asks for anything.
func (c *cached) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(time.Now())
	c.sweeper = nil
	if first := c.order.Front(); first != nil && !c.closed {
		c.sweeper = time.AfterFunc(time.Until(first.Value.(*entry).expires), c.wake)
	}
}

func (c *cached) sweep(now time.Time) {
	for first := c.order.Front(); first != nil && !now.Before(first.Value.(*entry).expires); first = c.order.Front() {
		c.forget(first)
	}
}

func (c *cached) forget(e *list.Element) {
	gone := c.order.Remove(e).(*entry)
	delete(c.kept, gone.digest)
	clear(gone.dek)
}

// heed remembers that a key was refused. Keys that were unwrapped before keep their
// time: that is the promise, both ways.
func (c *cached) heed(org string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, envelope.ErrKeyRefused):
		c.refused[org] = time.Now().Add(refusedFor)
	case err == nil:
		delete(c.refused, org)
	}
}

func (c *cached) isRefused(org string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.refused[org])
}

// close wipes everything; from now on nothing is kept.
func (c *cached) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.sweeper != nil {
		c.sweeper.Stop()
	}
	for c.order.Len() > 0 {
		c.forget(c.order.Front())
	}
}

func digestOf(rec envelope.Record, wrapped []byte) (d digest) {
	h := sha256.New()
	var size [8]byte
	for _, part := range [][]byte{[]byte(rec.Org), []byte(rec.App), []byte(rec.Kind), []byte(rec.ID), wrapped} {
		binary.LittleEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	h.Sum(d[:0])
	return d
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
