package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// natsLink is one connection. It is never repaired, only replaced: the client's
// own reconnecting would send what it had buffered at a time when we have long
// answered "retry" for it.
type natsLink struct {
	conn *nats.Conn
	js   jetstream.JetStream
	lost chan struct{}
}

// natsDialer has the guard dial for the client.
type natsDialer struct{ guard *netguard.Guard }

func (d natsDialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return d.guard.DialContext(ctx, network, address)
}

// connect returns a connection whose stream is there.
func (d *natsStream) connect(ctx context.Context) (*natsLink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errors.New("the sink was changed")
	}
	if d.link != nil && d.link.conn.IsConnected() {
		return d.link, nil
	}
	link := &natsLink{lost: make(chan struct{})}
	conn, err := nats.Connect(d.url, append(slices.Clone(d.options), nats.ClosedHandler(func(*nats.Conn) { close(link.lost) }))...)
	if err != nil {
		return nil, err
	}
	link.conn = conn
	if link.js, err = jetstream.New(conn); err == nil {
		err = d.ensureStream(ctx, link.js)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	d.link = link
	return link, nil
}

// duplicates is how long the stream knows an event again. The server's own two
// minutes are shorter than our ladder's third step.
const duplicates = 10 * time.Minute

// ensureStream makes the stream if it is not there, and otherwise looks whether
// our events go into it.
func (d *natsStream) ensureStream(parent context.Context, js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(parent, d.limit)
	defer cancel()
	ours := string(d.org) + "." + d.config.SubjectPrefix + ".>"
	stream, err := js.Stream(ctx, d.config.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: d.config.Stream, Subjects: []string{ours}, Storage: jetstream.FileStorage, Duplicates: duplicates,
		})
		return err
	}
	if err != nil {
		return err
	}
	for _, subject := range stream.CachedInfo().Config.Subjects {
		if covers(subject, ours) {
			return nil
		}
	}
	return fmt.Errorf("stream %s is there and does not take the subjects %s", d.config.Stream, ours)
}

// drop lets the connection go, so that the next batch looks at everything anew.
func (d *natsStream) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link != nil {
		d.link.conn.Close()
		d.link = nil
	}
}

func (d *natsStream) Close() error {
	d.drop()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// describeNATS says what went wrong without addresses of our own network.
func describeNATS(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, netguard.ErrForbidden):
		return netguard.ErrForbidden.Error()
	case errors.Is(err, nats.ErrNoServers):
		return "the server does not answer"
	case errors.As(err, &dns):
		return "the server's name cannot be resolved"
	case errors.As(err, &op) && op.Err != nil:
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
