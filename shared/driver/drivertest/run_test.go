package drivertest

import (
	"slices"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// inHall is the harness of the reference driver with the flaws given.
func inHall(t *testing.T, f flaws) Harness {
	x := openHall(t)
	p := NewProxy(t, x.addr)
	return Harness{
		Open: func(t testing.TB, o Options) driver.Driver {
			x.mu.Lock()
			password := x.password
			x.mu.Unlock()
			if o.Wrong {
				password = "wrong"
			}
			d := newReference(p.Addr(), password, o, f)
			t.Cleanup(func() { _ = d.Close() })
			return d
		},
		Received: func(testing.TB) []Received {
			x.mu.Lock()
			defer x.mu.Unlock()
			return slices.Clone(x.got)
		},
		Cannot:  map[Promise]string{DropsRepeats: "a hall remembers nothing"},
		Proxy:   p,
		Kill:    x.kill,
		Restart: x.restart,
		Refuse: func(document string) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.refused[document] = true
		},
		Busy: func(busy bool) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.busy = busy
		},
		Asks: time.Minute, MaxEvent: hallMax, Denies: true, Secrets: []string{"hush"},
		Rotate: func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.password = "hush again"
		},
	}
}

func TestReferenceDriverKeepsItsPromises(t *testing.T) {
	Run(t, func(t *testing.T) Harness { return inHall(t, flaws{}) })
}

func TestDeclarations(t *testing.T) {
	for name, tc := range map[string]struct {
		promise Promise
		change  func(h *Harness)
		fails   bool
	}{
		"kept":                           {Delivers, func(*Harness) {}, false},
		"not kept":                       {DropsRepeats, func(h *Harness) { h.Cannot = nil }, true},
		"declared, and kept":             {Delivers, func(h *Harness) { h.Cannot = map[Promise]string{Delivers: "It does not."} }, true},
		"declared, and not kept":         {DropsRepeats, func(*Harness) {}, false},
		"cannot be tried":                {SaysUnreachable, func(h *Harness) { h.Proxy = nil }, true},
		"cannot be tried, and declared":  {SaysUnreachable, func(h *Harness) { h.Proxy, h.Cannot = nil, map[Promise]string{SaysUnreachable: "No net."} }, false},
		"another is declared, and lacks": {HeedsNotBefore, func(h *Harness) { h.Asks = 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := inHall(t, flaws{})
			tc.change(&h)
			p := promises[slices.IndexFunc(promises, func(p promise) bool { return p.name == tc.promise })]
			if r := attempt(t, func(r *recorder) { p.hold(r, t, h, 1) }); r.Failed() != tc.fails {
				t.Errorf("failed %t, want %t: %s", r.Failed(), tc.fails, r.said)
			}
		})
	}
}

// Every promise must catch somebody, or it promises nothing.
func TestFlawsAreFound(t *testing.T) {
	caught := map[Promise]bool{DropsRepeats: true} // by declaring, below
	for name, tc := range map[string]struct {
		flaws  flaws
		breaks []Promise
	}{
		"acknowledges what it never sent":     {flaws{lies: true}, []Promise{Delivers, Huge, RefusesAlone, Oversize}},
		"swaps events":                        {flaws{swaps: true}, []Promise{KeepsOrder, KeepsOrderOver, Formations}},
		"sends what is behind a failure":      {flaws{goesOn: true}, []Promise{StopsBehind}},
		"has a new id for each repeat":        {flaws{renames: true}, []Promise{EqualIDs}},
		"tries again what is refused":         {flaws{retriesRefused: true}, []Promise{RefusesForGood, RefusesAlone, Oversize}},
		"takes busy for refused":              {flaws{refusesBusy: true}, []Promise{WaitsForBusy}},
		"forgets when to come back":           {flaws{forgetsTime: true}, []Promise{HeedsNotBefore}},
		"begins when time is up":              {flaws{late: true}, []Promise{Until}},
		"takes being called off for trouble":  {flaws{cancelIsTrouble: true}, []Promise{Until, BreaksOff}},
		"takes what it sent for delivered":    {flaws{believes: true}, []Promise{GivesUpHanging, SurvivesCut, SurvivesKill, Whatever}},
		"tells addresses":                     {flaws{tells: true}, []Promise{SaysUnreachable, KeepsSecrets}},
		"tells passwords":                     {flaws{blabs: true}, []Promise{KeepsSecrets}},
		"leaves connections behind":           {flaws{leaks: true}, []Promise{LeavesNothing}},
		"goes wherever it is told":            {flaws{unguarded: true}, []Promise{Guarded}},
		"loses an attribute":                  {flaws{loses: true}, []Promise{Delivers, AnyDocument}},
		"makes one of two documents":          {flaws{mixes: true}, []Promise{AnyDocument, AnyData}},
		"has no patience":                     {flaws{hasty: true}, []Promise{WaitsForSlow}},
		"never connects again":                {flaws{oneLife: true}, []Promise{SurvivesRestart, SurvivesLostReply}},
		"does not hear that it is called off": {flaws{deaf: true}, []Promise{BreaksOff}},
		"waits for ever":                      {flaws{patient: true}, []Promise{GivesUpHanging, CloseEnds}},
		"answers for events there are none":   {flaws{talks: true}, []Promise{Empty}},
		"takes wrong credentials for a quirk": {flaws{silent: true}, []Promise{SaysDenied, TakesRotation}},
	} {
		for _, p := range promises {
			if !slices.Contains(tc.breaks, p.name) {
				continue
			}
			caught[p.name] = true
			t.Run(name+"/"+string(p.name), func(t *testing.T) {
				t.Parallel()
				if r := attempt(t, func(r *recorder) {
					s := newStand(r, t, inHall(t, tc.flaws), 1)
					s.patience = 3 * time.Second
					p.try(s)
				}); !r.Failed() {
					t.Error("is not found")
				} else {
					t.Logf("%.200s", r.said)
				}
			})
		}
	}
	for _, p := range promises {
		if !caught[p.name] {
			t.Errorf("%q catches nobody", p.name)
		}
	}
}
