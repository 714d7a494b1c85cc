package test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// runsPerArena bounds what one gateway and its targets accumulate, so that the
// ten thousandth run costs what the first did.
const runsPerArena = 50

// TestFaults is the campaign: runs in each of which two organizations' peers write
// while something breaks. Whatever breaks, everything that was acknowledged to a
// peer arrives at every sink of its organization and at no other's, each document
// in order, and comes again no more than what was on its way explains.
//
//	faults_arena_test.go   a run            faults_kinds_test.go   what breaks
//	faults_target_test.go  the receivers    faults_oracle_test.go  the judge
//	faults_peer_test.go    the peers
//
// PEAT_FAULT_RUNS says how many; PEAT_SEED repeats their decisions.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes minutes")
	}
	runs := 500
	if s := os.Getenv("PEAT_FAULT_RUNS"); s != "" {
		var err error
		if runs, err = strconv.Atoi(s); err != nil || runs < 1 {
			t.Fatalf("PEAT_FAULT_RUNS: %q", s)
		}
	}
	_, seed := seeded(t)
	c := newCampaign(seed)
	made := histories(2*400, 15)
	defer func() { c.report(t) }()
	t.Run("arenas", func(t *testing.T) {
		for first := 0; first < runs; first += runsPerArena {
			last := min(runs, first+runsPerArena)
			name := [...]string{"sqlite", "postgres"}[first/runsPerArena%2]
			t.Run(fmt.Sprintf("%s from %d", name, first), func(t *testing.T) {
				t.Parallel()
				everySink(t, c, name, made).runs(first, last)
			})
		}
	})
}

// everySink is an arena with a sink of each kind.
func everySink(t *testing.T, c *campaign, store string, made []history) *arena {
	targets := func(g *gateway, orgs []string) []*target {
		return []*target{webhookTarget(t), fileTarget(g.sinkFile("")), natsTarget(t), redisTarget(t), fakeKafkaTarget(t, orgs...)}
	}
	if store == "postgres" {
		env, proxy := postgresThroughProxy(t)
		return newArena(t, c, made, env, proxy, targets)
	}
	return newArena(t, c, made, nil, nil, targets)
}

// runs lets runs take place until one fails: what it left would be held against
// those after it.
func (a *arena) runs(first, last int) {
	for n := first; n < last && !a.t.Failed(); n++ {
		a.run(n, rand.New(rand.NewPCG(a.c.seed, uint64(n))))
	}
}

// TestFaultsOfKafka is the campaign with a real broker, which takes seconds to die
// and to come back, so its runs are few.
func TestFaultsOfKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes a minute")
	}
	_, seed := seeded(t)
	c := newCampaign(seed)
	defer func() { c.report(t) }()
	broker := testenv.Kafka(t)
	a := newArena(t, c, histories(2*200, 10), nil, nil, func(g *gateway, orgs []string) []*target {
		for _, org := range orgs {
			broker.Topic(t, org+"."+campaignApp, 4)
		}
		kafka := kafkaTarget(broker.Plaintext, nil)
		kafka.restart = func() { broker.Kill(); broker.Restart(t) }
		return []*target{kafka}
	})
	a.runs(0, 4)
}

// campaign is what the runs came to.
type campaign struct {
	seed  uint64
	began time.Time

	mu       sync.Mutex
	runs     int
	pairs    int // runs with two troubles at once
	events   int
	longest  time.Duration
	troubles map[string]*tally
	repeats  map[string]*tally // by kind of sink
	offences map[offence]int
}

type tally struct {
	runs, struck  int
	repeats, most int
	took          time.Duration
}

func newCampaign(seed uint64) *campaign {
	return &campaign{seed: seed, began: time.Now(), troubles: map[string]*tally{}, repeats: map[string]*tally{}, offences: map[offence]int{}}
}

func of(m map[string]*tally, name string) *tally {
	if m[name] == nil {
		m[name] = &tally{}
	}
	return m[name]
}

// ran counts a run.
func (c *campaign) ran(chosen []trouble, struck []bool, events int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs++
	c.events += events
	c.longest = max(c.longest, took)
	for i, tr := range chosen {
		n := of(c.troubles, tr.name)
		n.runs++
		n.took += took
		if struck[i] {
			n.struck++
		}
	}
	if len(chosen) > 1 {
		c.pairs++
	}
}

// judged counts what a sink's part of a run came to.
func (c *campaign) judged(sink string, chosen []trouble, repeats int, offences map[offence]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tallies := []*tally{of(c.repeats, sink)}
	if len(chosen) == 1 { // of two nobody knows which it was
		tallies = append(tallies, of(c.troubles, chosen[0].name))
	}
	for _, n := range tallies {
		n.repeats += repeats
		n.most = max(n.most, repeats)
	}
	for o, n := range offences {
		c.offences[o] += n
	}
}

func (c *campaign) report(t *testing.T) {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "runs\tmet something\tcame again\tmost at once\tmean time\t  what broke")
	for _, name := range slices.Sorted(maps.Keys(c.troubles)) {
		n := c.troubles[name]
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\t  %s\n", n.runs, n.struck, n.repeats, n.most, (n.took / time.Duration(max(1, n.runs))).Round(time.Millisecond), name)
	}
	w.Flush()
	t.Logf("by what broke:\n%s", out.String())
	var again []string
	for _, name := range slices.Sorted(maps.Keys(c.repeats)) {
		again = append(again, fmt.Sprintf("%s %d (at most %d at once)", name, c.repeats[name].repeats, c.repeats[name].most))
	}
	t.Logf("%d runs, %d of them with two at once; %d events to each sink of their organization: %d lost, %d out of order, %d foreign, %d altered, %d too many again; "+
		"came again: %s; PEAT_SEED=%d; %s, the longest run %s",
		c.runs, c.pairs, c.events, c.offences[lost], c.offences[disorder], c.offences[foreign], c.offences[altered], c.offences[repeated],
		strings.Join(again, ", "), c.seed, time.Since(c.began).Round(time.Second), c.longest.Round(time.Millisecond))
}
