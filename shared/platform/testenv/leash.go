package testenv

import (
	"io"
	"os/exec"
	"strconv"
)

// leash ends a process and removes dir, if that is not empty, when the process of
// the tests is gone, however it went: cleanups do not run when a test times out.
// It is to be released when the leashed process was waited for, because then its
// number may become another's.
func leash(pid int, dir string) (release func(), err error) {
	// It hears of our end by the end of its input. What ends us may be sent to all
	// of us, hence the trap.
	watch := exec.Command("sh", "-c", `trap "" HUP INT TERM; cat >/dev/null; kill -9 "$1"; [ -z "$2" ] || rm -rf "$2"`,
		"leash", strconv.Itoa(pid), dir)
	var hold io.Closer
	if hold, err = watch.StdinPipe(); err != nil {
		return nil, err
	}
	if err := watch.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = watch.Process.Kill()
		_ = hold.Close() // for cat, which outlives it
		_ = watch.Wait()
	}, nil
}
