package millis_test

import (
	"math"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
)

func TestMillis(t *testing.T) {
	for _, ms := range []uint64{0, 1, 999, 1000, 1_700_000_000_123, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		if got, ok := millis.Of(millis.Time(ms)); !ok || got != ms {
			t.Errorf("%d became %d, %v", ms, got, ok)
		}
	}
	if at := millis.Time(1_700_000_000_123); !at.Equal(time.UnixMilli(1_700_000_000_123)) || at.Location() != time.UTC {
		t.Errorf("got %s", at)
	}
	for name, at := range map[string]time.Time{
		"no time":                      {},
		"before 1970":                  time.UnixMilli(-1),
		"one more than there are":      millis.Time(math.MaxUint64).Add(time.Millisecond),
		"a second more than there are": time.Unix(math.MaxUint64/1000+1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			if ms, ok := millis.Of(at); ok {
				t.Errorf("got %d", ms)
			}
		})
	}
}
