package testenv

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain lets this program be the one that ends without cleaning up.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PEAT_TEST_LEASH"); dir != "" {
		endWithoutCleanup(dir)
	}
	os.Exit(m.Run())
}

func endWithoutCleanup(dir string) {
	sleep := exec.Command("sleep", "600")
	sleep.Stdout = os.Stdout // open for as long as it runs
	if err := sleep.Start(); err != nil {
		panic(err)
	}
	if _, err := leash(sleep.Process.Pid, dir); err != nil {
		panic(err)
	}
	os.Exit(3)
}

func TestLeash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Two ends of a pipe, so that we hear when the last one who has it has ended.
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), "PEAT_TEST_LEASH="+dir)
	program.Stdout = in
	_ = program.Run()
	_ = in.Close()
	if got := program.ProcessState.ExitCode(); got != 3 {
		t.Fatalf("it ended with %d", got)
	}
	// Blocks until the sleep is killed; go test's own limit ends a failure.
	if _, err := io.ReadAll(out); err != nil {
		t.Fatal(err)
	}
	waitGone(t, dir)
}
