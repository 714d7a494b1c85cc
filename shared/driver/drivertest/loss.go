package drivertest

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// brief is the time of an attempt that may be waited for.
func (s *stand) brief() Options {
	return Options{AttemptTimeout: 2 * time.Second * time.Duration(1+s.h.Slow)}
}

// saysUnreachable tries a target that is not there from the beginning, and one
// that goes.
func saysUnreachable(s *stand) {
	d := s.openWith(s.brief())
	s.h.Proxy.Refuse()
	batch := s.events("a", "b", "a", "c")
	for range 2 {
		s.wantTrouble(s.deliver(d, batch), true)
	}
	s.h.Proxy.Heal()
	s.finish(d, batch)
	s.h.Proxy.Refuse()
	more := s.events("a", "b")
	// A connection that was there may break only when it is used.
	s.wantTrouble(s.deliver(d, more), false)
	s.wantTrouble(s.deliver(d, more), true)
	s.h.Proxy.Heal()
	s.finish(d, more)
	s.judge()
}

// weight is about how many bytes a batch takes each way.
func (s *stand) weight(d driver.Driver, batch []driver.Event) (requests, answers int64) {
	s.Helper()
	s.finish(d, s.events("a")) // connected
	requests, answers = s.h.Proxy.Passed()
	s.finish(d, batch)
	afterRequests, afterAnswers := s.h.Proxy.Passed()
	return afterRequests - requests, afterAnswers - answers
}

func survivesCut(s *stand) {
	d := s.openWith(s.brief())
	requests, answers := s.weight(d, s.mixed(40, documents(4)...))
	for range 12 {
		if s.rng.IntN(3) > 0 {
			s.h.Proxy.CutRequests(s.rng.Int64N(requests))
		} else {
			s.h.Proxy.CutAnswers(s.rng.Int64N(max(1, answers)))
		}
		s.finish(d, s.mixed(40, documents(4)...))
		s.h.Proxy.Heal() // in case it was not reached
	}
	if s.h.Proxy.Cuts() < 3 {
		s.Fatalf("only %d connections were cut", s.h.Proxy.Cuts())
	}
	s.judge()
}

func survivesLostReply(s *stand) {
	d := s.openWith(s.brief())
	s.wantDelivered(d, s.events("a"))
	for range 4 {
		s.h.Proxy.CutAnswers(0)
		s.finish(d, s.mixed(20, documents(4)...))
		s.h.Proxy.Heal()
	}
	if s.h.Proxy.Cuts() == 0 {
		s.Fatalf("nothing was cut")
	}
	s.judge()
}

// kills is how often a target is killed in one test.
func (s *stand) kills() int { return max(1, 3-s.h.Slow) }

func survivesKill(s *stand) {
	d := s.openWith(s.brief())
	large := func() (batch []driver.Event) {
		for i := range 300 {
			batch = append(batch, s.next(Key, documents(20)[i%20], s.sized(1000)))
		}
		return batch
	}
	for range s.kills() {
		s.finish(d, s.events("a")) // connected
		killed := make(chan struct{})
		s.h.Proxy.OnRequests(s.rng.Int64N(200_000), func() {
			defer close(killed)
			s.h.Kill()
		})
		batch := large()
		rest := s.rest(batch, s.deliver(d, batch))
		select {
		case <-killed:
		case <-time.After(s.limit()):
			s.Fatalf("the target was not killed")
		}
		if len(rest) > 0 { // the gateway tries while it is away
			rest = s.rest(rest, s.deliver(d, rest))
		}
		s.h.Restart()
		s.finish(d, rest)
	}
	s.judge()
}

func survivesRestart(s *stand) {
	d := s.openWith(s.brief())
	for range s.kills() {
		s.finish(d, s.mixed(20, documents(4)...))
		s.h.Kill()
		s.h.Restart()
	}
	s.finish(d, s.mixed(20, documents(4)...))
	s.judge()
}
