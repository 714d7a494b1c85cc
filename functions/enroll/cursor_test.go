package enroll

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
)

// FuzzAfter: what a caller sends for a cursor is read or refused, and what is read
// is what the list would give out.
func FuzzAfter(f *testing.F) {
	for _, s := range []string{"", "1 2", "7 1772904310594", "0 0", "-1 1", "1", "1 2 3", "99999999999999999999 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		after, err := parseAfter(s)
		if err != nil || after.Number == 0 {
			return
		}
		again, err := parseAfter(afterOf(authority.Certificate{Number: after.Number, ExpiresAt: after.Expires}))
		if err != nil || again != after {
			t.Errorf("%q: %+v, then %+v %v", s, after, again, err)
		}
	})
}
