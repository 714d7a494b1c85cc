package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// adminToken is the bootstrap token of every gateway the tests start.
const adminToken = "test-admin-token-0123456789abcdef"

// gateway is one "peat dev" that can die and come back at the same address with
// the same data.
type gateway struct {
	t    testing.TB
	dir  string
	env  []string
	args []string

	url     string // http://127.0.0.1:port, the same over restarts
	natsURL string // may differ after a restart

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	logs *tail
}

type options struct {
	env  []string // NAME=value
	args []string // after "dev"
}

// startGateway starts a gateway in a folder of its own and kills it when the
// test ends. If the test fails it prints the end of the gateway's log.
func startGateway(t testing.TB, o options) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: testenv.Dir(t), env: o.env, args: o.args, logs: &tail{}}
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			t.Logf("the gateway's last words:\n%s", g.logs)
		}
	})
	g.start()
	return g
}

// start starts the process and waits until it says that it serves.
func (g *gateway) start() {
	g.t.Helper()
	if err := g.tryStart(60 * time.Second); err != nil {
		g.t.Fatalf("%v\n%s", err, g.logs)
	}
}

func (g *gateway) tryStart(limit time.Duration) error {
	listen := "127.0.0.1:0"
	if g.url != "" {
		u, err := url.Parse(g.url)
		if err != nil {
			return err
		}
		listen = u.Host
	}
	args := append([]string{"dev", "--data", g.dir, "--listen", listen}, g.args...)
	g.cmd = exec.Command(peat(g.t), args...)
	g.cmd.Env = append(append(os.Environ(), "PEAT_ADMIN_TOKEN="+adminToken), g.env...)
	stderr, err := g.cmd.StderrPipe()
	if err != nil {
		return err
	}
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// In a group of its own, so that a child of it (the demo peer) dies with it.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := g.cmd.Start(); err != nil {
		return err
	}

	type ready struct {
		Ready   bool   `json:"ready"`
		URL     string `json:"url"`
		NATSURL string `json:"nats_url"`
	}
	is := make(chan ready, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if !bytes.Contains(lines.Bytes(), []byte(`"msg":"request"`)) {
				g.logs.add(lines.Text()) // requests push out what matters
			}
			var r ready
			if bytes.HasPrefix(lines.Bytes(), []byte("{")) && json.Unmarshal(lines.Bytes(), &r) == nil && r.Ready {
				select {
				case is <- r:
				default:
				}
			}
		}
	})
	reading.Go(func() {
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			g.logs.add("stdout: " + lines.Text())
		}
	})
	cmd, done := g.cmd, make(chan struct{})
	g.done = done
	go func() {
		reading.Wait()
		cmd.Wait()
		close(done)
	}()

	select {
	case r := <-is:
		g.url, g.natsURL = strings.TrimSuffix(r.URL, "/"), r.NATSURL
		return nil
	case <-done:
		return fmt.Errorf("peat dev ended before it was ready: %v", cmd.ProcessState)
	case <-time.After(limit):
		return fmt.Errorf("peat dev did not get ready within %s", limit)
	}
}

// with is the same gateway, asked on behalf of a subtest.
func (g *gateway) with(t testing.TB) *gateway {
	same := *g
	same.t = t
	return &same
}

// kill ends the process as a power cut would, and whatever it started.
func (g *gateway) kill() {
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL)
	<-g.done
}

// interrupt ends the process as Ctrl-C does and returns how it ended.
func (g *gateway) interrupt(limit time.Duration) error {
	syscall.Kill(-g.cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-g.done:
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("exit status %d after an interrupt", code)
		}
		return nil
	case <-time.After(limit):
		return errors.New("still running")
	}
}

// alive reports whether the process runs.
func (g *gateway) alive() bool {
	select {
	case <-g.done:
		return false
	default:
		return true
	}
}

// residentMB is the memory the process holds, in megabytes.
func (g *gateway) residentMB() int {
	g.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Skipf("no /proc: %v", err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	var kb int
	fmt.Sscan(after, &kb)
	return kb / 1024
}

func (g *gateway) sinkFile(name string) string { return filepath.Join(g.dir, "sinks", name) }

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (l *tail) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, line); len(l.lines) > 400 {
		l.lines = append([]string(nil), l.lines[300:]...)
	}
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-60):], "\n")
}
