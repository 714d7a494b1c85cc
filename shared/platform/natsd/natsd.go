// Package natsd runs a NATS server with JetStream inside the process, for
// development and for tests. It listens on the loopback interface only.
package natsd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
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
	if port != AnyPort {
		// The server would go on trying for as long as we wait, and not say why.
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return nil, fmt.Errorf("nats server: %w", err)
		}
		_ = l.Close()
	}
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
	s.Start()
	if !s.ReadyForConnections(startLimit) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.New("nats server: does not start")
	}
	return &Server{server: s}, nil
}

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
