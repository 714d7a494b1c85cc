package drivertest

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
)

// Run holds a driver to every promise, each on what fresh returns. PEAT_SEED
// repeats a run's decisions.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	seed := seedOf(t)
	var kind string
	var cannot map[Promise]string
	for _, p := range promises {
		t.Run(string(p.name), func(t *testing.T) {
			h := fresh(t)
			kind, cannot = h.Kind, h.Cannot
			reason, declared := h.Cannot[p.name]
			lack := ""
			if p.needs != nil {
				lack = p.needs(&h)
			}
			switch {
			case !declared && lack != "":
				t.Fatalf("the harness has no %s, and does not say why it cannot promise this", lack)
			case !declared:
				p.test(newStand(t, t, h, seed))
			case lack != "":
				t.Logf("not promised: %s", reason)
			default:
				t.Logf("not promised: %s", reason)
				if r := attempt(t, func(r *recorder) { p.test(newStand(r, t, h, seed)) }); !r.Failed() {
					t.Error("declared as what cannot be promised, and kept")
				} else {
					t.Logf("and not kept: %s", r.said)
				}
			}
		})
	}
	if cannot == nil && kind == "" {
		return // a run of none of them
	}
	declare(t, kind, cannot)
}

func seedOf(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano() % 1_000_000)
	if s := os.Getenv("PEAT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("PEAT_SEED: %v", err)
		}
	}
	t.Logf("PEAT_SEED=%d", seed)
	return seed
}

// Declaration is what a kind of sink says of its promises, as it is kept for the
// documentation.
type Declaration struct {
	Kind   string             `json:"kind"`
	Cannot map[Promise]string `json:"cannot"`
}

// declare keeps what a kind of sink does not promise where the documentation's
// test finds it.
func declare(t *testing.T, kind string, cannot map[Promise]string) {
	t.Helper()
	for name, reason := range cannot {
		if !slices.ContainsFunc(promises, func(p promise) bool { return p.name == name }) || reason == "" {
			t.Errorf("%q is no promise, or has no reason: %q", name, reason)
		}
	}
	if kind == "" {
		return
	}
	if cannot == nil {
		cannot = map[Promise]string{}
	}
	text, err := json.Marshal(Declaration{kind, cannot})
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, "testdata/promises_"+kind+".json", goldentest.JSON(t, text))
}

// recorder is a test that notes that it failed, for promises that are not kept.
type recorder struct {
	testing.TB // for what is not about failing

	mu     sync.Mutex
	failed bool
	said   string
}

// attempt runs a test that may fail.
func attempt(t testing.TB, test func(r *recorder)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(r)
	}()
	<-done
	return r
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.failed {
		r.said = text
	}
	r.failed = true
}

func (r *recorder) Helper()                      {}
func (r *recorder) Error(args ...any)            { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.note(fmt.Sprintf(f, args...)) }
func (r *recorder) Fail()                        { r.note("it failed") }
func (r *recorder) FailNow()                     { r.Fail(); runtime.Goexit() }
func (r *recorder) Fatal(args ...any)            { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(f string, args ...any) { r.Errorf(f, args...); runtime.Goexit() }
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}
