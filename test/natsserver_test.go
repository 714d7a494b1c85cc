package test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startNATSServer starts a server that is no part of the gateway, as one is that
// nobody configured: it syncs its disk every two minutes. It returns its URL.
func startNATSServer(b testing.TB) string {
	b.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: b.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		b.Fatal("the NATS server did not start")
	}
	return s.ClientURL()
}
