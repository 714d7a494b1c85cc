package providers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// maxOpen is how many verifiers are kept open.
const maxOpen = 1_000

// kept are the verifiers that are open.
type kept struct {
	mu      sync.Mutex
	open    map[identity.Key]*opened
	opening map[identity.Key]chan struct{} // closed when whoever opens it is done
	turn    uint64                         // counts uses, by which the one not used for longest is found
	closed  bool
}

// opened is an open verifier.
type opened struct {
	identity.Verifier
	version int64
	asked   time.Time // when its secrets were last opened
	used    uint64
	users   int
	old     bool // to be closed by its last user
}

func newKept() kept {
	return kept{open: map[identity.Key]*opened{}, opening: map[identity.Key]chan struct{}{}}
}

// open makes a verifier of a provider.
func (p *Providers) open(ctx context.Context, one identity.Provider) (identity.Verifier, error) {
	k, ok := p.kinds[one.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no kind %q of identity provider", one.Kind)
	}
	o, err := p.Opening(ctx, one)
	if err != nil {
		return nil, fmt.Errorf("open identity provider: %w", err)
	}
	defer clear(o.Secrets)
	return k.open(o)
}

// use returns the provider's verifier and what to call when done with it. While one
// caller opens it, the others of that provider wait, and those of other providers do
// not: its key may be in a service that takes its time.
func (p *Providers) use(ctx context.Context, one identity.Provider) (identity.Verifier, func(), error) {
	for {
		v, wait := p.find(one)
		if v != nil {
			return v, func() { p.kept.done(v) }, nil
		}
		if wait == nil {
			break
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	v, err := p.make(ctx, one)
	if err != nil {
		return nil, nil, err
	}
	return v, func() { p.kept.done(v) }, nil
}

// find takes a verifier that is there, or returns what to wait for. If it returns
// neither, it is the caller's turn to make one.
func (p *Providers) find(one identity.Provider) (*opened, chan struct{}) {
	k := &p.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	// A newer one than was asked for is what is true by now.
	if v := k.open[one.Key]; v != nil && v.version >= one.Version && (one.Sealed == nil || time.Since(v.asked) < p.SecretsFor) {
		k.take(v)
		return v, nil
	}
	if wait := k.opening[one.Key]; wait != nil {
		return nil, wait
	}
	k.opening[one.Key] = make(chan struct{})
	return nil, nil
}

// make opens a verifier, or asks whether the secrets of the one that is open still
// open: an organization that takes its key away has taken its secrets away.
func (p *Providers) make(ctx context.Context, one identity.Provider) (*opened, error) {
	k := &p.kept
	k.mu.Lock()
	v := k.open[one.Key]
	if v != nil && v.version < one.Version {
		v = nil
	}
	if v != nil {
		v.users++ // so that nobody closes it meanwhile
	}
	k.mu.Unlock()
	var made identity.Verifier
	var err error
	if v != nil {
		var secrets []byte
		secrets, err = p.Unseal(ctx, one)
		clear(secrets)
	} else {
		made, err = p.open(ctx, one)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.opening[one.Key])
	delete(k.opening, one.Key)
	switch {
	case err == nil && v != nil:
		v.asked = time.Now()
		return v, nil
	case err == nil:
		v = &opened{Verifier: made, version: one.Version, asked: time.Now()}
		k.put(one.Key, v)
		return v, nil
	case v != nil:
		if errors.Is(err, fault.Sealed) && k.open[one.Key] == v {
			k.retire(one.Key, v)
		}
		k.leave(v)
	}
	return nil, err
}

// put keeps a new verifier, which its maker uses.
func (k *kept) put(key identity.Key, v *opened) {
	k.take(v)
	if was := k.open[key]; was != nil {
		k.retire(key, was)
	}
	if k.closed {
		v.old = true
		return
	}
	k.open[key] = v
	for len(k.open) > maxOpen {
		var oldest identity.Key
		for other, o := range k.open {
			if was := k.open[oldest]; was == nil || o.used < was.used {
				oldest = other
			}
		}
		k.retire(oldest, k.open[oldest])
	}
}

func (k *kept) take(v *opened) {
	k.turn++
	v.used = k.turn
	v.users++
}

func (k *kept) done(v *opened) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leave(v)
}

func (k *kept) leave(v *opened) {
	v.users--
	if v.old && v.users == 0 {
		_ = v.Close()
	}
}

// retire takes a verifier out; it is closed when nobody uses it any more.
func (k *kept) retire(key identity.Key, v *opened) {
	delete(k.open, key)
	v.old = true
	if v.users == 0 {
		_ = v.Close()
	}
}

func (k *kept) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for key, v := range k.open {
		k.retire(key, v)
	}
}
