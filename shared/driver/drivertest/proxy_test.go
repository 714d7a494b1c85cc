package drivertest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parrot answers every byte with itself and tells what it got on a connection when
// that ends.
func parrot(t *testing.T) (addr string, got chan string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	got = make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				var heard strings.Builder
				_, _ = io.Copy(io.MultiWriter(&heard, conn), conn)
				_ = conn.Close()
				got <- heard.String()
			}()
		}
	}()
	return l.Addr().String(), got
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	if got, err := bufio.NewReader(conn).ReadString('\n'); got != want+"\n" {
		t.Fatalf("%q %v, want %q", got, err, want)
	}
}

func TestProxyCutsRequestsAtAByte(t *testing.T) {
	addr, got := parrot(t)
	p := NewProxy(t, addr)
	conn := dial(t, p.Addr())
	say(t, conn, "hello")
	hear(t, conn, "hello")
	p.CutRequests(3)
	say(t, conn, "abcdef")
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("the connection ended in order")
	}
	if heard := <-got; heard != "hello\nabc" {
		t.Errorf("the target got %q", heard)
	}
	again := dial(t, p.Addr()) // only once
	say(t, again, "hello")
	hear(t, again, "hello")
	if p.Cuts() != 1 || p.Accepted() != 2 {
		t.Errorf("%d cut of %d", p.Cuts(), p.Accepted())
	}
}

func TestProxyLosesAnAnswer(t *testing.T) {
	addr, got := parrot(t)
	p := NewProxy(t, addr)
	conn := dial(t, p.Addr())
	p.CutAnswers(0)
	say(t, conn, "hello")
	if text, err := io.ReadAll(conn); err == nil || len(text) > 0 {
		t.Errorf("%q %v", text, err)
	}
	if heard := <-got; heard != "hello\n" {
		t.Errorf("the target got %q", heard)
	}
}

func TestProxyHangs(t *testing.T) {
	addr, _ := parrot(t)
	p := NewProxy(t, addr)
	p.Hang()
	select {
	case <-p.Held():
		t.Error("holds what was not sent")
	default:
	}
	conn := dial(t, p.Addr())
	say(t, conn, "hello")
	<-p.Held()
	if requests, answers := p.Passed(); requests != 0 || answers != 0 {
		t.Errorf("%d and %d bytes have passed", requests, answers)
	}
	p.Heal()
	hear(t, conn, "hello")
}

func TestProxyRefuses(t *testing.T) {
	addr, got := parrot(t)
	p := NewProxy(t, addr)
	conn := dial(t, p.Addr())
	say(t, conn, "hello")
	hear(t, conn, "hello")
	p.Refuse()
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("the connection ended in order")
	}
	<-got
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	p.Heal()
	again := dial(t, p.Addr())
	say(t, again, "hello")
	hear(t, again, "hello")
	if n := p.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
