package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// arena is a gateway with two organizations, their peers, and a sink of each kind
// for each, in which one run after another takes place.
type arena struct {
	t       *testing.T
	c       *campaign
	g       *gateway
	store   *drivertest.Proxy // to the database; nil with SQLite
	targets []*target
	sides   []*side
	meter   meter // of all arrivals of the run
	before  map[*ledger]int
}

// side is one organization.
type side struct {
	org, formation string
	author         *author
	documents      []history
	written        []int // of each of documents, how many changes
	total          int
	ledgers        []*ledger // in the order of the arena's targets
}

// campaignLimit is more than anything takes that ends at all.
const campaignLimit = 90 * time.Second

// newArena starts everything. made is what the two organizations are going to
// write, half of it each.
func newArena(t *testing.T, c *campaign, made []history, env []string, store *drivertest.Proxy, targets func(g *gateway, orgs []string) []*target) *arena {
	a := &arena{t: t, c: c, store: store, before: map[*ledger]int{}}
	a.g = startGateway(t, options{env: append(env, "PEAT_RETRY_LADDER=20ms,50ms,100ms,250ms", "PEAT_ATTEMPT_TIMEOUT="+attempt.String())})
	orgs := []string{"acme", "globex"}
	a.targets = targets(a.g, orgs)
	ctx, stop := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	t.Cleanup(func() { stop(); reading.Wait() })
	for n, org := range orgs {
		s := &side{org: org, formation: a.g.formation(org, campaignApp), documents: made[n*len(made)/2 : (n+1)*len(made)/2]}
		s.written = make([]int, len(s.documents))
		s.author = &author{t: t, name: "author", url: a.g.ticket(s.formation, map[string]any{"ttl_seconds": 86400}).URL}
		chains := map[string]history{}
		for _, h := range s.documents {
			chains[h.id] = h
		}
		for _, tg := range a.targets {
			l := newLedger(org, campaignApp, tg.name, chains)
			l.meter = &a.meter
			s.ledgers = append(s.ledgers, l)
			reading.Go(func() { tg.read(ctx, org, l.take) })
			a.g.sink(s.formation, tg.kind, tg.config(org))
		}
		a.sides = append(a.sides, s)
	}
	return a
}

// postgresThroughProxy returns the settings of a store whose connections can break.
func postgresThroughProxy(t *testing.T) ([]string, *drivertest.Proxy) {
	u, err := url.Parse(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	p := drivertest.NewProxy(t, u.Host)
	u.Host = p.Addr()
	return []string{"PEAT_DATABASE_URL=" + u.String()}, p
}

// burst chooses what an organization's peer writes in a run. Most are small, so
// that many runs fit; some are more than a crash may repeat.
func (s *side) burst(rng *rand.Rand) []stretch {
	documents, changes := 2+rng.IntN(20), 1+rng.IntN(6)
	if rng.IntN(20) == 0 {
		documents, changes = len(s.documents), 5
	}
	var out []stretch
	for _, d := range rng.Perm(len(s.documents)) {
		left := len(s.documents[d].chunks) - s.written[d]
		if n := min(left, 1+rng.IntN(changes)); n > 0 && len(out) < documents {
			out = append(out, stretch{s.documents[d], s.written[d], s.written[d] + n})
			s.written[d] += n
			s.total += n
		}
	}
	return out
}

// split divides every document's stretch among so many waves, so that a document
// that waits for its sink meets with more of itself.
func split(burst []stretch, n int) [][]stretch {
	waves := make([][]stretch, n)
	for _, s := range burst {
		for w := range n {
			part := stretch{s.history, s.from + (s.to-s.from)*w/n, s.from + (s.to-s.from)*(w+1)/n}
			if part.from < part.to {
				waves[w] = append(waves[w], part)
			}
		}
	}
	return waves
}

// run is one episode: peers write, something goes wrong while that is being
// delivered, everything is whole again, and every sink is judged.
func (a *arena) run(n int, rng *rand.Rand) {
	began := time.Now()
	all := a.troubles()
	chosen := []trouble{pick(rng, all)}
	if rng.IntN(5) == 0 {
		chosen = append(chosen, pick(rng, slices.DeleteFunc(all, func(tr trouble) bool { return tr.place == chosen[0].place })))
	}
	names := chosen[0].name
	if len(chosen) > 1 {
		names += " + " + chosen[1].name
	}
	bursts, expected := make([][]stretch, len(a.sides)), 0
	for i, s := range a.sides {
		before := s.total
		bursts[i] = s.burst(rng)
		expected += (s.total - before) * len(a.targets)
	}
	fail := func(format string, args ...any) {
		a.t.Errorf("run %d of PEAT_SEED=%d, %s: %s", n, a.c.seed, names, fmt.Sprintf(format, args...))
	}

	var wg sync.WaitGroup
	start := a.meter.count()
	var mu sync.Mutex
	allowed := map[string]int{}
	struck := make([]bool, len(chosen))
	for i, tr := range chosen {
		own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		at := 0
		if !tr.early {
			at = own.IntN(1 + expected*3/4)
		}
		wg.Go(func() {
			select {
			case <-a.meter.reach(start + at):
			case <-time.After(campaignLimit): // something else is wrong; let it show
			}
			repeats, met := tr.do(own)
			mu.Lock()
			defer mu.Unlock()
			allowed[tr.on] += repeats
			struck[i] = met
		})
	}
	for i, s := range a.sides {
		waves := split(bursts[i], 1+rng.IntN(4))
		wg.Go(func() {
			for _, w := range waves {
				if err := s.author.bring(w, campaignLimit); err != nil {
					fail("%s: %v", s.org, err)
				}
			}
		})
	}
	wg.Wait()
	written := time.Since(began)
	a.settle(fail)
	if took := time.Since(began); took > campaignLimit/4 {
		a.t.Logf("run %d, %s: took %s, of which everything was written and healed after %s", n, names, took, written)
	}
	events := a.judge(bursts, allowed, chosen, fail)
	a.c.ran(chosen, struck, events, time.Since(began))
}

// settle returns when everything that was written has arrived everywhere, and the
// gateway knows that it has.
func (a *arena) settle(fail func(string, ...any)) {
	timeout := time.After(campaignLimit)
	for _, s := range a.sides {
		for _, l := range s.ledgers {
			select {
			case <-l.firsts.reach(s.total):
			case <-timeout:
				fail("%s's %s sink: %d of %d events after %s; %s", s.org, l.sink, l.firsts.count(), s.total, campaignLimit, a.g.lags(a.t, s.formation))
				return
			}
		}
	}
	for _, s := range a.sides {
		for end := time.Now().Add(campaignLimit); ; time.Sleep(5 * time.Millisecond) {
			behind, said := a.behind(s)
			if !behind {
				break
			}
			if time.Now().After(end) {
				fail("%s: everything has arrived, and after %s the gateway does not know: %s", s.org, campaignLimit, said)
				return
			}
		}
	}
}

// behind reports whether some sink has, by its own account, something to deliver.
func (a *arena) behind(s *side) (bool, string) {
	var page struct {
		Items []sink `json:"items"`
	}
	status, said := a.g.call("GET", s.formation+"/cdc/sinks", nil, &page)
	if status != 200 || len(page.Items) != len(a.targets) {
		return true, fmt.Sprintf("%d %s", status, said)
	}
	return slices.ContainsFunc(page.Items, func(s sink) bool { return s.Lag.Events > 0 }), said
}

// judge judges every sink on the run. What may come again was on its way when
// something broke, in this run or, if it was held up, in the one before.
func (a *arena) judge(bursts [][]stretch, allowed map[string]int, chosen []trouble, fail func(string, ...any)) (events int) {
	for i, s := range a.sides {
		documents := map[string]int{}
		for _, st := range bursts[i] {
			documents[st.id] = st.to
			events += st.to - st.from
		}
		for _, l := range s.ledgers {
			now := allowed[""] + allowed[l.sink]
			repeats := l.judge(documents, s.total, now+a.before[l])
			a.before[l] = max(0, now-repeats)
			offences, problems := l.verdict()
			if len(offences) > 0 {
				fail("%s's %s sink: %v\n%s", s.org, l.sink, offences, strings.Join(problems, "\n"))
			}
			a.c.judged(l.sink, chosen, repeats, offences)
		}
	}
	return events
}
