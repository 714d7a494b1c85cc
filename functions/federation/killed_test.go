package federation_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint/faultpointtest"
)

// TestKilledAnywhere ends the process between any two steps of linking and signing.
// Whatever it leaves, the next sweep makes one whole chain of.
func TestKilledAnywhere(t *testing.T) {
	const entries = 80 // more than go into one statement
	if faultpointtest.Child() {
		w := newWorldAt(t, os.Getenv("PEAT_TEST_URL"))
		w.org("acme")
		for i := range entries - 1 {
			w.act("acme", "sink.create", "ann", fmt.Sprint(i))
		}
		if err := w.sweep(); err != nil { // dies on the way
			t.Fatal(err)
		}
		return
	}
	steps := append(faultpointtest.Complete(t, "../../shared/store", "audit-"), faultpointtest.Complete(t, ".", "audit-")...)
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			url := "sqlite:" + t.TempDir() + "/store.db"
			faultpointtest.Kill(t, step, 1, "PEAT_TEST_URL="+url)
			w := newWorldAt(t, url)
			if err := w.sweep(); err != nil {
				t.Fatal(err)
			}
			w.act("acme", "sink.delete", "ann", "after the fall")
			r := w.verify(w.get("/audit/acme/export", 200), audit.Terms{Org: "acme"})
			if !r.OK() || r.Entries != entries+1 || r.Heads != 2 {
				t.Errorf("%+v", r)
			}
		})
	}
}
