package oidc_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oidc"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// memory is what processes have in common.
type memory struct {
	mu      sync.Mutex
	sets    map[string][]byte
	fetched time.Time
	fails   error
}

func (m *memory) IssuerKeys(_ context.Context, name []byte) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	set, ok := m.sets[string(name)]
	if !ok && m.fails == nil {
		return nil, time.Time{}, fault.NotFound.New("nothing")
	}
	return set, m.fetched, m.fails
}

func (m *memory) SaveIssuerKeys(_ context.Context, name, set []byte, fetched time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sets[string(name)], m.fetched = set, fetched
	return m.fails
}

// TestAProcessThatStartsInAnOutage has another one fetch the keys before.
func TestAProcessThatStartsInAnOutage(t *testing.T) {
	i := identitytest.NewIssuer(t)
	m := &memory{sets: map[string][]byte{}}
	began := i.Now()
	start := func(changes map[string]any) identity.Verifier { // in a process of its own
		t.Helper()
		v, err := oidc.NewIssuers(m).Open(opening(t, i.Settings(), config(i, changes)))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	show := func(v identity.Verifier) (identity.Claims, error) {
		return v.Verify(t.Context(), identity.Proof{Token: i.Token(nil)}, i.Now())
	}
	if _, err := show(start(nil)); err != nil {
		t.Fatal(err)
	}
	if c, err := show(start(nil)); err != nil || !c.Grace.IsZero() || i.Asked(identitytest.Keys) != 1 {
		t.Errorf("a second process asks although the first has just asked: %d times, %+v %v", i.Asked(identitytest.Keys), c, err)
	}
	i.Down()
	i.Pass(time.Hour)
	if c, err := show(start(nil)); err != nil || !c.Grace.Equal(began.Add(oidc.MaxOutage)) {
		t.Errorf("%+v %v", c, err)
	}
	// Under other authorities the issuer may be another's.
	if _, err := show(start(map[string]any{"tls": nil})); !errors.Is(err, fault.Unavailable) {
		t.Errorf("keys that were fetched under another authority: %v", err)
	}
	i.Pass(oidc.MaxOutage)
	if _, err := show(start(nil)); !errors.Is(err, fault.Unavailable) {
		t.Errorf("keys that are too old: %v", err)
	}
	i.Up()
	for name, broken := range map[string]func(){
		"it fails": func() { m.fails = errors.New("down") },
		"it holds nonsense": func() {
			m.fails = nil
			for name := range m.sets {
				m.sets[name] = []byte("x")
			}
		},
	} {
		broken()
		if _, err := show(start(nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
