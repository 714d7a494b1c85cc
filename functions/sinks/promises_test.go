package sinks

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// The manual's table of promises is what the drivers' own tests have found.
func TestManualTellsWhatDriversPromise(t *testing.T) {
	const begin, end = "<!-- promises: written by the tests of drivers -->\n", "<!-- end of promises -->\n"
	root := testenv.Root(t)
	all := drivertest.Declarations(t, root)
	manual := filepath.Join(root, "docs", "sinks.md")
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, opened := bytes.Cut(text, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !opened || !closed {
		t.Fatalf("%s has no place for the promises", manual)
	}
	goldentest.Check(t, manual, slices.Concat(before, []byte(begin), []byte(drivertest.Table(all)), []byte(end), after))
}
