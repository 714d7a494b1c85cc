package introspection

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
)

// Limits of what is remembered.
const (
	maxRemembered = 2_000
	// unknownFor is how long a token that is not active is remembered as such.
	unknownFor = 5 * time.Second
)

// answer is what a provider said of a token; nil: that it is not active.
type answer struct {
	claims tokenclaims.Set
	at     time.Time
	until  time.Time
}

// remembered are answers by a digest of the token, so that the tokens themselves are
// not kept. They go by the generation: when one is full, the one before is dropped.
type remembered struct {
	mu        sync.Mutex
	now, past map[[sha256.Size]byte]answer
}

func (r *remembered) get(token string, now time.Time) (answer, bool) {
	digest := sha256.Sum256([]byte(token))
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.now[digest]
	if !ok {
		a, ok = r.past[digest]
	}
	// A clock that was set back remembers nothing.
	return a, ok && !now.Before(a.at) && now.Before(a.until)
}

func (r *remembered) put(token string, a answer) {
	digest := sha256.Sum256([]byte(token))
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.now[digest]; !again && len(r.now) >= maxRemembered || r.now == nil {
		r.past, r.now = r.now, map[[sha256.Size]byte]answer{}
	}
	r.now[digest] = a
}
