package file

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// numbered delivers events of one document in batches of ten.
func numbered(t testing.TB, d driver.Driver, document string, from, to int) {
	t.Helper()
	for n := from; n < to; n += 10 {
		var batch []driver.Event
		for i := n; i < min(n+10, to); i++ {
			batch = append(batch, drivertest.Swell(drivertest.Events(fmt.Sprintf("%s/%d", document, i))[0], 1000))
		}
		drivertest.WantDelivered(t, d.Deliver(t.Context(), batch, drivertest.Soon()))
	}
}

// wantNumbered fails unless a receiver of all files finds 0, 1, 2 … of the document.
func wantNumbered(t testing.TB, got []drivertest.Received, document string, n int) {
	t.Helper()
	next := 0
	for _, r := range got {
		if r.Document != document {
			continue
		}
		if want := fmt.Sprintf("id-%s/%d", document, next); r.ID != want {
			t.Fatalf("%s comes where %s should", r.ID, want)
		}
		next++
	}
	if next != n {
		t.Errorf("%d events of %s, want %d", next, document, n)
	}
}

func TestFileRotates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	const config = `{"path":"x","rotate":{"max_bytes":65536}}`
	numbered(t, openByConfig(t, dir, config, drivertest.Options{}), "a", 0, 200)
	// Another process goes on, and finds what a stranger has put there.
	for _, name := range []string{"x.000000zzz", "x.17", "x.0000000001", "y.000000099"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	numbered(t, openByConfig(t, dir, config, drivertest.Options{}), "a", 200, 400)
	for _, name := range []string{"x.000000zzz", "x.17", "x.0000000001"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	texts := inOrder(t, path)
	for i, text := range texts {
		if len(text) > 65536 {
			t.Errorf("file %d has %d bytes", i, len(text))
		}
	}
	if len(texts) < 6 {
		t.Errorf("%d files", len(texts))
	}
	wantNumbered(t, read(t, texts...), "a", 400)
}

// A batch that is larger than a file has one for itself.
func TestFileRotatesAroundALargeBatch(t *testing.T) {
	dir := t.TempDir()
	d := openByConfig(t, dir, `{"path":"x","rotate":{"max_bytes":65536}}`, drivertest.Options{})
	numbered(t, d, "a", 0, 1)
	batch := drivertest.Events("a/1", "a/2")
	batch[0] = drivertest.Swell(batch[0], 100_000)
	drivertest.WantDelivered(t, d.Deliver(t.Context(), batch, drivertest.Soon()))
	numbered(t, d, "a", 3, 4)
	var counts []int
	for _, text := range inOrder(t, filepath.Join(dir, "x")) {
		counts = append(counts, len(read(t, text)))
	}
	if diff := cmp.Diff([]int{1, 2, 1}, counts); diff != "" {
		t.Error(diff)
	}
}

func TestFileKeepsSomeFullFiles(t *testing.T) {
	dir := t.TempDir()
	d := openByConfig(t, dir, `{"path":"x","rotate":{"max_bytes":65536,"keep":2}}`, drivertest.Options{})
	numbered(t, d, "a", 0, 500)
	full, err := d.(*file).fullFiles()
	if err != nil || len(full) != 2 || full[1] != full[0]+1 || full[1] < 5 {
		t.Errorf("%v %v", full, err)
	}
	got := read(t, inOrder(t, filepath.Join(dir, "x"))...)
	if got[len(got)-1].ID != "id-a/499" {
		t.Errorf("the last one is %s", got[len(got)-1].ID)
	}
}

// Two replicas write to one file for two formations, and each rotates it under the
// other's hands. Each document's order holds over all files.
func TestFileIsRotatedByTwo(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for _, document := range []string{"a", "b"} {
		d := openByConfig(t, dir, `{"path":"x","rotate":{"max_bytes":65536},"fsync":"never"}`, drivertest.Options{})
		wg.Go(func() { numbered(t, d, document, 0, 2000) })
	}
	wg.Wait()
	got := read(t, inOrder(t, filepath.Join(dir, "x"))...)
	wantNumbered(t, got, "a", 2000)
	wantNumbered(t, got, "b", 2000)
}

// Whatever a crash leaves of a batch, what comes again follows in order.
func TestFileTornAnywhere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PEAT_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PEAT_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		dir := t.TempDir()
		path := filepath.Join(dir, "x")
		d := openByConfig(t, dir, `{"path":"x","fsync":"never"}`, drivertest.Options{})
		drivertest.DeliverAll(t, d, "a/1", "a/2")
		batch := drivertest.Events("a/3", "b/1", "a/4")
		text := appendLines(nil, batch)
		torn := rng.IntN(len(text))
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(text[:torn])
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(2) == 0 { // another process, or this one beside a replica that died
			d = openByConfig(t, dir, `{"path":"x"}`, drivertest.Options{})
		}
		drivertest.WantDelivered(t, d.Deliver(t.Context(), batch, drivertest.Soon()))
		var first []string
		seen := map[string]bool{}
		for _, r := range read(t, inOrder(t, path)...) {
			if !seen[r.ID] {
				first = append(first, r.ID)
			}
			seen[r.ID] = true
		}
		if diff := cmp.Diff([]string{"id-a/1", "id-a/2", "id-a/3", "id-b/1", "id-a/4"}, first); diff != "" {
			t.Errorf("torn after %d bytes: %s", torn, diff)
		}
	}
}
