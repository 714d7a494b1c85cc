package policy

import (
	"context"
	"sync"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Source is a document with the name of its text.
type Source struct {
	Document Document
	Digest   string // empty if there is none
}

// Sources are the rules that decide on a formation's nodes: those of its
// organization, and its own.
type Sources struct {
	App            tenant.AppID
	Org, Formation Source
}

// reader is the part of the store that Cache needs.
type reader interface {
	PolicyDigests(ctx context.Context, key tenant.Key) (Sources, error)
	PolicyFor(ctx context.Context, key tenant.Key) (Sources, error)
}

// maxCached is how many policies are kept ready. One takes some hundred kilobytes at
// most, and few organizations come near that.
const maxCached = 256

// Cache keeps policies ready, so that a decision costs a look at which rules count
// and not their compilation. What is read is always the newest. The zero value is
// ready for use, by many at once.
type Cache struct {
	mu    sync.Mutex
	ready map[cacheKey]*Policy
}

// cacheKey names what a policy was made of. Digests of texts tell apart what
// versions do not: those of an organization that was deleted and made anew.
type cacheKey struct {
	app                          tenant.AppID
	orgDigest, formationDigest   string
	orgVersion, formationVersion int64
}

func keyFor(s Sources) cacheKey {
	return cacheKey{s.App, s.Org.Digest, s.Formation.Digest, s.Org.Document.Version, s.Formation.Document.Version}
}

// For returns what decides on a formation's nodes at this moment.
func (c *Cache) For(ctx context.Context, from reader, key tenant.Key) (*Policy, error) {
	digests, err := from.PolicyDigests(ctx, key)
	if err != nil {
		return nil, err
	}
	if p := c.get(keyFor(digests)); p != nil {
		return p, nil
	}
	s, err := from.PolicyFor(ctx, key)
	if err != nil {
		return nil, err
	}
	p, err := CompileFor(s)
	if err != nil {
		return nil, err
	}
	c.put(keyFor(s), p)
	return p, nil
}

func (c *Cache) get(k cacheKey) *Policy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready[k]
}

func (c *Cache) put(k cacheKey, p *Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready == nil {
		c.ready = map[cacheKey]*Policy{}
	}
	for old := range c.ready {
		if len(c.ready) < maxCached {
			break
		}
		delete(c.ready, old)
	}
	c.ready[k] = p
}
