package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

// serve runs one function of the catalog, as a container does.
func serve(ctx context.Context, stderr io.Writer) error {
	host, err := gateway.NewHost(env.New(os.LookupEnv), stderr)
	if err != nil {
		return err
	}
	log := host.Log
	defer func() {
		if err := host.Close(); err != nil {
			log.Error("not everything was let go", "err", err)
		}
	}()
	if host.Settings.Function == "" {
		return fmt.Errorf("PEAT_FUNCTION is not set; it is one of %s", strings.Join(gateway.Names(), ", "))
	}
	serving, err := host.Open(ctx, host.Settings.Function)
	if err != nil {
		return err
	}
	address := ":8080"
	if port := os.Getenv("PORT"); port != "" {
		address = ":" + port
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return errors.Join(err, serving.Close())
	}
	log.Info("serving", "function", host.Settings.Function, "address", listener.Addr().String())
	return listen(ctx, host, listener, serving)
}

// Limits of the HTTP server. There is no limit on writing: a sync session is one
// long answer, and every handler that is not has a limit of its own.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
	drainTimeout      = 20 * time.Second
)

// listen serves until the context ends, lets requests finish, and then lets the
// functions go. It also serves with TLS if the settings say so.
func listen(ctx context.Context, host *gateway.Host, listener net.Listener, serving *gateway.Serving) error {
	listeners := []net.Listener{listener}
	encrypted, err := host.ListenTLS()
	if err != nil {
		return errors.Join(err, listener.Close(), serving.Close())
	}
	if encrypted != nil {
		listeners = append(listeners, encrypted)
	}
	server := &http.Server{
		Handler: serving, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
	// Shutdown waits for answers to end, which those of event streams do not.
	server.RegisterOnShutdown(serving.Drain)
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- server.Serve(l) }()
	}
	select {
	case err := <-failed:
		return errors.Join(err, server.Close(), serving.Close())
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	// Sync sessions are hijacked connections, which Shutdown does not know of;
	// closing the functions ends them.
	err = server.Shutdown(drain)
	return errors.Join(err, serving.Close())
}
