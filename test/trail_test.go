package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
)

// TestTrail: an organization's audit trail goes to a file and to NATS as it grows,
// over a kill of the gateway, and what arrives is the chain that an export has.
func TestTrail(t *testing.T) {
	g := startGateway(t, options{})
	g.formation("acme", "logistics")
	url := startNATSServer(t)
	for _, sink := range []map[string]any{
		{"kind": "file", "source": "audit", "start": "beginning", "config": map[string]any{"path": "trail.ndjson"}},
		{"kind": "nats", "source": "audit", "start": "beginning", "config": map[string]any{"url": url, "subject_prefix": "trail"}},
	} {
		g.do("POST", "/orgs/acme/cdc/sinks", sink, nil, 201)
	}
	for n := range 4 {
		g.do("POST", "/orgs/acme/formations", map[string]any{"app_id": fmt.Sprint("early-", n), "enrollment_policy": "open"}, nil, 201)
	}
	g.kill()
	g.start()
	for n := range 4 {
		g.do("POST", "/orgs/acme/formations", map[string]any{"app_id": fmt.Sprint("late-", n), "enrollment_policy": "open"}, nil, 201)
	}
	const acts = 1 + 1 + 2 + 8 // the organization, its first formation, two sinks, eight formations

	within(t, time.Minute, "the trail in the file", func() (bool, string) {
		text, _ := os.ReadFile(g.sinkFile("trail.ndjson"))
		n, err := chained(bytes.Split(bytes.TrimSpace(text), []byte("\n")))
		return err == nil && n >= acts, fmt.Sprintf("%d entries, %v", n, err)
	})
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := js.SubscribeSync("acme.trail._audit.audit")
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	within(t, time.Minute, "the trail in NATS", func() (bool, string) {
		for {
			m, err := sub.NextMsg(100 * time.Millisecond)
			if err != nil {
				break
			}
			lines = append(lines, m.Data)
		}
		n, err := chained(lines)
		return err == nil && n >= acts, fmt.Sprintf("%d entries, %v", n, err)
	})
}

// chained checks that events are a trail from its first entry on, of which some may
// have come twice, and returns how many entries it has.
func chained(lines [][]byte) (int, error) {
	var last audit.Hash
	n := 0
	for _, line := range lines {
		var e struct {
			Type string      `json:"type"`
			Data audit.Entry `json:"data"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return n, err
		}
		switch {
		case e.Data.Seq <= uint64(n):
			continue
		case e.Data.Seq != uint64(n)+1 || e.Data.Prev != last || !e.Data.Intact():
			return n, fmt.Errorf("entry %d does not follow entry %d", e.Data.Seq, n)
		}
		n, last = n+1, e.Data.Hash
	}
	return n, nil
}
