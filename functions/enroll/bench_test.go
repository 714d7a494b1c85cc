package enroll_test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/ed25519"
)

// BenchmarkIssue has 16 clients ask at once, without HTTP between; test/ has the
// whole of it.
func BenchmarkIssue(b *testing.B) {
	for name, url := range engines {
		b.Run(name, func(b *testing.B) {
			w := openWorld(b, url(b))
			w.quota(1_000_000)
			orders := make([]map[string]any, b.N)
			for i := range orders {
				var seed [32]byte
				binary.LittleEndian.PutUint64(seed[:], uint64(i))
				orders[i] = w.order(node{fmt.Sprint("n", i), ed25519.NewKeyFromSeed(seed[:])}, nil)
			}
			w.later(time.Second)
			b.ResetTimer()
			var at atomic.Int64
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for {
						i := int(at.Add(1)) - 1
						if i >= len(orders) {
							return
						}
						if got := w.call("POST", base+"/certificates", orders[i]); got.Code != 201 {
							b.Errorf("%d %s", got.Code, got.Body)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
