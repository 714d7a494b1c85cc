package test

import (
	"math/rand/v2"
	"time"
)

// trouble is something that can go wrong in an arena.
type trouble struct {
	name   string
	on     string // the kind of sink that it concerns; "" for all
	place  string // what it happens to; two troubles at once happen to two
	weight int    // how often, beside the others
	early  bool   // it lies in wait for what is going to be sent
	// do lets it happen and ends it. It returns how many events may come again
	// because of it at one sink, at most, and whether it met with anything.
	do func(rng *rand.Rand) (repeats int, struck bool)
}

// crash is what a kill of the gateway, or a write of it that fails, may repeat at a
// sink: one chunk of the log.
const crash = 256

// attempt is how long the gateways of the campaign wait for an answer.
const attempt = 4 * time.Second

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}

// troubles lists what can go wrong here.
func (a *arena) troubles() []trouble {
	all := []trouble{{name: "gateway: kill -9", place: "gateway", weight: 14, do: func(rng *rand.Rand) (int, bool) {
		a.restartGateway(between(rng, 0, 50*time.Millisecond))
		return crash, true
	}}, {name: "gateway: kill -9, and again as it starts", place: "gateway", weight: 4, do: func(rng *rand.Rand) (int, bool) {
		a.restartGateway(0)
		time.Sleep(between(rng, 0, 100*time.Millisecond))
		a.restartGateway(0)
		return 2 * crash, true
	}}}
	if a.store != nil {
		all = append(all, a.storeTroubles()...)
	}
	for _, tg := range a.targets {
		if tg.restart != nil {
			all = append(all, trouble{name: tg.name + ": kill -9", on: tg.name, place: tg.name, weight: 8, do: func(rng *rand.Rand) (int, bool) {
				tg.restart()
				return tg.flight, true
			}})
		}
		if tg.proxy != nil {
			all = append(all, networkTroubles(tg)...)
		}
		if tg.hook != nil {
			all = append(all, receiverTroubles(tg)...)
		}
	}
	return all
}

// restartGateway kills the gateway and starts it again, which must succeed in the
// end, whatever else is broken.
func (a *arena) restartGateway(pause time.Duration) {
	a.g.kill()
	time.Sleep(pause)
	end := time.Now().Add(time.Minute)
	for {
		err := a.g.tryStart(30 * time.Second)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			a.t.Errorf("the gateway does not start again: %v", err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// storeTroubles are those of a store across a network.
func (a *arena) storeTroubles() []trouble {
	p := a.store
	return []trouble{
		{name: "store: connections cut", place: "store", weight: 8, do: func(rng *rand.Rand) (int, bool) {
			before, n := p.Cuts(), 1+rng.IntN(3)
			for range n {
				p.Cut()
				time.Sleep(between(rng, 0, 40*time.Millisecond))
			}
			return n * crash, p.Cuts() > before
		}},
		{name: "store: gone for a while", place: "store", weight: 5, do: func(rng *rand.Rand) (int, bool) {
			before := p.Cuts()
			p.Refuse()
			time.Sleep(between(rng, 20*time.Millisecond, 200*time.Millisecond))
			p.Heal()
			return crash, p.Cuts() > before
		}},
		{name: "store: hangs, then its connections are cut", place: "store", weight: 5, do: func(rng *rand.Rand) (int, bool) {
			before := p.Cuts()
			p.Hang()
			time.Sleep(between(rng, 5*time.Millisecond, 200*time.Millisecond))
			p.Cut()
			p.Heal()
			return crash, p.Cuts() > before
		}},
	}
}

// networkTroubles are those of any target across a network.
func networkTroubles(tg *target) []trouble {
	p := tg.proxy
	// met ends what the proxy does and counts what it severed.
	met := func(before int) (int, bool) {
		p.Heal()
		cuts := p.Cuts() - before
		return cuts * tg.flight, cuts > 0
	}
	// until waits for cuts that lie in wait.
	until := func(cuts int) {
		for end := time.Now().Add(150 * time.Millisecond); p.Cuts() < cuts && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	on := func(name string, weight int, early bool, do func(rng *rand.Rand)) trouble {
		return trouble{name: tg.name + ": " + name, on: tg.name, place: tg.name, weight: weight, early: early,
			do: func(rng *rand.Rand) (int, bool) {
				before := p.Cuts()
				do(rng)
				return met(before)
			}}
	}
	return []trouble{
		on("refuses connections for a while", 3, false, func(rng *rand.Rand) {
			p.Refuse()
			time.Sleep(between(rng, 20*time.Millisecond, 150*time.Millisecond))
		}),
		on("connections cut", 3, false, func(rng *rand.Rand) {
			for range 1 + rng.IntN(3) {
				p.Cut()
				time.Sleep(between(rng, 0, 30*time.Millisecond))
			}
		}),
		on("cut in the middle of a request", 4, true, func(rng *rand.Rand) {
			for range 1 + rng.IntN(3) {
				cuts := p.Cuts()
				p.CutRequests(rng.Int64N(40_000))
				until(cuts + 1)
			}
		}),
		on("takes, and the answer is lost", 4, true, func(rng *rand.Rand) {
			for range 1 + rng.IntN(3) {
				cuts := p.Cuts()
				p.CutAnswers(rng.Int64N(400))
				until(cuts + 1)
			}
		}),
		on("black hole, then cut", 3, false, func(rng *rand.Rand) {
			p.Hang()
			time.Sleep(between(rng, 10*time.Millisecond, 200*time.Millisecond))
			p.Cut()
		}),
		{name: tg.name + ": black hole for a moment", on: tg.name, place: tg.name, weight: 2, do: func(rng *rand.Rand) (int, bool) {
			p.Hang()
			held := p.Held()
			time.Sleep(between(rng, 10*time.Millisecond, 200*time.Millisecond))
			p.Heal()
			select {
			case <-held:
				return 0, true // late, and nothing lost
			default:
				return 0, false
			}
		}},
		{name: tg.name + ": black hole for longer than an attempt", on: tg.name, place: tg.name, weight: 1, do: func(rng *rand.Rand) (int, bool) {
			conns := p.Accepted()
			p.Hang()
			conns -= p.Connections() // those may all give up waiting for an answer
			held := p.Held()
			time.Sleep(attempt + between(rng, 0, 300*time.Millisecond))
			p.Cut()
			p.Heal()
			repeats := (p.Accepted() - conns) * tg.flight
			select {
			case <-held:
				return repeats, true
			default:
				return repeats, false
			}
		}},
		{name: tg.name + ": slow", on: tg.name, place: tg.name, weight: 2, early: true, do: func(rng *rand.Rand) (int, bool) {
			p.Delay(between(rng, time.Millisecond, 20*time.Millisecond))
			time.Sleep(between(rng, 50*time.Millisecond, 200*time.Millisecond))
			p.Heal()
			return 0, true
		}},
	}
}

// receiverTroubles are those of a receiver over HTTP, by what it answers.
func receiverTroubles(tg *target) []trouble {
	h := tg.hook
	on := func(name string, weight int, most int, wait time.Duration, fates ...fate) trouble {
		return trouble{name: tg.name + ": " + name, on: tg.name, place: tg.name, weight: weight, early: true, do: func(rng *rand.Rand) (int, bool) {
			var all []fate
			for range 1 + rng.IntN(most) {
				all = append(all, fates[rng.IntN(len(fates))])
			}
			h.will(all, wait)
			end := time.Now().Add(150*time.Millisecond + wait)
			for h.left() > 0 && time.Now().Before(end) {
				time.Sleep(time.Millisecond)
			}
			struck := h.left() < len(all)
			return h.forgive(), struck
		}}
	}
	return []trouble{
		on("answers 500", 5, 30, 0, fail500),
		on("answers 429", 4, 30, 0, fail429),
		on("lies: takes, then resets", 5, 20, 0, takeReset),
		on("resets", 3, 20, 0, reset),
		on("slow", 3, 30, 50*time.Millisecond, slow),
		on("slow, then resets", 2, 10, 100*time.Millisecond, stall),
		on("of every kind", 5, 40, 30*time.Millisecond, take, fail500, fail429, takeReset, reset, slow, stall),
		on("takes and never answers", 1, 2, attempt, hang),
	}
}

// pick chooses by weight.
func pick(rng *rand.Rand, from []trouble) trouble {
	sum := 0
	for _, tr := range from {
		sum += tr.weight
	}
	n := rng.IntN(sum)
	for _, tr := range from {
		if n -= tr.weight; n < 0 {
			return tr
		}
	}
	panic("unreachable")
}
