package access_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// directory counts how often it is asked. It stands in for the store, which cannot
// be told to fail.
type directory struct {
	mu     sync.Mutex
	tokens map[string]access.ServiceToken // by hash
	hashes map[string]string              // by id
	asked  int
	atOnce int // lookups that are running, and the most there were
	most   int
	seen   []string
	fails  error
	hold   chan struct{} // lookups wait for it to be closed; nil: they do not
}

func (d *directory) ServiceTokenByHash(ctx context.Context, hash []byte) (access.ServiceToken, error) {
	d.mu.Lock()
	d.asked++
	d.atOnce++
	d.most = max(d.most, d.atOnce)
	t, ok := d.tokens[string(hash)]
	hold, err := d.hold, d.fails
	d.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	d.mu.Lock()
	d.atOnce--
	d.mu.Unlock()
	if err != nil {
		return access.ServiceToken{}, err
	}
	if !ok {
		return access.ServiceToken{}, fault.NotFound.New("no such token")
	}
	return t, nil
}

func (d *directory) SeeServiceToken(_ context.Context, _ tenant.OrgID, id string, _, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		return d.fails
	}
	hash := d.hashes[id]
	t := d.tokens[hash]
	t.LastUsedAt = now
	d.tokens[hash] = t
	d.seen = append(d.seen, id)
	return nil
}

// bench is a Checker on a directory, at a time that the test sets.
type bench struct {
	*access.Checker
	t   *testing.T
	dir *directory
	key token.Key
	now time.Time
	log bytes.Buffer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	key, err := token.ParseKey(strings.Repeat("42", 32))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: &directory{tokens: map[string]access.ServiceToken{}, hashes: map[string]string{}}, key: key, now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	b.Checker = access.NewChecker(access.CheckerDeps{Directory: b.dir, Key: key, Now: func() time.Time { return b.now },
		Log: slog.New(slog.NewTextHandler(&b.log, nil))})
	return b
}

// text makes the text of a token that nobody knows.
func (b *bench) text() string {
	b.t.Helper()
	secret, err := access.ServiceKind.New(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	return secret.Reveal()
}

// add makes a token that there is, and returns its text.
func (b *bench) add(id string) string {
	text := b.text()
	b.put(text, access.ServiceToken{Org: "acme", ID: id, Role: "viewer", Formations: []string{"*"}, ExpiresAt: b.now.Add(time.Hour)})
	return text
}

func (b *bench) put(text string, t access.ServiceToken) {
	b.dir.mu.Lock()
	defer b.dir.mu.Unlock()
	hash := string(b.key.Hash(text))
	b.dir.tokens[hash], b.dir.hashes[t.ID] = t, hash
}

// change changes the token with this text.
func (b *bench) change(text string, f func(*access.ServiceToken)) {
	t := b.dir.tokens[string(b.key.Hash(text))]
	f(&t)
	b.put(text, t)
}

// want checks a text and what that comes to; kind is nil for a token that lets in.
func (b *bench) want(text string, kind error, asked int) {
	b.t.Helper()
	_, err := b.Check(b.t.Context(), text)
	if !errors.Is(err, kind) || (err == nil) != (kind == nil) {
		b.t.Errorf("%v, want %v", err, kind)
	}
	if err != nil && strings.Contains(err.Error(), text) {
		b.t.Errorf("the token is in %v", err)
	}
	if b.dir.asked != asked {
		b.t.Errorf("the store was asked %d times, want %d", b.dir.asked, asked)
	}
}

func TestTheStoreIsAskedOnceInAWhile(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	for range 100 {
		b.want(text, nil, 1)
	}
	b.now = b.now.Add(access.Freshness - 1)
	b.want(text, nil, 1)
	b.now = b.now.Add(1)
	b.want(text, nil, 2)
}

func TestARevokedTokenIsTakenNoLongerThanThat(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	b.want(text, nil, 1)
	b.change(text, func(t *access.ServiceToken) { t.RevokedAt = b.now })
	b.now = b.now.Add(access.Freshness)
	b.want(text, fault.Unauthenticated, 2)
	// And it does not cost more than one that is good.
	b.want(text, fault.Unauthenticated, 2)
}

func TestATokenExpiresOnTime(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	b.change(text, func(t *access.ServiceToken) { t.ExpiresAt = b.now.Add(time.Second) })
	b.want(text, nil, 1)
	b.now = b.now.Add(time.Second)
	b.want(text, fault.Unauthenticated, 1)
}

func TestATokenWhoseOrganizationIsGone(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	b.want(text, nil, 1)
	clear(b.dir.tokens)
	b.now = b.now.Add(access.Freshness)
	b.want(text, fault.Unauthenticated, 2)
	b.want(text, fault.Unauthenticated, 2)
}

func TestWhatTheStoreIsNotAskedAbout(t *testing.T) {
	b := newBench(t)
	good := b.add("t1")
	for name, text := range map[string]string{
		"nothing":        "",
		"the kind":       "peat_svc_",
		"cut off":        good[:len(good)-1],
		"one letter":     good[:20] + "_" + good[21:],
		"another kind":   "peat_enr_" + good[9:],
		"very long":      "peat_svc_" + strings.Repeat("a", 1<<16),
		"with a newline": good + "\n",
	} {
		if _, err := b.Check(t.Context(), text); !errors.Is(err, fault.Unauthenticated) || b.dir.asked != 0 {
			t.Errorf("%s: %v, and the store was asked %d times", name, err, b.dir.asked)
		}
	}
}

func TestAnUnknownTokenIsAskedAboutOnce(t *testing.T) {
	b := newBench(t)
	text := b.text()
	for range 100 {
		b.want(text, fault.Unauthenticated, 1)
	}
	b.now = b.now.Add(access.Freshness)
	b.want(text, fault.Unauthenticated, 2)
}

// TestAFloodOfStrangers: whoever tries out tokens gets so many and no more; who has
// one that is in use does not notice.
func TestAFloodOfStrangers(t *testing.T) {
	b := newBench(t)
	known := b.add("t1")
	b.want(known, nil, 1)
	var refused int
	for range 5000 {
		if _, err := b.Check(t.Context(), b.text()); errors.Is(err, fault.Exhausted) && fault.Of(err).After > 0 {
			refused++
		} else if !errors.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
	}
	if asked := b.dir.asked; asked != 200 || refused != 5000-199 {
		t.Errorf("the store was asked %d times, and %d were sent away", asked, refused)
	}
	b.now = b.now.Add(access.Freshness) // what was known has to be asked about again
	for range 2000 {
		_, _ = b.Check(t.Context(), b.text())
	}
	b.dir.asked = 0
	b.want(known, nil, 1)
	// A second brings fifty more.
	b.now = b.now.Add(time.Second)
	b.dir.asked = 0
	for range 2000 {
		_, _ = b.Check(t.Context(), b.text())
	}
	if b.dir.asked != 50 {
		t.Errorf("in a second the store was asked %d times", b.dir.asked)
	}
}

func TestOnlySoManyLookupsAtOnce(t *testing.T) {
	b := newBench(t)
	b.dir.hold = make(chan struct{})
	text := b.add("t1")
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if _, err := b.Check(t.Context(), text); err != nil {
				t.Error(err)
			}
		})
	}
	close(b.dir.hold)
	all.Wait()
	// Those that waited for their turn looked again at what the first had found.
	if b.dir.most > 8 || b.dir.asked > 8 {
		t.Errorf("%d lookups, %d at once", b.dir.asked, b.dir.most)
	}
}

func TestAStoreThatIsDown(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	b.want(text, nil, 1)
	b.dir.fails = errors.New("dial 10.1.2.3: refused")
	b.want(text, nil, 1)
	b.now = b.now.Add(access.Freshness)
	b.want(text, fault.Unavailable, 2) // nobody is let in on what was true once
	b.dir.fails = nil
	b.want(text, nil, 3)
}

func TestUseIsNotedOnceInAWhile(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	for range 61 {
		if _, err := b.Check(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(20 * time.Second)
	}
	// At 0, 10 and 20 minutes.
	if len(b.dir.seen) != 3 {
		t.Errorf("noted %d times", len(b.dir.seen))
	}
	b.change(text, func(t *access.ServiceToken) { t.ExpiresAt = b.now.Add(-1); t.LastUsedAt = time.Time{} })
	b.now = b.now.Add(access.Freshness)
	if _, err := b.Check(t.Context(), text); err == nil || len(b.dir.seen) != 3 {
		t.Errorf("%v; the use of a token that lets nobody in is noted", err)
	}
}

func TestThatUseCannotBeNotedLocksNobodyOut(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	d := &seeFails{b.dir}
	b.Checker = access.NewChecker(access.CheckerDeps{Directory: d, Key: b.key, Now: func() time.Time { return b.now }, Log: slog.New(slog.NewTextHandler(&b.log, nil))})
	b.want(text, nil, 1)
	if !strings.Contains(b.log.String(), "not noted") || strings.Contains(b.log.String(), text) {
		t.Errorf("the log says %q", b.log.String())
	}
}

type seeFails struct{ *directory }

func (seeFails) SeeServiceToken(context.Context, tenant.OrgID, string, time.Time, time.Time) error {
	return errors.New("database is locked")
}

func TestAnOlderKeyIsTriedToo(t *testing.T) {
	b := newBench(t)
	text := b.add("t1")
	both, err := token.ParseKey(strings.Repeat("43", 32) + "," + strings.Repeat("42", 32))
	if err != nil {
		t.Fatal(err)
	}
	b.Checker = access.NewChecker(access.CheckerDeps{Directory: b.dir, Key: both, Now: func() time.Time { return b.now }})
	b.want(text, nil, 2)
	b.want(text, nil, 2)
}

// TestMemoryIsBounded: what is remembered of a flood is no more than there is room for.
func TestMemoryIsBounded(t *testing.T) {
	b := newBench(t)
	const room = 2 * 10_000
	for i := range 3 * room {
		if i%200 == 0 {
			b.now = b.now.Add(4 * time.Second) // enough for 200 more
		}
		if _, err := b.Check(t.Context(), b.text()); !errors.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
	}
	if known, unknown := b.Remembered(); known != 0 || unknown > room {
		t.Errorf("%d and %d are remembered", known, unknown)
	}
	for i := range room + 5000 {
		if i%200 == 0 {
			b.now = b.now.Add(4 * time.Second)
		}
		if _, err := b.Check(t.Context(), b.add(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if known, _ := b.Remembered(); known > room {
		t.Errorf("%d are remembered", known)
	}
}
