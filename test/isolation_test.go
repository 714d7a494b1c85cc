package test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

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
