package testenv

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Redis returns the address of an empty Redis server that runs until the test ends.
func Redis(t testing.TB) string {
	t.Helper()
	return StartRedis(t).Addr
}

// RedisServer is a Redis server that a test can take away and bring back.
type RedisServer struct {
	Addr string // host and port, the same after a restart

	t       testing.TB
	options []string
	dir     string
	process *exec.Cmd
	ended   chan struct{}
}

// StartRedis starts a server with the options given, as on redis-server's command
// line. It writes every command to its disk before it answers.
func StartRedis(t testing.TB, options ...string) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		Missing(t, "redis", "redis-server is not installed (scripts/redis installs it)")
	}
	s := &RedisServer{t: t, options: options, dir: Dir(t)}
	// A free port can be taken between looking and using, so try a few.
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Addr = l.Addr().String()
		_ = l.Close()
		if s.start() {
			t.Cleanup(s.Kill)
			return s
		}
	}
	s.giveUp()
	return nil
}

// Restart starts the server again, on what it had on its disk.
func (s *RedisServer) Restart() {
	s.t.Helper()
	s.Kill()
	if !s.start() {
		s.giveUp()
	}
}

// Kill ends the server at once, as a crash would. It may be called from any
// goroutine, but from one at a time.
func (s *RedisServer) Kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		<-s.ended
		s.process = nil
	}
}

func (s *RedisServer) giveUp() {
	s.t.Helper()
	said, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	s.t.Fatalf("redis-server does not start:\n%s", said)
}

// start reports whether the server came up.
func (s *RedisServer) start() bool {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--logfile", "log", "--daemonize", "no",
		"--appendonly", "yes", "--appendfsync", "always", "--save", ""}, s.options...)
	process, ended := exec.Command("redis-server", args...), make(chan struct{})
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
		// One that wants a password is up too.
		if said := s.ping(); said == "+PONG" || strings.HasPrefix(said, "-NOAUTH") {
			return true
		}
	}
	s.Kill()
	return false
}

func (s *RedisServer) ping() string {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return ""
	}
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line)
}
