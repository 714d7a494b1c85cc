package drivertest

import (
	"runtime"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

func saysDenied(s *stand) {
	batch := s.events("a", "b", "a")
	outs := s.deliver(s.openWith(Options{Wrong: true}), batch)
	s.wantTrouble(outs, true)
	// Not what a target says that is not there at all.
	if s.h.Proxy != nil {
		s.h.Proxy.Refuse()
		silent := s.deliver(s.openWith(Options{Wrong: true}), batch)
		s.h.Proxy.Heal()
		if outs[0].Reason == silent[0].Reason {
			s.Errorf("denied and not there are the same: %q", outs[0].Reason)
		}
	}
	s.finish(s.open(), batch)
	s.judgeOnce()
}

func takesRotation(s *stand) {
	old := s.openWith(s.brief())
	s.wantDelivered(old, s.events("a", "b"))
	s.h.Rotate()
	s.h.Proxy.Cut() // who is in already may stay for as long as the connection
	batch := s.events("a", "b", "a")
	s.wantTrouble(s.deliver(old, batch), false)
	s.wantTrouble(s.deliver(old, batch), true)
	s.finish(s.openWith(s.brief()), batch)
	s.judgeOnce()
}

// keepsSecrets brings about every failure there is; audit looks at the reasons.
func keepsSecrets(s *stand) {
	hasty := Options{AttemptTimeout: time.Second}
	for _, break_ := range []func(){s.h.Proxy.Refuse, s.h.Proxy.Hang, func() { s.h.Proxy.CutRequests(0) }, func() { s.h.Proxy.CutAnswers(0) }} {
		d := s.openWith(hasty)
		break_()
		s.deliver(d, s.events("a"))
		s.h.Proxy.Heal()
	}
	if s.h.Denies {
		s.deliver(s.openWith(Options{Wrong: true}), s.events("b"))
	}
	if s.h.Busy != nil {
		s.h.Busy(true)
		s.deliver(s.open(), s.events("c"))
		s.h.Busy(false)
	}
	if s.h.Refuse != nil {
		s.h.Refuse("d")
		s.deliver(s.open(), s.events("d"))
	}
	if len(s.reasons) < 2 {
		s.Errorf("only %d failures: %q", len(s.reasons), s.reasons)
	}
}

func guarded(s *stand) {
	before := s.h.Proxy.Accepted()
	batch := s.events("a", "b", "a")
	outs := s.deliver(s.openWith(Options{Guarded: true}), batch)
	s.wantTrouble(outs, true)
	if outs[0].Reason != netguard.ErrForbidden.Error() {
		s.Errorf("the reason is %q", outs[0].Reason)
	}
	if after := s.h.Proxy.Accepted(); after != before {
		s.Errorf("%d connections were made", after-before)
	}
	s.finish(s.open(), batch)
	s.judgeOnce()
}

func closeEnds(s *stand) {
	d := s.openWith(s.brief())
	s.finish(d, s.events("a"))
	s.h.Proxy.Hang()
	batch := s.events("a", "b", "a")
	out := s.begin(s.harness.Context(), d, batch)
	s.held()
	closed := make(chan error, 1)
	go func() { closed <- d.Close() }()
	outs := s.end(out, batch)
	for _, o := range outs {
		if o.Verdict == driver.Delivered || o.Verdict == driver.Refused {
			s.Errorf("%+v", o)
		}
	}
	select {
	case err := <-closed:
		if err != nil {
			s.Errorf("close: %v", err)
		}
	case <-time.After(s.limit()):
		s.Fatalf("Close does not return")
	}
	s.h.Proxy.Heal()
	s.finish(s.open(), batch)
	s.judge()
}

// leavesNothing opens many, since a test's server and the runtime have goroutines
// of their own that come and go.
func leavesNothing(s *stand) {
	use := func(n int) {
		var open []driver.Driver
		for range n {
			d := s.open()
			s.wantDelivered(d, s.events("a"))
			open = append(open, d)
		}
		for _, d := range slices.Backward(open) {
			if err := d.Close(); err != nil {
				s.Errorf("close: %v", err)
			}
			if err := d.Close(); err != nil {
				s.Errorf("close again: %v", err)
			}
		}
	}
	connections := func() int {
		if s.h.Proxy == nil {
			return 0
		}
		return s.h.Proxy.Connections()
	}
	use(1)
	goroutines, links := runtime.NumGoroutine(), connections()
	const many = 20
	use(many)
	for end := time.Now().Add(s.limit()); runtime.NumGoroutine() >= goroutines+many || connections() > links; {
		if time.Now().After(end) {
			s.Fatalf("%d goroutines and %d connections more than before", runtime.NumGoroutine()-goroutines, connections()-links)
		}
		time.Sleep(10 * time.Millisecond) // nothing tells when the last goroutine ends
	}
	s.judgeOnce()
}
