// Package natsd runs a NATS server with JetStream inside the process, for
// development and for tests. It listens on the loopback interface only.
package natsd

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Server is a running server.
type Server struct {
	server *server.Server
}

// AnyPort lets the system choose a free port.
const AnyPort = server.RANDOM_PORT

// startLimit is far more than a start takes, also with a large store to recover.
const startLimit = 30 * time.Second

// New starts a server that keeps its streams in dir, on the given port or AnyPort.
// It returns when clients can connect.
func New(dir string, port int) (*Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "peat",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   dir,
		// An acknowledged message is on the disk, as far as the system tells us.
		SyncAlways: true,
		MaxPayload: maxPayload,
		NoLog:      true,
		NoSigs:     true, // the process that hosts it handles its signals
	})
	if err != nil {
		return nil, fmt.Errorf("nats server: %w", err)
	}
	fatal := &fatal{}
	s.SetLogger(fatal, false, false)
	s.Start()
	if said := fatal.said(); said != "" || !s.ReadyForConnections(startLimit) {
		s.Shutdown()
		s.WaitForShutdown()
		if said == "" {
			said = "does not start"
		}
		return nil, fmt.Errorf("nats server: %s", said)
	}
	return &Server{server: s}, nil
}

// fatal keeps what the server cannot go on after, for example that its port is
// taken. It listens before Start returns, and has no other way to say that it does
// not: it would let us wait until the limit.
type fatal struct {
	mu   sync.Mutex
	text string
}

func (f *fatal) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text
}

// Fatalf is the server's last word.
func (f *fatal) Fatalf(format string, v ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == "" {
		f.text = fmt.Sprintf(format, v...)
	}
}

// The rest of a server.Logger is not listened to.
func (*fatal) Noticef(string, ...any) {}
func (*fatal) Warnf(string, ...any)   {}
func (*fatal) Errorf(string, ...any)  {}
func (*fatal) Debugf(string, ...any)  {}
func (*fatal) Tracef(string, ...any)  {}

// maxPayload is more than the server's default of 1 MiB, since one change may be
// larger than that.
const maxPayload = 8 << 20

// ClientURL is where clients connect.
func (s *Server) ClientURL() string { return s.server.ClientURL() }

// Close stops the server and returns when it has stopped. What streams hold stays
// in the folder.
func (s *Server) Close() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}
