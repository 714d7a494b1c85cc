// Package test drives the gateway from outside, as peers, sinks and operators
// meet it: the program built as it ships, started as a process, killed without
// warning, and judged by what comes out of it.
//
//	peers_test.go     real automerge-repo peers; every change reaches every sink
//	kill_test.go      SIGKILL at seeded moments, failing receivers
//	faults_test.go    the campaign: everything around a delivery breaks, in every way
//	sixth_test.go     a sink that fails, in every way, beside five that do not
//	isolation_test.go a document that is refused
//	input_test.go     hostile peers and bad tickets
//	pull_test.go      receivers that fetch: pages, streams, across a kill
//	keycloak_test.go  an organization's Keycloak vouches for devices with peat enroll
//	keycloak_people_test.go  people of a real identity provider run the gateway
//	demo_test.go      the README's commands and the demonstration
//
//	gateway_test.go   the process          api_test.go       its REST API
//	receiver_test.go  webhook, NATS, file  check_test.go     what must hold of events
//
// PEAT_SEED repeats a run's decisions; PEAT_KILLS sets how often TestKill kills,
// PEAT_FAULT_RUNS how many runs the campaign has;
// PEAT_TEST_RACE=1 builds the gateway with the race detector; KEEP=1 keeps what
// the tests made.
package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built holds the programs under test, each built once.
var built struct {
	once, demoOnce, natsOnce sync.Once
	dir                      string
	err, demoErr, natsErr    error
}

// peat returns the path of the program, built on first use.
func peat(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "peat-bin-"); built.err != nil {
			return
		}
		args, cgo := []string{"build"}, "CGO_ENABLED=0"
		if os.Getenv("PEAT_TEST_RACE") == "1" {
			args, cgo = append(args, "-race"), "CGO_ENABLED=1"
		}
		built.err = build(t, cgo, append(args, "-o", filepath.Join(built.dir, "peat"), "./cmd/peat")...)
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "peat")
}

// demoPeer builds the demonstration peer beside the program, where it looks for it.
func demoPeer(t testing.TB) string {
	t.Helper()
	peat(t)
	path := filepath.Join(built.dir, "demo-peer")
	built.demoOnce.Do(func() {
		built.demoErr = build(t, "CGO_ENABLED=1", "build", "-o", path, "./cmd/demo-peer")
	})
	if built.demoErr != nil {
		t.Fatal(built.demoErr)
	}
	return path
}

// natsServer builds a NATS server of the version that go.mod names, to be a process
// that can be killed.
func natsServer(t testing.TB) string {
	t.Helper()
	peat(t)
	path := filepath.Join(built.dir, "nats-server")
	built.natsOnce.Do(func() {
		built.natsErr = build(t, "CGO_ENABLED=0", "build", "-o", path, "github.com/nats-io/nats-server/v2")
	})
	if built.natsErr != nil {
		t.Fatal(built.natsErr)
	}
	return path
}

func build(t testing.TB, cgo string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = testenv.Root(t)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return nil
}

// seeded returns a source of chance and prints how to get the same one again.
func seeded(t testing.TB) (*rand.Rand, uint64) {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) % 1_000_000_000
	if s := os.Getenv("PEAT_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatalf("PEAT_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("PEAT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0)), seed
}

// within waits until ok says yes; it fails the test after the limit, with what
// ok last said about why not.
func within(t testing.TB, limit time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		yes, why := ok()
		if yes {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %s", what, limit, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
