package natsd_test

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
)

func TestStreamsSurviveARestartOnTheSamePort(t *testing.T) {
	dir := t.TempDir()
	first, err := natsd.New(dir, natsd.AnyPort)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(first.ClientURL())
	if err != nil || !net.ParseIP(u.Hostname()).IsLoopback() {
		t.Fatalf("%s %v", first.ClientURL(), err)
	}
	js, done := connect(t, first)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"a.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "a.b", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	done()
	first.Close()

	port, _ := strconv.Atoi(u.Port())
	second, err := natsd.New(dir, port)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	js, done = connect(t, second)
	defer done()
	s, err := js.Stream(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "a.b")
	if err != nil || string(m.Data) != "kept" {
		t.Fatalf("%v %v", m, err)
	}
	if _, err := natsd.New(t.TempDir(), port); err == nil || !strings.Contains(err.Error(), "port") {
		t.Errorf("a second server on the port: %v", err)
	}
}

func connect(t *testing.T, s *natsd.Server) (jetstream.JetStream, func()) {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js, nc.Close
}
