package keyring_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// service is a key service that answers as told, and counts for whom it is asked.
type service struct {
	*envelope.Local
	id string

	mu    sync.Mutex
	err   error // what it answers with; nil is the truth
	asked map[string]int
	hold  chan struct{} // calls wait for it to close, if there is one
}

func newService(t testing.TB, n byte) *service {
	t.Helper()
	local, err := envelope.NewLocal(envelope.NewKEK([32]byte{n}))
	if err != nil {
		t.Fatal(err)
	}
	return &service{Local: local, id: fmt.Sprintf("awskms:key-%d", n), asked: map[string]int{}}
}

func (s *service) KeyID() string { return s.id }

func (s *service) Wrap(ctx context.Context, rec envelope.Record, dek []byte) ([]byte, error) {
	if err := s.answer(ctx, rec); err != nil {
		return nil, err
	}
	return s.Local.Wrap(ctx, rec, dek)
}

func (s *service) Unwrap(ctx context.Context, rec envelope.Record, wrapped []byte) ([]byte, error) {
	if err := s.answer(ctx, rec); err != nil {
		return nil, err
	}
	return s.Local.Unwrap(ctx, rec, wrapped)
}

func (s *service) answer(ctx context.Context, rec envelope.Record) error {
	s.mu.Lock()
	s.asked[rec.Org]++
	hold, err := s.hold, s.err
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// will sets what the service answers with from now on.
func (s *service) will(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// calls returns how often the service was asked for an organization since the last
// time it was said.
func (s *service) calls(org string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.asked[org]
	s.asked[org] = 0
	return n
}

// deps are those of a gateway whose own key is keys[0] and where acme has keys[1].
func deps(keys ...*service) keyring.Deps {
	return keyring.Deps{
		Default: keys[0].id, Old: []string{keys[0].id}, CacheFor: time.Minute, CacheSize: 100,
		Provider: func(id string) (envelope.KeyProvider, error) {
			for _, k := range keys {
				if k.id == id {
					return k, nil
				}
			}
			return nil, errors.New("not set up")
		},
		KeyOf: func(_ context.Context, org tenant.OrgID) (string, error) {
			if org == "acme" && len(keys) > 1 {
				return keys[1].id, nil
			}
			return "", nil
		},
	}
}

func recordOf(org string) envelope.Record {
	return keyring.OfGenesis(tenant.Key{Org: tenant.OrgID(org), App: "logistics"})
}

func seal(t *testing.T, k *keyring.Keyring, rec envelope.Record, text string) []byte {
	t.Helper()
	blob, err := k.Seal(t.Context(), rec, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func opens(t *testing.T, k *keyring.Keyring, rec envelope.Record, blob []byte) {
	t.Helper()
	if got, err := k.Open(t.Context(), rec, blob); err != nil || string(got) != "secret" {
		t.Errorf("%s: %q, %v", rec.Org, got, err)
	}
}

func shut(t *testing.T, k *keyring.Keyring, rec envelope.Record, blob []byte, want error) {
	t.Helper()
	got, err := k.Open(t.Context(), rec, blob)
	if !errors.Is(err, want) || got != nil {
		t.Errorf("%s: %q, %v; want %v", rec.Org, got, err, want)
	}
}

func TestEachOrganizationsKeySeals(t *testing.T) {
	own, theirs := newService(t, 1), newService(t, 2)
	k := keyring.New(deps(own, theirs))
	for org, want := range map[string]string{"acme": theirs.id, "rival": own.id} {
		blob := seal(t, k, recordOf(org), "secret")
		if h, err := envelope.ReadHeader(blob); err != nil || h.KeyID != want {
			t.Errorf("%s: sealed with %q, %v", org, h.KeyID, err)
		}
		opens(t, k, recordOf(org), blob)
	}
	if own.calls("acme") != 0 || theirs.calls("rival") != 0 {
		t.Error("a key was asked for an organization that is not its own")
	}
}

// TestASealedOffOrganizationIsNoticedByNobodyElse: what its key does is neither
// seen in the results of others, nor in how often their key is asked.
func TestASealedOffOrganizationIsNoticedByNobodyElse(t *testing.T) {
	for name, trouble := range map[string]struct{ says, want error }{
		"revoked":       {fmt.Errorf("%w: it is disabled", envelope.ErrKeyRefused), fault.Sealed},
		"not reachable": {fmt.Errorf("%w: it took too long", envelope.ErrUnavailable), fault.Unavailable},
		"mad":           {errors.New("something new"), fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own, theirs := newService(t, 1), newService(t, 2)
				k := keyring.New(deps(own, theirs))
				defer k.Close()
				mine, other := seal(t, k, recordOf("acme"), "secret"), seal(t, k, recordOf("rival"), "secret")
				opens(t, k, recordOf("acme"), mine)
				opens(t, k, recordOf("rival"), other)
				theirs.will(trouble.says)
				time.Sleep(59 * time.Second)
				opens(t, k, recordOf("acme"), mine) // the data key has its minute
				own.calls("rival")
				time.Sleep(time.Second)
				for range 100 {
					shut(t, k, recordOf("acme"), mine, trouble.want)
					opens(t, k, recordOf("rival"), other)
				}
				if n := own.calls("rival"); n != 1 {
					t.Errorf("the other's key was asked %d times", n)
				}
				if _, err := k.Seal(t.Context(), recordOf("acme"), []byte("new")); !errors.Is(err, trouble.want) {
					t.Errorf("Seal: %v", err)
				}
				if n := theirs.calls("acme"); errors.Is(trouble.want, fault.Sealed) && n > 3 {
					t.Errorf("a key that refuses was asked %d times in one moment", n)
				}
				seal(t, k, recordOf("rival"), "new")
				theirs.will(nil)
				time.Sleep(5 * time.Second)
				opens(t, k, recordOf("acme"), mine) // it was given back
			})
		})
	}
}

func TestDataKeysAreKeptForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, 1)
		d := deps(s)
		d.CacheSize = 2
		k := keyring.New(d)
		defer k.Close()
		var recs []envelope.Record
		var blobs [][]byte
		for _, org := range []string{"a", "b", "c"} {
			recs = append(recs, recordOf(org))
			blobs = append(blobs, seal(t, k, recordOf(org), "secret"))
			s.calls(org)
		}
		look := func(i, calls int, why string) {
			t.Helper()
			opens(t, k, recs[i], blobs[i])
			if n := s.calls(recs[i].Org); n != calls {
				t.Errorf("%s: asked %d times, want %d", why, n, calls)
			}
		}
		look(0, 1, "the first time")
		time.Sleep(30 * time.Second)
		look(0, 0, "the second time")
		time.Sleep(30 * time.Second)
		look(0, 1, "a minute after the first: use does not lengthen it")
		look(1, 1, "another record")
		look(2, 1, "a third")
		look(2, 0, "which is kept")
		look(0, 1, "the oldest had to go")
		// In another's place it is another key, and does not open.
		shut(t, k, recs[1], blobs[0], fault.Sealed)
	})
}

func TestWithoutTimeNothingIsKept(t *testing.T) {
	s := newService(t, 1)
	d := deps(s)
	d.CacheFor = 0
	k := keyring.New(d)
	blob := seal(t, k, recordOf("a"), "secret")
	s.calls("a")
	opens(t, k, recordOf("a"), blob)
	opens(t, k, recordOf("a"), blob)
	if n := s.calls("a"); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestManyWhoWantOneDataKeyAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, 1)
		k := keyring.New(deps(s))
		defer k.Close()
		blob := seal(t, k, recordOf("a"), "secret")
		s.calls("a")
		s.hold = make(chan struct{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { opens(t, k, recordOf("a"), blob) })
		}
		synctest.Wait()
		close(s.hold)
		wg.Wait()
		if n := s.calls("a"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestWhoGivesUpDoesNotSpeakForOthers: the call is made by the first who comes, and
// its end is not that of those who wait for it.
func TestWhoGivesUpDoesNotSpeakForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, 1)
		k := keyring.New(deps(s))
		defer k.Close()
		blob := seal(t, k, recordOf("a"), "secret")
		s.hold = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := k.Open(ctx, recordOf("a"), blob); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { opens(t, k, recordOf("a"), blob) })
		impatient, stop := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := k.Open(impatient, recordOf("a"), blob); !errors.Is(err, context.Canceled) {
				t.Errorf("who waited no longer: %v", err)
			}
		})
		synctest.Wait()
		stop()
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(s.hold)
		wg.Wait()
	})
}

// TestWhatDoesNotOpenSaysNothing: one message for whatever is wrong, and no key in
// it.
func TestWhatDoesNotOpenSaysNothing(t *testing.T) {
	own, lost := newService(t, 1), newService(t, 9)
	k := keyring.New(deps(own))
	rec := recordOf("rival")
	blob := seal(t, k, rec, "secret")
	foreign, err := envelope.Seal(t.Context(), lost, rec, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	d := deps(own)
	d.Allowed = func(tenant.OrgID, string) bool { return false }
	refusing := newService(t, 1)
	refusing.will(envelope.ErrKeyRefused)
	for name, tc := range map[string]struct {
		k    *keyring.Keyring
		rec  envelope.Record
		blob []byte
	}{
		"nothing":                 {k, rec, nil},
		"as it is":                {k, rec, []byte("a genesis in the clear, as there were once")},
		"truncated":               {k, rec, blob[:len(blob)-30]},
		"changed":                 {k, rec, append(bytes.Clone(blob[:len(blob)-1]), blob[len(blob)-1]^1)},
		"another's":               {k, recordOf("acme"), blob},
		"another kind":            {k, keyring.OfSink("rival", "logistics"), blob},
		"a key that is not here":  {k, rec, foreign},
		"a key that is forbidden": {keyring.New(d), rec, blob},
		"a key that refuses":      {keyring.New(deps(refusing)), rec, blob},
		"a version to come":       {k, rec, append([]byte("PENV\x03"), blob[5:]...)},
		"version 1 of who knows":  {k, rec, append([]byte("PENV\x01\x00\x00"), make([]byte, 40)...)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.k.Open(t.Context(), tc.rec, tc.blob)
			f := fault.Of(err)
			if f == nil || f.Kind != fault.Sealed || f.Message != "the "+tc.rec.Kind+" is sealed and cannot be opened" {
				t.Errorf("%v", err)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("too much is said: %v", err)
			}
		})
	}
}

// TestAKeyOfOneIsOfNoUseForAnother: who can write to the database, and has a key of
// his own, could else forge what belongs to others.
func TestAKeyOfOneIsOfNoUseForAnother(t *testing.T) {
	own, evil := newService(t, 1), newService(t, 2)
	d := deps(own, evil)
	allowance, err := keyring.ParseAllowance("evil=" + evil.id)
	if err != nil {
		t.Fatal(err)
	}
	d.Allowed = allowance.With(own.id).Permits
	d.KeyOf = func(context.Context, tenant.OrgID) (string, error) { return evil.id, nil } // as written into every row
	k := keyring.New(d)
	forged, err := envelope.Seal(t.Context(), evil, recordOf("acme"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	shut(t, k, recordOf("acme"), forged, fault.Sealed)
	if _, err := k.Seal(t.Context(), recordOf("acme"), []byte("secret")); !errors.Is(err, fault.Sealed) {
		t.Errorf("sealed with the key of another: %v", err)
	}
	if n := evil.calls("acme"); n != 1 { // by the forger himself
		t.Errorf("the key was asked %d times", n)
	}
	opens(t, k, recordOf("evil"), seal(t, k, recordOf("evil"), "secret"))
}

func TestVersion1IsReadWithEveryOldKey(t *testing.T) {
	first, second := newService(t, 1), newService(t, 2)
	blob := version1(t, second.Local, "secret")
	d := deps(first, second)
	shut(t, keyring.New(d), recordOf("rival"), blob, fault.Sealed)
	d.Old = []string{first.id, second.id}
	opens(t, keyring.New(d), recordOf("rival"), blob)
}

func TestClose(t *testing.T) {
	s := newService(t, 1)
	k := keyring.New(deps(s))
	blob := seal(t, k, recordOf("a"), "secret")
	opens(t, k, recordOf("a"), blob)
	s.calls("a")
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	opens(t, k, recordOf("a"), blob)
	opens(t, k, recordOf("a"), blob)
	if n := s.calls("a"); n != 2 {
		t.Errorf("after the end data keys are kept: asked %d times", n)
	}
}

func ExampleKeyring_Authority() {
	local, _ := envelope.NewLocal(envelope.NewKEK([32]byte{1}))
	key := tenant.Key{Org: "acme", App: "logistics"}
	g, _ := genesis.FromSeed("logistics", tenant.Controlled, 0, genesis.Secret{1})
	plain, _ := g.Encode()
	sealed, _ := envelope.Seal(context.Background(), local, keyring.OfGenesis(key), plain)

	k := keyring.New(keyring.Deps{
		Default:  local.KeyID(),
		Provider: func(string) (envelope.KeyProvider, error) { return local, nil },
		Root: func(context.Context, tenant.Key) (keyring.Root, error) {
			return keyring.Root{Record: keyring.OfGenesis(key), Sealed: sealed, PublicKey: g.AuthorityPublicKey()}, nil
		},
	})
	var signature []byte
	err := k.Authority(context.Background(), key, func(private ed25519.PrivateKey) error {
		signature = ed25519.Sign(private, []byte("a certificate"))
		return nil
	})
	fmt.Println(ed25519.Verify(g.AuthorityPublicKey(), []byte("a certificate"), signature), err)
	// Output: true <nil>
}
