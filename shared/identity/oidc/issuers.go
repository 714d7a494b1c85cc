package oidc

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/backchannel"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

const (
	// Refresh is how old keys become before they are looked at anew, and so how long a
	// key that its issuer has withdrawn goes on being believed.
	Refresh = 15 * time.Minute

	// rediscover is how old the place of the keys becomes before it is looked up anew.
	rediscover = time.Hour
	// pause is the least time between two attempts, whatever tokens are shown.
	pause = 5 * time.Second
	// maxIssuers is how many issuers' keys are kept.
	maxIssuers = 1_000
)

// Issuers has the keys of issuers, one set for all providers that name the same
// issuer and meet it in the same way. It is safe for concurrent use.
type Issuers struct {
	memory Memory

	mu   sync.Mutex
	all  map[string]*issuer
	turn uint64
}

// NewIssuers returns one that knows nobody yet. Without a memory it knows what it has
// seen itself.
func NewIssuers(m Memory) *Issuers { return &Issuers{memory: m, all: map[string]*issuer{}} }

// of returns the issuer of a configuration. It stays known when nobody uses it any
// more: its keys may be wanted while it does not answer.
func (s *Issuers) of(c Config, settings identity.Settings) (*issuer, error) {
	name := c.Issuer + "\n" + c.TLS.PEM()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	if i := s.all[name]; i != nil {
		i.used = s.turn
		return i, nil
	}
	client, err := backchannel.New(c.TLS, settings)
	if err != nil {
		return nil, err
	}
	if len(s.all) >= maxIssuers {
		var oldest string
		for n, i := range s.all {
			if was := s.all[oldest]; was == nil || i.used < was.used {
				oldest = n
			}
		}
		delete(s.all, oldest) // who has it open goes on with it
	}
	digest := sha256.Sum256([]byte(name))
	i := &issuer{url: c.Issuer, digest: digest[:], memory: s.memory, client: client, settings: settings, used: s.turn, asking: make(chan struct{}, 1)}
	s.all[name] = i
	return i, nil
}

// issuer is one issuer and its keys.
type issuer struct {
	url      string
	digest   []byte // names it in the memory
	memory   Memory // may be nil
	client   *backchannel.Client
	settings identity.Settings
	used     uint64 // guarded by Issuers

	asking chan struct{} // held by the one who asks

	mu         sync.Mutex
	recalled   bool // whether the memory was asked
	keys       []key
	fetched    time.Time // when the keys were
	keysAt     string    // where they are
	discovered time.Time // when that was learnt
	tried      time.Time // when it was last asked
	rounds     uint64    // how often
	failed     error     // what the last time came to
}

// state is what is known of an issuer at one moment.
type state struct {
	keys    []key
	fetched time.Time
	tried   time.Time
	rounds  uint64
	failed  error
}

func (i *issuer) state() state {
	i.mu.Lock()
	defer i.mu.Unlock()
	return state{i.keys, i.fetched, i.tried, i.rounds, i.failed}
}

func (s state) fresh(now time.Time) bool { return s.keys != nil && age(now, s.fetched) < Refresh }

// age is how long ago something was; a clock that was set back makes it ancient.
func age(now, then time.Time) time.Duration {
	if d := now.Sub(then); d > -time.Minute {
		return d
	}
	return 1 << 62
}

// find returns the keys that a token with this header may be signed with. The grace
// is zero if the issuer has answered lately, and else the time until which its keys
// are believed without it.
func (i *issuer) find(ctx context.Context, id, algorithm string, outage time.Duration, now time.Time) (found []key, grace time.Time, err error) {
	s := i.state()
	if s.keys == nil {
		s = i.recall(ctx)
	}
	if !s.fresh(now) {
		if s, err = i.ask(ctx, s, now); err != nil {
			return nil, time.Time{}, err
		}
	}
	if found = matching(s.keys, id, algorithm); len(found) == 0 && s.keys != nil {
		// The issuer may have a new key. Who shows tokens of unknown keys has it asked no
		// more often than this.
		if s, err = i.ask(ctx, s, now); err != nil {
			return nil, time.Time{}, err
		}
		found = matching(s.keys, id, algorithm)
	}
	if !s.fresh(now) {
		switch until := s.fetched.Add(outage); {
		case s.keys == nil:
			return nil, time.Time{}, fault.Unavailable.Wrap(s.failed, "the issuer's keys cannot be had now: %s", told(s.failed))
		case age(now, s.fetched) > outage:
			return nil, time.Time{}, fault.Unavailable.Wrap(s.failed, "the issuer has not answered since %s, which is too long to believe its keys: %s", s.fetched.UTC().Format(time.RFC3339), told(s.failed))
		default:
			grace = until.UTC()
		}
	}
	switch {
	case len(found) > 0 && len(found) <= maxTried:
		return found, grace, nil
	case len(found) > maxTried:
		return nil, time.Time{}, fault.Unauthenticated.New("the token does not say which of %d keys it is signed with", len(found))
	case s.failed != nil:
		return nil, time.Time{}, fault.Unavailable.Wrap(s.failed, "the token is signed with a key that is not known, and the issuer cannot be asked: %s", told(s.failed))
	}
	return nil, time.Time{}, fault.Unauthenticated.New("the token is signed with a key that the issuer does not publish for %s", algorithm)
}

// ask asks the issuer, unless somebody has since the caller looked, or too lately. The
// one who asks does not break off: others wait for the same answer.
func (i *issuer) ask(ctx context.Context, seen state, now time.Time) (state, error) {
	if !seen.tried.IsZero() && age(now, seen.tried) < pause {
		return seen, nil
	}
	select {
	case i.asking <- struct{}{}:
		defer func() { <-i.asking }()
	case <-ctx.Done():
		return state{}, ctx.Err()
	}
	if s := i.state(); s.rounds != seen.rounds {
		return s, nil
	}
	if set := i.refresh(context.WithoutCancel(ctx), now); set != nil && i.memory != nil {
		// What is not kept is fetched again: no reason to keep anybody waiting or out.
		_ = i.memory.SaveIssuerKeys(context.WithoutCancel(ctx), i.digest, set, now)
	}
	return i.state(), nil
}

// refresh asks the issuer now. It returns the key set as it was published, nil if it
// could not be had.
func (i *issuer) refresh(ctx context.Context, now time.Time) []byte {
	ctx, cancel := i.client.Limit(ctx)
	defer cancel()
	i.mu.Lock()
	at, known := i.keysAt, age(now, i.discovered) < rediscover
	i.mu.Unlock()
	var err error
	if at == "" || !known {
		at, err = i.discover(ctx)
	}
	var keys []key
	var set []byte
	if err == nil {
		keys, set, err = i.fetch(ctx, at)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tried, i.failed = now, err
	i.rounds++
	if err != nil {
		i.discovered = time.Time{} // the keys may have moved
		return nil
	}
	if !known {
		i.discovered = now
	}
	i.keys, i.fetched, i.keysAt = keys, now, at
	return set
}

// step is where asking an issuer failed, in words for an administrator.
type step struct {
	name, detail string
	cause        error
}

func (s *step) Error() string { return s.name + ": " + s.detail }
func (s *step) Unwrap() error { return s.cause }

// told is what may be said of why an issuer could not be asked.
func told(err error) string {
	var s *step
	if errors.As(err, &s) {
		return s.Error()
	}
	return "it was not asked yet"
}

// discover learns where the keys are. A document that is of another issuer, or that
// points to where we would not have gone by ourselves, is not believed.
func (i *issuer) discover(ctx context.Context) (string, error) {
	provider, err := gooidc.NewProvider(gooidc.ClientContext(ctx, i.client.Client), i.url)
	var mismatch *gooidc.IssuerMismatchError
	switch {
	case errors.As(err, &mismatch):
		return "", &step{"discovery", "the document is of another issuer, " + identity.Shown(mismatch.Discovered), nil}
	case err != nil:
		return "", &step{"discovery", backchannel.Describe(errors.Join(err, ctx.Err())), err} // go-oidc makes text of some errors
	}
	var doc struct {
		Keys string `json:"jwks_uri"`
	}
	if provider.Claims(&doc) != nil {
		return "", &step{"discovery", "the document cannot be read", nil}
	}
	u, err := backchannel.CheckURL(doc.Keys, i.settings.AllowPrivate)
	if err != nil {
		return "", &step{"discovery", "its jwks_uri " + err.Error(), nil}
	}
	if own, err := url.Parse(i.url); err != nil || own.Scheme == "https" && u.Scheme != "https" {
		return "", &step{"discovery", "its jwks_uri is not encrypted, and the issuer is", nil}
	}
	return doc.Keys, nil
}

// fetch returns the keys that can be used, and the set as it was published.
func (i *issuer) fetch(ctx context.Context, at string) ([]key, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, nil, &step{"keys", "their address cannot be read", nil}
	}
	resp, err := i.client.Do(r)
	if err != nil {
		return nil, nil, &step{"keys", backchannel.Describe(err), err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, &step{"keys", backchannel.Describe(err), err}
	}
	keys, err := parseKeys(body)
	if err != nil {
		return nil, nil, &step{"keys", err.Error(), nil}
	}
	return keys, body, nil
}

// names lists the algorithms that the keys can be for, of those that are accepted.
func names(keys []key, accepted []string) string {
	var out []string
	for _, a := range accepted {
		if len(matching(keys, "", a)) > 0 {
			out = append(out, a)
		}
	}
	return strings.Join(out, ", ")
}
