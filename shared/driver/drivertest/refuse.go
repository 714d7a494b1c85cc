package drivertest

import (
	"fmt"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// poison makes an event that the target refuses for good. Others of its document
// may be refused with it.
func (s *stand) poison(document string) driver.Event {
	if s.h.Refuse != nil {
		s.h.Refuse(document)
		return s.events(document)[0]
	}
	return s.next(Key, document, s.sized(2*s.h.MaxEvent))
}

// sized is data of about so many bytes, which compression makes little of.
func (s *stand) sized(bytes int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	random := make([]byte, bytes/2)
	for i := range random {
		random[i] = byte(s.rng.Uint32())
	}
	return fmt.Appendf(nil, `{"x":"%x"}`, random)
}

func stopsBehind(s *stand) {
	d := s.open()
	s.wantDelivered(d, s.events("bad", "a", "bad"))
	batch := append(s.events("a"), s.poison("bad"))
	batch = append(batch, s.events("b", "bad", "a", "bad")...)
	s.want(s.deliver(d, batch), "dRdudu")
	s.judgeOnce()
}

func refusesAlone(s *stand) {
	d := s.open()
	batch := s.mixed(60, documents(6)...)
	batch = append(batch, s.poison("bad"))
	batch = append(batch, s.mixed(60, documents(6)...)...)
	outs := s.deliver(d, batch)
	s.want(outs, strings.Repeat("d", 60)+"R"+strings.Repeat("d", 60))
	s.wantDelivered(d, s.mixed(20, documents(6)...))
	s.judgeOnce()
}

func refusesForGood(s *stand) {
	d := s.open()
	batch := []driver.Event{s.poison("bad")}
	for range 2 { // and says so again
		s.want(s.deliver(d, batch), "R")
	}
	s.judgeOnce()
}

func oversize(s *stand) {
	d := s.open()
	batch := s.events("a", "b")
	batch = append(batch, s.next(Key, "large", s.sized(2*s.h.MaxEvent)), s.next(Key, "fits", s.sized(s.h.MaxEvent/2)))
	batch = append(batch, s.events("a", "large", "fits", "b")...)
	s.want(s.deliver(d, batch), "ddRddudd")
	s.judgeOnce()
}
