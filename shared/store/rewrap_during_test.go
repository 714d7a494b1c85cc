package store_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint/faultpointtest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// testRewrapDuringIssue: formations are made, signed for and destroyed, and secrets
// changed, while everything is sealed anew, there and back.
func testRewrapDuringIssue(t *testing.T, s *store.Store) {
	a, b := localKey(t, 1), localKey(t, 2)
	populate(t, s, ring(t, s, a), 10)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var signed, made atomic.Int64
	work := func(do func(n int) error) {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := do(n); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for worker := range 4 {
		keys := ring(t, s, a, b)
		work(func(n int) error {
			key := tenant.Key{Org: "acme", App: tenant.AppID(fmt.Sprintf("app-%03d", (n+worker)%10))}
			signed.Add(1)
			return keys.Authority(ctx, key, func(k ed25519.PrivateKey) error { ed25519.Sign(k, []byte("certificate")); return nil })
		})
	}
	for worker := range 2 {
		keys := ring(t, s, []envelope.KeyProvider{a, b}[worker], []envelope.KeyProvider{b, a}[worker]) // replicas before and after the change
		work(func(n int) error {
			key := tenant.Key{Org: "rival", App: tenant.AppID(fmt.Sprintf("new-%d-%04d", worker, n))}
			if err := found(ctx, s, keys, key); err != nil {
				return err
			}
			made.Add(1)
			if n%3 == 0 {
				made.Add(-1)
				return s.InTx(ctx, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
			}
			return nil
		})
	}
	var tried, newest string // what the sink's secrets should be in the end: one or the other
	keys := ring(t, s, a, b)
	work(func(n int) error {
		sink, err := s.Sink(ctx, "acme", "s1")
		if err != nil {
			return err
		}
		tried = fmt.Sprintf("secret %d", n)
		if sink.Sealed, err = keys.Seal(ctx, keyring.OfSink("acme", "s1"), []byte(tried)); err != nil {
			return err
		}
		err = s.InTx(ctx, func(tx *store.Tx) error { _, err := tx.UpdateSinkAndSecrets(ctx, sink); return err })
		if err == nil {
			newest = tried
		}
		return err
	})
	for round := range 6 {
		to := []envelope.KeyProvider{b, a}
		if round%2 == 1 {
			to = []envelope.KeyProvider{a, b}
		}
		got, err := rewrapOf(s, ring(t, s, to...)).Run(t.Context())
		for _, f := range got.Failures {
			if f.Reason != "others keep changing it" {
				t.Errorf("%+v", f)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
	if signed.Load() == 0 || made.Load() == 0 {
		t.Errorf("nothing went on meanwhile: %d signatures, %d formations", signed.Load(), made.Load())
	}
	sink, err := s.Sink(t.Context(), "acme", "s1")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := keys.Open(t.Context(), keyring.OfSink("acme", "s1"), sink.Sealed); err != nil || string(plain) != newest && string(plain) != tried {
		t.Errorf("the secrets are %q, were %q or %q; %v", plain, newest, tried, err)
	}
	got, err := rewrapOf(s, ring(t, s, b, a)).Run(t.Context())
	if err != nil || got.Left != 0 || got.Counts.Failed != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	r, err := ring(t, s, b).Verify(t.Context(), s.Records("", time.Now), "")
	if err != nil || r.Failed != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestRewrapKilledAnywhere kills the process at each step there is, in the middle
// of a run: every record opens with one of the two keys, and the next run finishes.
func TestRewrapKilledAnywhere(t *testing.T) {
	const all = 2 * (110 + 3)
	if faultpointtest.Child() {
		s, err := store.Open(t.Context(), os.Getenv("STORE"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = rewrapOf(s, ring(t, s, localKey(t, 2), localKey(t, 1))).Run(t.Context())
		t.Fatalf("it came to its end: %v", err)
	}
	steps := faultpointtest.Complete(t, "../keyring", "rewrap/")
	engines := map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": func(t *testing.T) string { return testenv.Postgres(t) },
	}
	for engine, url := range engines {
		for _, step := range steps {
			t.Run(engine+"/"+step, func(t *testing.T) {
				url := url(t)
				run(t, url, func(t *testing.T, s *store.Store) { populate(t, s, ring(t, s, localKey(t, 1)), 110) })
				nth := 2 // so that something is done already
				if step == "rewrap/before-begin" {
					nth = 1
				}
				faultpointtest.Kill(t, step, nth, "STORE="+url)
				run(t, url, func(t *testing.T, s *store.Store) {
					allOpen(t, s, all, localKey(t, 1), localKey(t, 2))
					got, err := rewrapOf(s, ring(t, s, localKey(t, 2), localKey(t, 1))).Run(t.Context())
					if err != nil || got.Left != 0 || got.Counts.Failed != 0 || got.Resumed == (nth == 1) {
						t.Errorf("%+v, %v", got, err)
					}
					allOpen(t, s, all, localKey(t, 2))
				})
			})
		}
	}
}
