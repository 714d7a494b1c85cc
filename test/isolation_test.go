package test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestOneOfSix: a sink that never answers costs the five beside it at most a
// fifth of their time.
//
// The same log is delivered again and again to new sinks from its beginning,
// five alone and five beside a hanging sixth in turn, and the medians compared:
// a machine that is slow for a while is slow for both.
func TestOneOfSix(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes a minute")
	}
	testenv.Node(t)
	_, seed := seeded(t)
	g := startGateway(t, options{})
	formation := g.formation("acme", "logistics")
	// Two peers: they agree only by way of the gateway, so when they do it has everything.
	p := startPeers(t, peersJob{URLs: g.urls(formation, 2), Documents: 50, Changes: 2000, Seed: seed, TimeoutS: 60})
	n := p.wait(2 * time.Minute).count()

	first := newWebhook(t, always(take)) // tells when all of it is in the log
	warm := g.sink(formation, "webhook", map[string]any{"url": first.URL})
	within(t, 2*time.Minute, "the log", func() (bool, string) {
		return first.count() == n, fmt.Sprintf("%d of %d events; %s", first.count(), n, g.lags(t, formation))
	})
	g.do("DELETE", formation+"/cdc/sinks/"+warm.ID, nil, nil, 204)

	run := func(hanging bool) time.Duration {
		var ids []string
		if hanging {
			stuck := newWebhook(t, always(hang))
			ids = append(ids, g.sink(formation, "webhook", map[string]any{"url": stuck.URL}).ID)
			within(t, 30*time.Second, "the hanging sink's first request", func() (bool, string) {
				return stuck.requests(hang) > 0, "none"
			})
		}
		var hooks []*webhook
		for range 5 {
			hooks = append(hooks, newWebhook(t, always(take)))
		}
		begin := time.Now()
		for _, h := range hooks {
			ids = append(ids, g.sink(formation, "webhook", map[string]any{"url": h.URL}).ID)
		}
		within(t, 3*time.Minute, "five sinks", func() (bool, string) {
			got := make([]int, len(hooks))
			for i, h := range hooks {
				got[i] = h.count()
			}
			return slices.Min(got) >= n, fmt.Sprintf("%d of %d events; hanging sixth: %t; %s", got, n, hanging, g.lags(t, formation))
		})
		took := time.Since(begin)
		for _, id := range ids {
			g.do("DELETE", formation+"/cdc/sinks/"+id, nil, nil, 204)
		}
		return took
	}
	const rounds = 5
	var alone, beside []time.Duration
	run(false) // warms everything that gets warm
	for range rounds {
		alone = append(alone, run(false))
		beside = append(beside, run(true))
	}
	ratio := float64(median(beside)) / float64(median(alone))
	t.Logf("%d events to each of five sinks: alone %s (of %v), beside one that hangs %s (of %v): %.2f times",
		n, median(alone), alone, median(beside), beside, ratio)
	if ratio > 1.2 {
		t.Errorf("five sinks take %.2f times their time beside one that hangs, at most 1.2 are allowed", ratio)
	}
}

func median(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2].Round(time.Millisecond)
}

// TestDeadLetter: an event that the receiver refuses stops its document at that
// sink and nothing else; redriven, the document's events come in order.
func TestDeadLetter(t *testing.T) {
	testenv.Node(t)
	_, seed := seeded(t)
	g := startGateway(t, options{env: []string{"PEAT_RETRY_LADDER=20ms,50ms"}})
	formation := g.formation("acme", "logistics")

	var bad []byte // the document that is refused, chosen when it is first seen
	open := false
	hook := newWebhook(t, func(body []byte) fate {
		if bad == nil {
			bad = bytes.Clone(documentOf(body))
		}
		if !open && bytes.Equal(documentOf(body), bad) {
			return refuse400
		}
		return take
	})
	s := g.sink(formation, "webhook", map[string]any{"url": hook.URL})
	hook.verify(t, s.Secret)

	r := startPeers(t, peersJob{URLs: g.urls(formation, 2), Documents: 6, Changes: 120, Seed: seed, TimeoutS: 60}).wait(2 * time.Minute)
	refused := len(r.Documents[string(bad)].Changes)
	within(t, time.Minute, "the other documents", func() (bool, string) {
		return hook.count() == r.count()-refused, fmt.Sprintf("%d events of %d; sinks: %s", hook.count(), r.count()-refused, g.lags(t, formation))
	})
	letters := g.deadLetters(formation, s.ID)
	if len(letters) != 1 {
		t.Fatalf("%d dead letters, want one: %+v", len(letters), letters)
	}
	l := letters[0]
	if l.Document != string(bad) || l.Seq != 1 || l.LastError == "" || l.Attempts < 1 {
		t.Errorf("the dead letter says %+v, want document %s at seq 1", l, bad)
	}
	within(t, 10*time.Second, "the count of events that wait", func() (bool, string) {
		letters := g.deadLetters(formation, s.ID)
		return len(letters) == 1 && letters[0].Waiting == refused-1, fmt.Sprintf("%+v, want %d waiting", letters, refused-1)
	})

	hook.mu.Lock()
	open = true
	hook.mu.Unlock()
	path := formation + "/cdc/sinks/" + s.ID + "/dead-letters/" + l.ID + "/redrive"
	if status, body := g.call("POST", path, nil, nil); status/100 != 2 {
		t.Fatalf("redrive: status %d: %s", status, body)
	}
	within(t, 30*time.Second, "the redriven document", func() (bool, string) {
		return hook.count() == r.count(), fmt.Sprintf("%d of %d events", hook.count(), r.count())
	})
	check(r, "acme", "logistics", hook.deliveries(t)).mustHold(t, "webhook")
	within(t, 10*time.Second, "an end of the dead letter", func() (bool, string) {
		left := g.deadLetters(formation, s.ID)
		return len(left) == 0, fmt.Sprintf("%+v", left)
	})
}
