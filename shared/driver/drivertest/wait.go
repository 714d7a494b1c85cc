package drivertest

import (
	"context"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

func untilIsUp(s *stand) {
	d, batch := s.open(), s.events("a", "b", "a")
	over, cancel := context.WithCancel(s.harness.Context())
	cancel()
	s.want(s.deliverBy(s.harness.Context(), d, batch, time.Now()), "uuu")
	s.want(s.deliverBy(over, d, batch, Soon()), "uuu")
	if got := s.judge(); len(got) != 0 {
		s.Errorf("%d events were sent", len(got))
	}
	s.wantDelivered(d, batch)
	s.want(s.deliverBy(s.harness.Context(), d, s.events("a"), time.Now()), "u")
	s.want(s.deliverBy(over, d, s.events("a"), Soon()), "u")
	s.judgeOnce()
}

// breaksOff calls off a delivery that hangs: on a connection that is there, and on
// one that is being made.
func breaksOff(s *stand) {
	for _, warm := range []bool{true, false} {
		d := s.openWith(Options{AttemptTimeout: 4 * s.limit()})
		if warm {
			s.wantDelivered(d, s.events("a"))
		}
		s.h.Proxy.Hang()
		batch := s.events("a", "b", "a", "c")
		ctx, cancel := context.WithCancel(s.harness.Context())
		defer cancel()
		out := s.begin(ctx, d, batch)
		s.held()
		cancel()
		outs := s.end(out, batch)
		if strings.ContainsAny(Verdicts(outs), "dR") {
			s.Errorf("verdicts %s: %s", Verdicts(outs), explain(outs))
		}
		for _, o := range outs {
			if o.Unreachable {
				s.Errorf("what we broke off is taken for the sink's trouble: %+v", o)
			}
		}
		s.h.Proxy.Heal()
		s.finish(d, batch)
	}
	s.judge()
}

func waitsForSlow(s *stand) {
	d := s.open()
	s.h.Proxy.Delay(300 * time.Millisecond)
	s.wantDelivered(d, s.events("a", "b", "a", "c"))
	s.judgeOnce()
}

// givesUpHanging lets the time of an attempt run out, on a connection that is
// there and on one that is being made.
func givesUpHanging(s *stand) {
	for _, warm := range []bool{true, false} {
		d := s.openWith(Options{AttemptTimeout: 500 * time.Millisecond * time.Duration(1+s.h.Slow)})
		if warm {
			s.finish(d, s.events("a"))
		}
		s.h.Proxy.Hang()
		batch := s.events("a", "b", "a", "c")
		s.wantTrouble(s.end(s.begin(s.harness.Context(), d, batch), batch), false)
		s.h.Proxy.Heal()
		s.finish(d, batch)
	}
	s.judge()
}

func waitsForBusy(s *stand) {
	d := s.open()
	s.wantDelivered(d, s.events("a"))
	s.h.Busy(true)
	batch := s.events("a", "b", "a", "c")
	for range 2 {
		s.wantTrouble(s.deliver(d, batch), false)
	}
	s.h.Busy(false)
	s.finish(d, batch)
	s.judgeOnce()
}

func heedsNotBefore(s *stand) {
	d, batch := s.open(), s.events("a", "b", "a")
	s.h.Busy(true)
	begun := time.Now()
	outs := s.deliver(d, batch)
	s.wantTrouble(outs, false)
	// What travels may be as coarse as a second.
	earliest, latest := begun.Add(s.h.Asks-2*time.Second), time.Now().Add(s.h.Asks+2*time.Second)
	for _, o := range outs {
		if o.Verdict == driver.Retry && (o.NotBefore.Before(earliest) || o.NotBefore.After(latest)) {
			s.Errorf("asked to be left alone for %s at %s, and the answer is %+v", s.h.Asks, begun, o)
		}
	}
	s.h.Busy(false)
	s.finish(d, batch)
	s.judgeOnce()
}
