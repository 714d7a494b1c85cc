package test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestKill: while peers edit and one receiver fails at random, the process is
// killed again and again at moments that nobody chose. In the end nothing is
// lost, nothing is out of order, and what came twice came with the same id.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes minutes")
	}
	testenv.Node(t)
	for name, env := range map[string]func(t *testing.T) []string{
		"sqlite":   func(*testing.T) []string { return nil },
		"postgres": func(t *testing.T) []string { return []string{"PEAT_DATABASE_URL=" + testenv.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) { killRun(t, env(t)) })
	}
}

func killRun(t *testing.T, env []string) {
	kills := 50
	if s := os.Getenv("PEAT_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatalf("PEAT_KILLS: %v", err)
		}
	}
	rng, seed := seeded(t)
	g := startGateway(t, options{env: append(env, "PEAT_RETRY_LADDER=20ms,50ms,100ms,250ms")})
	formation := g.formation("acme", "logistics")
	// The receiver has its own chance, so that its answers and the moments of
	// killing do not hang together by who asks first.
	receiver := rand.New(rand.NewPCG(seed, 1))
	sinks := threeSinks(t, g, formation, fickle(receiver, 0.05))

	const changes = 2000
	p := startPeers(t, peersJob{
		URLs: g.urls(formation, 3), Documents: 50, Changes: changes, Seed: seed,
		Rate: max(20, changes/max(kills, 1)), TimeoutS: 300,
	})
	started, down := time.Now(), time.Duration(0)
	during := 0 // kills while peers still edited
	for k := range kills {
		time.Sleep(time.Duration(20+rng.IntN(800)) * time.Millisecond)
		g.kill()
		select {
		case <-p.edited:
		default:
			during++
		}
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond)
		begin := time.Now()
		if err := g.tryStart(60 * time.Second); err != nil {
			t.Fatalf("start after kill %d (%s into the run): %v\n%s", k+1, time.Since(started), err, g.logs)
		}
		down += time.Since(begin)
	}
	t.Logf("%d kills in %s, %d of them while peers edited; a start took %s on average",
		kills, time.Since(started).Round(time.Second), during, (down / time.Duration(max(kills, 1))).Round(time.Millisecond))

	r := p.wait(6 * time.Minute)
	if r.count() != changes {
		t.Fatalf("the peers made %d changes", r.count())
	}
	sinks.wait(t, r.count(), 4*time.Minute)
	events := sinks.judge(t, r, "acme", "logistics")
	mustMatchLibrary(t, r, events)
	if letters := g.deadLetters(formation, sinks.hookSink.ID); len(letters) > 0 {
		t.Errorf("%d documents were parked, though every failure was one to try again after: %+v", len(letters), letters[0])
	}
	if kills >= 20 && during < kills/2 {
		t.Errorf("only %d of %d kills came while peers edited", during, kills)
	}
}
