package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
)

// devSweep is how often the sweep comes in one process; a cluster's comes each minute.
const devSweep = 2 * time.Second

// dev runs the whole catalog in one process: SQLite, an embedded NATS server, and
// a bus that routes by the cluster's triggers.
func dev(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("peat dev", flag.ContinueOnError)
	flags.SetOutput(stderr)
	data := flags.String("data", "data", "`folder` for everything that is kept")
	address := flags.String("listen", "127.0.0.1:8080", "`address` to listen on")
	demo := flags.Bool("demo", false, "make an organization, a formation and sinks, and start a peer that edits")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("dev: what is %q?", flags.Arg(0))
	}
	if err := os.MkdirAll(*data, 0o700); err != nil {
		return err
	}
	unlock, err := lockDir(*data)
	if err != nil {
		return err
	}
	defer unlock()
	logs, closeLogs, err := devLog(*data, *demo, stderr)
	if err != nil {
		return err
	}
	defer closeLogs()

	// Listening comes first: a port that is taken should be said before anything is opened.
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	nats, err := devNATS(filepath.Join(*data, "nats"))
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	defer nats.Close()
	token, err := devToken(*data)
	if err != nil {
		return err
	}
	host, err := gateway.NewHost(env.New(devSettings(*data, token, nats.ClientURL())), logs)
	if err != nil {
		return err
	}
	serving, err := host.OpenDev(ctx, devSweep)
	if err != nil {
		return errors.Join(err, host.Close())
	}
	url := "http://" + listener.Addr().String()
	ready, err := json.Marshal(map[string]any{"ready": true, "url": url, "nats_url": nats.ClientURL(), "data": *data})
	if err != nil {
		return err
	}
	fmt.Fprintln(stderr, string(ready))
	stopDemo := func() {}
	if *demo {
		d := &demonstration{url: url, token: token, nats: nats.ClientURL(), data: *data, out: stdout}
		stopDemo = d.start(ctx)
	}
	err = listen(ctx, host, listener, serving)
	stopDemo()
	return errors.Join(err, host.Close())
}

// devLog keeps the log of a demonstration out of its way, in a file.
func devLog(dir string, demo bool, stderr io.Writer) (io.Writer, func(), error) {
	if !demo {
		return stderr, func() {}, nil
	}
	f, err := os.OpenFile(filepath.Join(dir, "gateway.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}

// devNATS listens on NATS's own port, so that its tools find the server without
// being told; on any other if that is taken. Only trying tells: another process
// may take it the moment after it was seen to be free.
func devNATS(dir string) (*natsd.Server, error) {
	const usual = 4222
	if nats, err := natsd.New(dir, usual); err == nil {
		return nats, nil
	}
	return natsd.New(dir, natsd.AnyPort)
}

// devToken is the administrator's token: the one that is set, or one made once
// and kept where only this user can read it.
func devToken(dir string) (string, error) {
	if token := os.Getenv("PEAT_ADMIN_TOKEN"); token != "" {
		return token, nil
	}
	path := filepath.Join(dir, "admin-token")
	text, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	token := "peat_admin_" + hex.EncodeToString(secret)
	return token, os.WriteFile(path, []byte(token+"\n"), 0o600)
}

// devSettings are the defaults of one process, under what the environment says.
func devSettings(dir, token, natsURL string) func(string) (string, bool) {
	defaults := map[string]string{
		"PEAT_DATABASE_URL":     "sqlite:" + filepath.Join(dir, "gateway.db"),
		"PEAT_KEK_FILE":         filepath.Join(dir, "kek"),
		"PEAT_AUDIT_KEY_FILE":   filepath.Join(dir, "audit-key"),
		"PEAT_TOKEN_KEY_FILE":   filepath.Join(dir, "token-key"),
		"PEAT_SESSION_KEY_FILE": filepath.Join(dir, "session-key"),
		"PEAT_FILE_SINK_DIR":    filepath.Join(dir, "sinks"),
		"PEAT_NATS_URL":         natsURL,
		// Receivers under development listen on this machine or near it.
		"PEAT_WEBHOOK_ALLOW": "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
	}
	fixed := map[string]string{
		"PEAT_ADMIN_TOKEN": token,
		// The folder's lock makes sure that there is one of us, so after a crash the
		// next one may take its own leases again without waiting for them to expire.
		"HOSTNAME": "dev",
	}
	return func(name string) (string, bool) {
		if v, ok := fixed[name]; ok {
			return v, true
		}
		if v, ok := os.LookupEnv(name); ok {
			return v, true
		}
		v, ok := defaults[name]
		return v, ok
	}
}
