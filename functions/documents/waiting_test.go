package documents

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestSeats(t *testing.T) {
	s := newSeats(8) // two for each organization
	var leave []func()
	for _, step := range []struct {
		what string
		org  tenant.OrgID
		want error
	}{
		{"the first", "a", nil},
		{"the second", "a", nil},
		{"more than its share", "a", fault.Exhausted},
		{"another organization's", "b", nil},
		{"its second", "b", nil},
		{"a third organization's", "c", nil},
		{"its second", "c", nil},
		{"a fourth organization's", "d", nil},
		{"its second, the last there is", "d", nil},
		{"one too many", "e", fault.Unavailable},
	} {
		l, err := s.take(step.org)
		if !errors.Is(err, step.want) {
			t.Fatalf("%s: %v, want %v", step.what, err, step.want)
		}
		if err == nil {
			leave = append(leave, l)
		}
	}
	leave[0]()
	leave[0]() // leaving twice frees one seat
	if _, err := s.take("b"); !errors.Is(err, fault.Exhausted) {
		t.Errorf("b has its share: %v", err)
	}
	l, err := s.take("e")
	if err != nil {
		t.Fatalf("the free seat: %v", err)
	}
	if _, err := s.take("e"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("two came free by one leaving: %v", err)
	}
	l()
	s.close()
	if _, err := s.take("a"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
	for _, l := range leave {
		l()
	}
	s.wait()
}

// A hundred who wait for one log cause one look at a time, not a hundred.
func TestOneLookServesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		b := newBells(func(context.Context, tenant.Key) (uint64, error) { looks++; return 7, nil }, time.Second, slog.New(slog.DiscardHandler))
		defer b.wait()
		var joined []*bell
		for range 100 {
			joined = append(joined, b.join(key))
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if looks != 10 {
			t.Errorf("%d looks in ten seconds, want 10", looks)
		}
		for _, l := range joined {
			b.leave(l)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if looks != 10 || len(b.byKey) != 0 {
			t.Errorf("%d looks, %d bells, with nobody waiting", looks-10, len(b.byKey))
		}
		b.stop()
	})
}

func TestWhatRings(t *testing.T) {
	type look struct {
		position uint64
		err      error
	}
	for name, tc := range map[string]struct {
		looks []look // after the first, which always rings: what was before is not known
		want  int
	}{
		"a log that rests":                 {[]look{{7, nil}, {7, nil}}, 0},
		"a log that grows":                 {[]look{{8, nil}, {9, nil}, {9, nil}}, 2},
		"a log that is shorter: a new one": {[]look{{1, nil}}, 1},
		"a formation that is gone":         {[]look{{0, fault.NotFound.New("gone")}}, 1},
		"a new one as long as the old":     {[]look{{0, fault.NotFound.New("gone")}, {7, nil}}, 2},
		"a store that is down for a while": {[]look{{0, errors.New("down")}, {7, nil}}, 0},
		"growth while the store was down":  {[]look{{0, errors.New("down")}, {8, nil}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks := append([]look{{7, nil}}, tc.looks...)
				b := newBells(func(context.Context, tenant.Key) (uint64, error) {
					l := looks[0]
					looks = looks[1:]
					return l.position, l.err
				}, time.Second, slog.New(slog.DiscardHandler))
				l := b.join(key)
				rings := -1
				for range len(tc.looks) + 1 {
					rung := b.next(l)
					time.Sleep(time.Second)
					synctest.Wait()
					select {
					case <-rung:
						rings++
					default:
					}
				}
				b.stop()
				b.leave(l)
				b.wait()
				if rings != tc.want {
					t.Errorf("rang %d times, want %d", rings, tc.want)
				}
			})
		})
	}
}
