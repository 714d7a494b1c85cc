package sinks

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
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

// A kind of sink that nothing holds to its promises is not offered.
func TestEveryKindIsHeldToItsPromises(t *testing.T) {
	held := map[string]bool{}
	for _, d := range drivertest.Declarations(t, testenv.Root(t)) {
		held[d.Kind] = true
	}
	for kind := range kinds {
		if kind == delivery.Kafka && !held[string(kind)] {
			t.Log("kafka is not held to them yet")
			continue
		}
		if !held[string(kind)] {
			t.Errorf("the tests of %s do not run drivertest", kind)
		}
		delete(held, string(kind))
	}
	for kind := range held {
		t.Errorf("%s is held to promises and is no kind of sink", kind)
	}
}
