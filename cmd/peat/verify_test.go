package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// received is a line of each seq of one document.
func received(t *testing.T, seqs ...uint64) string {
	t.Helper()
	var out strings.Builder
	for _, seq := range seqs {
		c := change.Settled{Change: change.Change{Hash: change.Hash{byte(seq)}}, Document: "d\x1b", Seq: seq, Position: seq, ReceivedAt: time.Unix(1, 0)}
		if seq > 1 {
			c.Prev = &change.Hash{byte(seq - 1)}
		}
		text, err := event.DocumentChanged(tenant.Key{Org: "acme", App: "logistics"}, c, delivery.Patches).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(text, '\n'))
	}
	return out.String()
}

func TestVerifyEndsWith(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"good": received(t, 1, 2, 3), "next": received(t, 3, 4), "gap": received(t, 1, 3), "late": received(t, 5, 6),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for name, tc := range map[string]struct {
		args, stdin string
		code        int
		says        string
	}{
		"all there":                     {"--every --from-seq-one good next", "", 0, "changes              4\n"},
		"on the standard input":         {"-", received(t, 1, 2), 0, "changes              2\n"},
		"help":                          {"--help", "", 0, ""},
		"a gap":                         {"gap", "", 1, "gap:2: gap: document \"d\\x1b\": after seq 1 comes seq 3"},
		"files in the wrong order":      {"next good", "", 1, "good:1: order"},
		"not from the beginning":        {"late", "", 0, ""},
		"not from the beginning, asked": {"--from-seq-one late", "", 1, "late:1: gap"},
		"another organization":          {"--org rival good", "", 1, "good:1: foreign"},
		"another formation":             {"--app medical good", "", 1, "good:1: foreign"},
		"any formation":                 {"--app * good", "", 0, ""},
		"many problems":                 {"-", strings.Repeat("x\n", 25), 1, "… and 5 more\n"},
		"no file":                       {"", "", 2, ""},
		"a file that is not there":      {"good none", "", 2, ""},
		"a flag that is not there":      {"--none good", "", 2, ""},
		"no name of a formation":        {"--app A/B good", "", 2, ""},
		"no name of an organization":    {"--org A/B good", "", 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			err := verify(t.Context(), strings.Fields(tc.args), strings.NewReader(tc.stdin), &stdout, &stderr)
			if diff := cmp.Diff(tc.code, exitCode(err)); diff != "" || !strings.Contains(stdout.String(), tc.says) {
				t.Errorf("%v: %s%s%s", err, diff, &stdout, &stderr)
			}
		})
	}
}

func TestVerifyEndsWhenTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := verify(ctx, []string{"-"}, strings.NewReader(received(t, 1)), &strings.Builder{}, &strings.Builder{})
	if !errors.Is(err, context.Canceled) || exitCode(err) != 2 {
		t.Errorf("%v", err)
	}
}
