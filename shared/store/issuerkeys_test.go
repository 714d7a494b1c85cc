package store_test

import (
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

func testIssuerKeys(t *testing.T, s *store.Store) {
	at := store.Precise(now)
	save := func(name, set string, at time.Time) {
		t.Helper()
		if err := s.SaveIssuerKeys(t.Context(), []byte(name), []byte(set), at); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := s.IssuerKeys(t.Context(), []byte("a"))
	wantFault(t, err, fault.NotFound)
	save("a", "one", at)
	save("a", "two", at.Add(time.Minute))
	save("a", "older", at.Add(time.Second)) // by a process that was slow
	save("b", "three", at)
	for name, want := range map[string]string{"a": "two", "b": "three"} {
		if set, fetched, err := s.IssuerKeys(t.Context(), []byte(name)); err != nil || string(set) != want || fetched.Before(at) {
			t.Errorf("%s: %q of %s, %v", name, set, fetched, err)
		}
	}
	save("c", "four", at.AddDate(0, 0, 11))
	_, _, err = s.IssuerKeys(t.Context(), []byte("a"))
	wantFault(t, err, fault.NotFound)
}
