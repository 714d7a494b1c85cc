package access

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// What checking tokens may cost.
const (
	// Freshness is how long an answer of the store is believed, and so how long a
	// revoked token may go on working.
	Freshness = 10 * time.Second

	// Tokens that were seen are remembered for longer, so that they are not counted
	// among strangers when they are looked up again.
	knownLife  = 10 * time.Minute
	maxKnown   = 10_000
	maxUnknown = 10_000

	maxLookups    = 8 // at once: others need the store as well
	lookupTimeout = 5 * time.Second

	// Tokens never seen before, of a process: one that tries them out gets no further
	// than this. Those that are in use are not held up by it.
	strangersPerSecond = 50
	strangersAtOnce    = 200

	// seenEvery is how exact LastUsedAt is: a write for each request would cost more
	// than the requests.
	seenEvery = 10 * time.Minute
)

// directory is the part of the store that checking needs.
type directory interface {
	// ServiceTokenByHash returns the token with this hash, whatever its state, of
	// whichever organization: nobody can say whose it is before it is found.
	ServiceTokenByHash(ctx context.Context, hash []byte) (ServiceToken, error)
	// SeeServiceToken notes that a token was used, unless that was noted since.
	SeeServiceToken(ctx context.Context, org tenant.OrgID, id string, since, now time.Time) error
}

// CheckerDeps is everything a Checker needs.
type CheckerDeps struct {
	Directory directory
	Key       token.Key
	Now       func() time.Time
	Log       *slog.Logger
}

// Checker knows what a service token allows. It asks the store for one at most once
// in Freshness, for a mistyped one never, and remembers what there is not.
type Checker struct {
	CheckerDeps
	known     *recent[checked]
	unknown   *recent[time.Time]
	lookups   *semaphore.Weighted
	strangers *allowance
}

type checked struct {
	token ServiceToken
	at    time.Time
}

// NewChecker returns a Checker that has seen nothing yet.
func NewChecker(d CheckerDeps) *Checker {
	return &Checker{
		CheckerDeps: d, known: newRecent[checked](maxKnown, knownLife), unknown: newRecent[time.Time](maxUnknown, Freshness),
		lookups: semaphore.NewWeighted(maxLookups), strangers: newAllowance(strangersPerSecond, strangersAtOnce),
	}
}

// errUnknown is all that is said of a token that does not let in. Whether it was
// mistyped, revoked or never there is told apart only where it cannot help a
// stranger: one that was found was shown by somebody who has it.
var errUnknown = fault.Unauthenticated.New("the bearer token is not known")

// Check returns the token with this text, if it may be used now.
func (c *Checker) Check(ctx context.Context, text string) (ServiceToken, error) {
	if ServiceKind.Check(text) != nil {
		return ServiceToken{}, fault.Unauthenticated.New("the bearer token is incomplete or mistyped")
	}
	hashes := c.Key.Hashes(text)
	id := [32]byte(hashes[0])
	t, ok := c.remembered(id)
	if !ok {
		var err error
		if t, err = c.find(ctx, id, hashes); err != nil {
			return ServiceToken{}, err
		}
	}
	if t.ID == "" {
		return ServiceToken{}, errUnknown
	}
	if state := t.State(c.Now()); state != "active" {
		return ServiceToken{}, fault.Unauthenticated.New("the bearer token is %s", state)
	}
	return t, nil
}

// remembered returns what the store said lately; the zero token if it said that
// there is none.
func (c *Checker) remembered(id [32]byte) (ServiceToken, bool) {
	if k, ok := c.known.get(id); ok && c.Now().Sub(k.at) < Freshness {
		return k.token, true
	}
	at, ok := c.unknown.get(id)
	return ServiceToken{}, ok && c.Now().Sub(at) < Freshness
}

// find asks the store.
func (c *Checker) find(ctx context.Context, id [32]byte, hashes [][]byte) (ServiceToken, error) {
	if _, seen := c.known.get(id); !seen && !c.strangers.take(c.Now()) {
		return ServiceToken{}, fault.RetryIn(fault.Exhausted.New("too many unknown tokens are being tried"), time.Second)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if err := c.lookups.Acquire(ctx, 1); err != nil {
		return ServiceToken{}, fault.Unavailable.Wrap(err, "tokens cannot be checked now")
	}
	defer c.lookups.Release(1)
	// Somebody else may have asked while we waited.
	if t, ok := c.remembered(id); ok {
		return t, nil
	}
	now := c.Now()
	for _, hash := range hashes {
		t, err := c.Directory.ServiceTokenByHash(ctx, hash)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return ServiceToken{}, fault.Unavailable.Wrap(err, "tokens cannot be checked now")
		}
		c.known.put(id, checked{t, now}, now)
		c.see(ctx, t, now)
		return t, nil
	}
	c.known.drop(id) // its organization is gone
	c.unknown.put(id, now, now)
	return ServiceToken{}, nil
}

// see notes that a token is in use. That it could not be noted is no reason to
// keep its owner out.
func (c *Checker) see(ctx context.Context, t ServiceToken, now time.Time) {
	since := now.Add(-seenEvery)
	if t.State(now) != "active" || t.LastUsedAt.After(since) {
		return
	}
	if err := c.Directory.SeeServiceToken(ctx, t.Org, t.ID, since, now); err != nil {
		c.Log.WarnContext(ctx, "use of a service token was not noted", "org", t.Org, "token_id", t.ID, "err", err)
	}
}
