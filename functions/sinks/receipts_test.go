package sinks

import (
	"fmt"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestReceiptsOutliveACrash ends the process at each chunk in turn. What is known to
// have arrived afterwards is all that did, whether its receipts had been written or not.
func TestReceiptsOutliveACrash(t *testing.T) {
	for engine, url := range map[string]func(testing.TB) string{"sqlite": sqlite, "postgres": testenv.Postgres} {
		t.Run(engine, func(t *testing.T) {
			kept := 0
			for crashAt := 1; crashAt <= 2*receiptChunks+2; crashAt++ {
				kept += crashWithReceiptsKeptBack(t, url(t), crashAt)
			}
			if kept == 0 {
				t.Error("no crash came while receipts were kept back")
			}
		})
	}
}

// crashWithReceiptsKeptBack returns how many positions had no receipt after the crash.
func crashWithReceiptsKeptBack(t *testing.T, url string, crashAt int) int {
	const size, chunks = 4, 2*receiptChunks + 3
	w := newWorld(t, url)
	var documents []string
	for i := range size * chunks {
		documents = append(documents, fmt.Sprint("d", i*i%7))
	}
	w.write(documents...)
	// Of one document the receiver has the beginning: that is in no receipt's count.
	w.anew(delivery.Start{Heads: map[string][]change.Hash{"d4": {hashOf("d4", 2)}}}, filter.Spec{})
	w.d.batch = size
	n := 0
	w.driver.after = func([]driver.Event) {
		if n++; n == crashAt {
			panic(crash{})
		}
	}
	func() {
		defer func() {
			if p := recover(); p != any(crash{}) {
				t.Fatalf("crash at chunk %d: %v", crashAt, p)
			}
		}()
		for {
			if _, err := w.d.pass(t.Context(), w.pair, time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
	}()
	w.driver.after = nil
	c, err := w.store.Cursor(t.Context(), w.pair.key, w.pair.sink)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.compare(); !r.Complete || r.Through != c.Position-c.Unreceipted {
		t.Fatalf("after a crash at chunk %d, before anything goes on: %+v", crashAt, r)
	}
	w.restart()
	w.d.batch = size
	w.deliver()
	if r := w.compare(); !r.Complete || r.Events != uint64(len(documents)-2) || r.Through != uint64(len(documents)) {
		t.Fatalf("after a crash at chunk %d: %+v", crashAt, r)
	}
	if again := len(w.driver.got) - (len(documents) - 2); again > size {
		t.Errorf("a crash at chunk %d repeated %d events", crashAt, again)
	}
	return int(c.Unreceipted)
}
