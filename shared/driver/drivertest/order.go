package drivertest

import (
	"fmt"
	"sync"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Other is a second formation of the organization. Its documents have the ids of
// the first one's.
var Other = tenant.Key{Org: Key.Org, App: "medical"}

func documents(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("notes:%d", i))
	}
	return out
}

func delivers(s *stand) {
	s.wantDelivered(s.open(), s.events("a", "b", "a", "c"))
	s.judgeOnce()
}

func keepsOrder(s *stand) {
	s.wantDelivered(s.open(), s.mixed(250, documents(12)...))
	s.judgeOnce()
}

func keepsOrderOver(s *stand) {
	d := s.open()
	for range 25 {
		s.wantDelivered(d, s.mixed(1+s.rng.IntN(20), documents(5)...))
	}
	s.judgeOnce()
}

func formations(s *stand) {
	d := s.open()
	var batches [2][][]driver.Event
	for i, key := range []tenant.Key{Key, Other} {
		for range 10 {
			var batch []driver.Event
			for range 20 {
				batch = append(batch, s.next(key, documents(3)[s.rng.IntN(3)], nil))
			}
			batches[i] = append(batches[i], batch)
		}
	}
	var wg sync.WaitGroup
	for _, mine := range batches {
		wg.Go(func() {
			for _, batch := range mine {
				for i, o := range s.deliver(d, batch) {
					if o.Verdict != driver.Delivered {
						s.Errorf("%d: %+v", i, o)
					}
				}
			}
		})
	}
	wg.Wait()
	s.judgeOnce()
}

func equalIDs(s *stand) {
	batch := s.mixed(20, documents(3)...)
	s.wantDelivered(s.open(), batch)
	s.wantDelivered(s.open(), batch) // by another process, after a crash
	for id, n := range s.judge() {
		if n > 2 {
			s.Errorf("%s came %d times", id, n)
		}
	}
}

func dropsRepeats(s *stand) {
	batch := s.mixed(20, documents(3)...)
	s.wantDelivered(s.open(), batch)
	s.wantDelivered(s.open(), batch)
	s.judgeOnce()
}
