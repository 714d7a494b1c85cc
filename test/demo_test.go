package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// readmeCurls returns the commands of README.md's shell blocks that call curl,
// one a line.
func readmeCurls(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testenv.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			inside = !inside && line == "```sh"
			continue
		}
		if inside && strings.Contains(line, "curl ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestReadme runs the README's curl lines, in order, as they are printed.
func TestReadme(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		testenv.Missing(t, "curl", "curl is not installed")
	}
	lines := readmeCurls(t)
	if len(lines) != 5 {
		t.Fatalf("README.md has %d lines with curl, want 5: an organization, a formation, a webhook sink, a ticket, dead letters", len(lines))
	}
	g := startGateway(t, options{})
	// Statuses of failure count here as failures, which they do not for a reader.
	script := "set -euo pipefail\ncurl() { command curl --fail-with-body -sS \"$@\"; }\n" +
		strings.Join(lines, "\necho\n")
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Env = append(os.Environ(), "PEAT="+g.url, "TOKEN="+adminToken)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, strings.Join(lines, "\n"), out)
	}
	for _, want := range []string{`"org_id"`, `"mesh_id"`, `"sink_id"`, `whsec_`, `"ticket"`, `"items"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is not in what the lines print:\n%s", want, out)
		}
	}
}

// TestDemo: the demonstration shows changes within a minute, ends when
// interrupted, and goes on where it was when started again.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes half a minute")
	}
	demoPeer(t)
	g := startGateway(t, options{args: []string{"--demo"}})
	events := func() (all []changed) {
		files, _ := filepath.Glob(filepath.Join(g.dir, "sinks", "*"))
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				all = append(all, readEvents(f)...)
			}
		}
		return all
	}
	atLeast := func(n int) {
		t.Helper()
		within(t, time.Minute, fmt.Sprintf("%d events in the demonstration's file", n), func() (bool, string) {
			got := len(events())
			return got >= n, fmt.Sprintf("%d", got)
		})
	}
	begin := time.Now()
	atLeast(1)
	t.Logf("the first event was in the file %s after the gateway was ready", time.Since(begin).Round(time.Millisecond))
	atLeast(10)
	formation := "/orgs/acme/formations/logistics"
	kinds := map[string]bool{}
	for _, s := range g.sinks(formation) {
		kinds[s.Kind] = true
	}
	if !kinds["file"] || !kinds["nats"] {
		t.Errorf("the demonstration has sinks of kinds %v, want file and nats", kinds)
	}
	if err := g.interrupt(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	before := events()
	documents := map[string]bool{}
	for _, e := range before {
		documents[e.Data.Document] = true
	}

	g.start()
	atLeast(len(before) + 10)
	if err := g.interrupt(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	after := events()
	seqs := map[string]uint64{}
	ids := map[string]bool{}
	resumed := 0
	for n, e := range after {
		doc := e.Data.Document
		if ids[e.ID] {
			continue
		}
		ids[e.ID] = true
		if e.Data.Seq != seqs[doc]+1 {
			t.Errorf("event %d: document %s goes from seq %d to %d", n, doc, seqs[doc], e.Data.Seq)
		}
		seqs[doc] = e.Data.Seq
		if n >= len(before) && documents[doc] {
			resumed++
		}
	}
	if resumed == 0 {
		t.Errorf("none of the %d documents of the first run was edited in the second (%d documents in all)", len(documents), len(seqs))
	}
	t.Logf("%d documents; %d events before the interruption, %d after it", len(seqs), len(before), len(after)-len(before))
}
