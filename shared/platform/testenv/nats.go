package testenv

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// NATSServer is a NATS server with JetStream, in a process of its own, that a test
// can take away and bring back.
type NATSServer struct {
	Addr string // host and port, the same after a restart

	t       testing.TB
	config  string
	dir     string
	process *exec.Cmd
	ended   chan struct{}
}

// StartNATS starts a server; config is what its configuration file holds beside
// address and JetStream. It writes every message to its disk before it answers.
func StartNATS(t testing.TB, config string) *NATSServer {
	t.Helper()
	program := natsProgram(t)
	s := &NATSServer{t: t, config: config, dir: Dir(t)}
	// A free port can be taken between looking and using, so try a few.
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Addr = l.Addr().String()
		_ = l.Close()
		if s.start(program) {
			t.Cleanup(s.Kill)
			return s
		}
	}
	s.giveUp()
	return nil
}

// URL is where clients connect.
func (s *NATSServer) URL() string { return "nats://" + s.Addr }

// Reconfigure restarts the server with another configuration.
func (s *NATSServer) Reconfigure(config string) {
	s.t.Helper()
	s.config = config
	s.Restart()
}

// Restart starts the server again, on what it had on its disk.
func (s *NATSServer) Restart() {
	s.t.Helper()
	s.Kill()
	if !s.start(natsProgram(s.t)) {
		s.giveUp()
	}
}

// Kill ends the server at once, as a crash would. It may be called from any
// goroutine, but from one at a time.
func (s *NATSServer) Kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		<-s.ended
		s.process = nil
	}
}

func (s *NATSServer) giveUp() {
	s.t.Helper()
	said, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	s.t.Fatalf("nats-server does not start:\n%s", said)
}

// start reports whether the server came up.
func (s *NATSServer) start(program string) bool {
	path, log := filepath.Join(s.dir, "config"), filepath.Join(s.dir, "log")
	text := fmt.Sprintf("listen: %q\nmax_payload: 8MB\njetstream { store_dir: %q, sync_interval: always }\n%s\n", s.Addr, s.dir, s.config)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	_ = os.Rename(log, log+".before") // this start's own words tell when it is ready
	process, ended := exec.Command(program, "-c", path, "-l", log), make(chan struct{})
	if err := process.Start(); err != nil {
		return false
	}
	s.process, s.ended = process, ended
	go func() {
		defer close(ended)
		_ = process.Wait()
	}()
	for range 1000 {
		select {
		case <-ended:
			s.process = nil
			return false
		case <-time.After(10 * time.Millisecond):
		}
		// Clients are let in before JetStream has looked through its disk.
		said, _ := os.ReadFile(log)
		if strings.Contains(string(said), "Server is ready") {
			return s.answers()
		}
	}
	s.Kill()
	return false
}

// answers reports whether something greets clients; with tls_first nothing does.
func (s *NATSServer) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return line == "" || strings.HasPrefix(line, "INFO ")
}

const natsModule = "github.com/nats-io/nats-server/v2"

// natsProgram builds the server of the version that go.mod names, once for all
// runs on a machine.
func natsProgram(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		Missing(t, "nats", "the go command is not there to build nats-server")
	}
	mod, err := os.ReadFile(filepath.Join(Root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(mod), natsModule+" ")
	version, _, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("go.mod does not name %s", natsModule)
	}
	program := filepath.Join(os.TempDir(), fmt.Sprintf("peat-nats-server-%s-%d", strings.Fields(version)[0], os.Getuid()))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	// Under a name of its own first: another package's tests may be about to do the same.
	next := filepath.Join(os.TempDir(), "peat-nats-server-"+rand.Text())
	build := exec.Command("go", "build", "-o", next, natsModule)
	build.Dir = Root(t)
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, said)
	}
	if err := os.Rename(next, program); err != nil {
		t.Fatal(err)
	}
	return program
}
