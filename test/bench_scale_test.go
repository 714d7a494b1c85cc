package test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// benchScale: what a delivery costs, with few and with many sinks and formations.
// The number of deliveries is the same, so that the times compare.
func benchScale(b *testing.B, t *table, env []string) {
	const deliveries = 100_000
	var counted atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	cost := map[string]float64{}
	for _, c := range []struct {
		name              string
		sinks, formations int
	}{
		{"10 sinks, 1 formation", 10, 1}, {"1,000 sinks, 1 formation", 1000, 1},
		{"1 sink, 1 formation", 1, 1}, {"1 sink, 1,000 formations", 1, 1000},
	} {
		g := startGateway(b, options{env: env})
		g.roomy("scale")
		var keys []tenant.Key
		for f := range c.formations {
			app := fmt.Sprintf("f%d", f)
			g.do("POST", "/orgs/scale/formations", map[string]any{"app_id": app, "enrollment_policy": "open"}, nil, 201)
			keys = append(keys, tenant.Key{Org: "scale", App: tenant.AppID(app)})
		}
		changes := deliveries / c.sinks / c.formations
		fill(b, g, env, keys, min(changes, 50), changes)
		before, cpu, begin := counted.Load(), g.cpu(), time.Now()
		for range c.sinks {
			g.do("POST", "/orgs/scale/cdc/sinks", map[string]any{"kind": "webhook", "config": map[string]any{"url": receiver.URL},
				"formations": []string{"*"}, "start": "beginning"}, nil, 201)
		}
		within(b, 10*time.Minute, c.name, func() (bool, string) {
			got := counted.Load() - before
			return got >= deliveries, fmt.Sprintf("%d of %d", got, deliveries)
		})
		spent := g.cpu() - cpu
		cost[c.name] = spent.Seconds()
		t.row("cost: "+c.name, fmt.Sprintf("%.0f µs of CPU per delivery", spent.Seconds()/deliveries*1e6),
			fmt.Sprintf("%d deliveries in %s, %d MB resident", deliveries, time.Since(begin).Round(100*time.Millisecond), g.residentMB()))
		g.kill()
	}
	t.row("1,000 sinks for 10", fmt.Sprintf("%.2f times the cost of a delivery", cost["1,000 sinks, 1 formation"]/cost["10 sinks, 1 formation"]), "")
	t.row("1,000 formations for 1", fmt.Sprintf("%.2f times the cost of a delivery", cost["1 sink, 1,000 formations"]/cost["1 sink, 1 formation"]), "")
}

// cpu is how much processor time the gateway has used.
func (g *gateway) cpu() time.Duration {
	g.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		g.t.Skipf("no /proc: %v", err)
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		g.t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // a tick is 1/100 s on Linux
}

// benchCatchUp: a NATS sink that begins a million events behind. The server is not
// the gateway's own, so that the memory of one is not taken for that of the other.
func benchCatchUp(b *testing.B, t *table, env []string) {
	const behind = 1_000_000
	g := startGateway(b, options{env: env})
	g.roomy("late")
	formation := g.formation("late", "log")
	fill(b, g, env, []tenant.Key{{Org: "late", App: "log"}}, 5000, behind)
	server := startNATSServer(b)
	nc, err := nats.Connect(server)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	begin, most := time.Now(), 0
	g.sink(formation, "nats", map[string]any{"url": server, "subject_prefix": "late", "stream": "LATE"})
	within(b, 20*time.Minute, "catching up", func() (bool, string) {
		most = max(most, g.residentMB())
		s, err := js.Stream(b.Context(), "LATE")
		if err != nil {
			return false, err.Error()
		}
		n := s.CachedInfo().State.LastSeq
		return n >= behind, fmt.Sprint(n)
	})
	took := time.Since(begin)
	t.row("catch-up of 1,000,000 events to NATS", fmt.Sprintf("%.0f events/s", behind/took.Seconds()), fmt.Sprintf("%s, at most %d MB resident", took.Round(time.Second), most))
}
