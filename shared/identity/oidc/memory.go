package oidc

import (
	"context"
	"time"
)

// Memory keeps the key sets of issuers for processes that start while one does not
// answer. The names are digests.
type Memory interface {
	IssuerKeys(ctx context.Context, name []byte) (set []byte, fetched time.Time, err error)
	SaveIssuerKeys(ctx context.Context, name, set []byte, fetched time.Time) error
}

// recall takes the keys that another process has fetched. If the memory is of no help
// the issuer is asked, as it would be without one.
func (i *issuer) recall(ctx context.Context) state {
	i.mu.Lock()
	again := i.recalled || i.memory == nil
	i.mu.Unlock()
	if again {
		return i.state()
	}
	set, fetched, err := i.memory.IssuerKeys(ctx, i.digest)
	keys, parseErr := []key(nil), error(nil)
	if err == nil {
		keys, parseErr = parseKeys(set)
	}
	i.mu.Lock()
	if ctx.Err() == nil {
		i.recalled = true
	}
	if err == nil && parseErr == nil && i.keys == nil {
		i.keys, i.fetched = keys, fetched
	}
	i.mu.Unlock()
	return i.state()
}
