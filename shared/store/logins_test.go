package store_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

func testLogins(t *testing.T, s *store.Store) {
	ends := func(session, provider, subject string, begun time.Time) access.Ends {
		return access.Ends{Session: []byte(session), Provider: []byte(provider), Subject: []byte(subject), Begun: begun}
	}
	until := now.Add(time.Hour)
	for _, name := range []string{"session 1", "provider 2", "subject 3"} {
		inTx(t, s, func(tx *store.Tx) error { return tx.EndLogin(t.Context(), []byte(name), now, until) })
	}
	check := func(step string, want map[string]bool) {
		t.Helper()
		for name, e := range map[string]access.Ends{
			"one of its own":             ends("session 1", "x", "x", now.Add(time.Minute)),
			"one at the provider":        ends("x", "provider 2", "x", now.Add(time.Minute)),
			"of somebody, from before":   ends("x", "x", "subject 3", now),
			"of somebody, from after":    ends("x", "x", "subject 3", now.Add(time.Microsecond)),
			"of somebody, from later on": ends("x", "x", "subject 3", now.Add(2*time.Minute)),
			"another's":                  ends("session 9", "provider 9", "subject 9", now),
			"a name of another kind":     ends("x", "x", "session 9", now),
		} {
			if got, err := s.LoginEnded(t.Context(), e); got != want[name] || err != nil {
				t.Errorf("%s, %s: %v %v", step, name, got, err)
			}
		}
	}
	check("at first", map[string]bool{"one of its own": true, "one at the provider": true, "of somebody, from before": true})

	// Ended again it is ended as of then, and what came late changes nothing.
	for _, at := range []time.Duration{time.Minute, -time.Hour} {
		inTx(t, s, func(tx *store.Tx) error {
			return tx.EndLogin(t.Context(), []byte("subject 3"), now.Add(at), until.Add(at))
		})
	}
	check("ended again", map[string]bool{"one of its own": true, "one at the provider": true, "of somebody, from before": true, "of somebody, from after": true})

	// It is forgotten when its time is up.
	inTx(t, s, func(tx *store.Tx) error { return tx.ForgetLogins(t.Context(), until.Add(-time.Microsecond)) })
	check("too early to forget", map[string]bool{"one of its own": true, "one at the provider": true, "of somebody, from before": true, "of somebody, from after": true})
	inTx(t, s, func(tx *store.Tx) error { return tx.ForgetLogins(t.Context(), until) })
	check("some forgotten", map[string]bool{"of somebody, from before": true, "of somebody, from after": true})

	use := func(tx *store.Tx) error { return tx.UseLoginOnce(t.Context(), []byte("a login"), now, until) }
	failed := errors.New("no login after all")
	if err := s.InTx(t.Context(), func(tx *store.Tx) error { return errors.Join(use(tx), failed) }); !errors.Is(err, failed) || errors.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	inTx(t, s, use)
	wantFault(t, s.InTx(t.Context(), use), fault.Conflict)
}

// testLoginOnceRace uses one name from many sides at once.
func testLoginOnceRace(t *testing.T, s *store.Store) {
	var won atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			err := s.InTx(t.Context(), func(tx *store.Tx) error {
				return tx.UseLoginOnce(t.Context(), []byte("a login"), now, now.Add(time.Hour))
			})
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, fault.Conflict):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d came through", won.Load())
	}
}
