package completeness_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
)

// seeded returns where chance begins: printed, or given by PEAT_SEED.
func seeded(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano() % 1_000_000)
	if s := os.Getenv("PEAT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("PEAT_SEED: %v", err)
		}
	}
	t.Logf("PEAT_SEED=%d", seed)
	return seed
}

type sent struct {
	seq  uint64
	hash change.Hash
}

// world is a formation's log and what one sink has of it.
type world struct {
	start, cursor uint64
	log           []change.Settled
	names         []string
	wants         byte // a change is wanted if its hash's first byte is not below
	floor, held   map[string]uint64
	omissions     []completeness.Omission
	delivered     map[string][]sent // what really went out
}

func (w *world) wanted(c change.Settled) bool { return c.Hash[0] >= w.wants }

func (w *world) compare() completeness.Result {
	c := completeness.NewComparison(w.start, w.cursor, w.wanted)
	for _, name := range w.names {
		r := completeness.Receipt{Document: name, Floor: w.floor[name]}
		for _, s := range w.delivered[name] {
			r.Add(s.seq, s.hash)
		}
		if r.Count > 0 || r.Floor > 0 {
			c.Receipt(r)
		}
		if from := w.held[name]; from > 0 {
			c.Hold(name, from)
		}
	}
	for _, o := range w.omissions {
		c.Omit(o)
	}
	for _, s := range w.log {
		c.Add(s)
	}
	return c.Result()
}

// deliver is what a gateway without faults sends, told the long way.
func (w *world) deliver() map[string][]sent {
	out := map[string][]sent{}
	for _, c := range w.log {
		given := func(kind completeness.OmissionKind) bool {
			return slices.ContainsFunc(w.omissions, func(o completeness.Omission) bool {
				return o.Kind == kind && o.Document == c.Document && o.From <= c.Seq && c.Seq <= o.To
			})
		}
		waits := w.held[c.Document] > 0 && c.Seq >= w.held[c.Document]
		owed := c.Position > w.start && c.Position <= w.cursor && c.Seq > w.floor[c.Document] && (w.wanted(c) || given(completeness.Skip))
		if owed && !waits && !given(completeness.Purge) {
			out[c.Document] = append(out[c.Document], sent{c.Seq, c.Hash})
		}
	}
	return out
}

func randomHash(rng *rand.Rand) (h change.Hash) {
	for i := 0; i < len(h); i += 8 {
		binary.BigEndian.PutUint64(h[i:], rng.Uint64())
	}
	return h
}

func newWorld(rng *rand.Rand) *world {
	n := 1 + rng.IntN(60)
	w := &world{floor: map[string]uint64{}, held: map[string]uint64{}}
	if rng.IntN(2) == 0 {
		w.wants = byte(rng.IntN(200))
	}
	seqs := map[string]uint64{}
	for d := range 1 + rng.IntN(4) {
		w.names = append(w.names, fmt.Sprint("d", d))
	}
	for i := range n {
		name := w.names[rng.IntN(len(w.names))]
		seqs[name]++
		w.log = append(w.log, change.Settled{Change: change.Change{Hash: randomHash(rng)}, Document: name, Seq: seqs[name], Position: uint64(i + 1)})
	}
	w.cursor = uint64(n - rng.IntN(n/4+1))
	if rng.IntN(2) == 0 {
		w.start = rng.Uint64N(w.cursor/2 + 1)
	}
	for _, name := range w.names {
		if rng.IntN(3) == 0 {
			w.floor[name] = rng.Uint64N(seqs[name]/2 + 1)
		}
		if rng.IntN(3) == 0 {
			w.held[name] = 1 + rng.Uint64N(seqs[name]+1)
		}
		for from := uint64(1); from <= seqs[name]; from += 1 + rng.Uint64N(8) {
			switch rng.IntN(4) {
			case 0:
				w.omissions = append(w.omissions, completeness.Omission{Document: name, From: from, To: from, Kind: completeness.Skip})
			case 1:
				to := from + rng.Uint64N(3)
				w.omissions = append(w.omissions, completeness.Omission{Document: name, From: from, To: to, Kind: completeness.Purge})
				from = to
			}
		}
	}
	w.delivered = w.deliver()
	return w
}

// mutations are ways to be wrong. Each says whether there was something to spoil.
var mutations = map[string]func(rng *rand.Rand, w *world, name string) bool{
	"an event was never sent": func(rng *rand.Rand, w *world, name string) bool {
		return w.spoil(rng, name, func(all []sent, i int) []sent { return slices.Delete(all, i, i+1) })
	},
	"the last was never sent": func(rng *rand.Rand, w *world, name string) bool {
		return w.spoil(rng, name, func(all []sent, _ int) []sent { return all[:len(all)-1] })
	},
	"an event was folded twice": func(rng *rand.Rand, w *world, name string) bool {
		return w.spoil(rng, name, func(all []sent, i int) []sent { return slices.Insert(all, i, all[i]) })
	},
	"an event that is not in the log": func(rng *rand.Rand, w *world, name string) bool {
		i := rng.IntN(len(w.delivered[name]) + 1)
		w.delivered[name] = slices.Insert(slices.Clone(w.delivered[name]), i, sent{uint64(1 + rng.IntN(70)), randomHash(rng)})
		return true
	},
	"an event that is not owed": func(_ *rand.Rand, w *world, name string) bool {
		for _, c := range w.log {
			it := sent{c.Seq, c.Hash}
			if c.Document != name || slices.Contains(w.delivered[name], it) {
				continue
			}
			all := append(slices.Clone(w.delivered[name]), it)
			slices.SortFunc(all, func(a, b sent) int { return int(a.seq) - int(b.seq) })
			w.delivered[name] = all
			return true
		}
		return false
	},
	"two were swapped": func(rng *rand.Rand, w *world, name string) bool {
		return w.spoil(rng, name, func(all []sent, i int) []sent {
			if len(all) > 1 {
				j := (i + 1) % len(all)
				all[i], all[j] = all[j], all[i]
			}
			return all
		})
	},
	"another hash": func(rng *rand.Rand, w *world, name string) bool {
		return w.spoil(rng, name, func(all []sent, i int) []sent {
			all[i].hash[rng.IntN(32)] ^= 1
			return all
		})
	},
	"another seq": func(rng *rand.Rand, w *world, name string) bool {
		return w.spoil(rng, name, func(all []sent, i int) []sent {
			all[i].seq++
			return all
		})
	},
	"the floor is one too high": func(_ *rand.Rand, w *world, name string) bool {
		w.floor[name]++
		return w.matters()
	},
	"the floor is one too low": func(_ *rand.Rand, w *world, name string) bool {
		if w.floor[name] == 0 {
			return false
		}
		w.floor[name]--
		return w.matters()
	},
	"a held document is let go": func(_ *rand.Rand, w *world, name string) bool {
		delete(w.held, name)
		return w.matters()
	},
	"held one too early": func(_ *rand.Rand, w *world, name string) bool {
		if w.held[name] > 1 {
			w.held[name]--
		}
		return w.matters()
	},
	"a purge is forgotten": func(_ *rand.Rand, w *world, _ string) bool {
		w.omissions = slices.DeleteFunc(w.omissions, func(o completeness.Omission) bool { return o.Kind == completeness.Purge })
		return w.matters()
	},
	"a skip is taken for a purge": func(_ *rand.Rand, w *world, _ string) bool {
		for i := range w.omissions {
			w.omissions[i].Kind = completeness.Purge
		}
		return w.matters()
	},
	"the start is one too early": func(_ *rand.Rand, w *world, _ string) bool {
		if w.start == 0 {
			return false
		}
		w.start--
		return w.matters()
	},
	"the log has a hole": func(rng *rand.Rand, w *world, _ string) bool {
		i := int(w.start) + rng.IntN(int(w.cursor-w.start)+1)
		if i >= int(w.cursor) {
			return false
		}
		w.log = slices.Delete(w.log, i, i+1)
		return true
	},
}

// spoil changes what was delivered of a document, at some event.
func (w *world) spoil(rng *rand.Rand, name string, how func([]sent, int) []sent) bool {
	all := w.delivered[name]
	if len(all) == 0 {
		return false
	}
	w.delivered[name] = how(slices.Clone(all), rng.IntN(len(all)))
	return !slices.Equal(all, w.delivered[name])
}

// matters reports whether something else is owed than was delivered.
func (w *world) matters() bool {
	owed := w.deliver()
	return slices.ContainsFunc(w.names, func(name string) bool { return !slices.Equal(owed[name], w.delivered[name]) })
}

func TestWhatIsCompleteIsSaidToBe(t *testing.T) {
	seed := seeded(t)
	tried := map[string]int{}
	for i := range uint64(400) {
		w := newWorld(rand.New(rand.NewPCG(seed, i)))
		events := 0
		for _, all := range w.delivered {
			events += len(all)
		}
		if r := w.compare(); !r.Complete || r.Through != w.cursor || r.Events != uint64(events) || len(r.Findings) > 0 {
			t.Fatalf("run %d: %d were delivered: %+v", i, events, r)
		}
		for name, spoil := range mutations {
			rng := rand.New(rand.NewPCG(seed, i))
			w := newWorld(rng)
			if !spoil(rng, w, w.names[rng.IntN(len(w.names))]) {
				continue
			}
			tried[name]++
			if r := w.compare(); r.Complete || r.Found == 0 || len(r.Findings) == 0 {
				t.Fatalf("run %d: %s: %+v", i, name, r)
			}
		}
	}
	for name := range mutations {
		if tried[name] < 10 {
			t.Errorf("%s: came up %d times", name, tried[name])
		}
	}
}
