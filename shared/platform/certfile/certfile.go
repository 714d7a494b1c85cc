// Package certfile keeps a server's certificate and its key in two files that may be
// replaced while the server runs, as certificate managers do.
package certfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// maxBytes is longer than any chain or key.
const maxBytes = 1 << 20

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// Pair is a certificate and its key. It may be used by several goroutines.
type Pair struct {
	certPath, keyPath string
	log               *slog.Logger
	now               func() time.Time

	mu     sync.Mutex
	pair   *tls.Certificate
	seen   [2]stamp
	looked time.Time
}

// stamp tells one content of a file from the next.
type stamp struct {
	modified time.Time
	size     int64
}

// Open reads the files.
func Open(certPath, keyPath string, log *slog.Logger, now func() time.Time) (*Pair, error) {
	p := &Pair{certPath: certPath, keyPath: keyPath, log: log, now: now}
	var err error
	if p.seen, err = p.stamps(); err != nil {
		return nil, err
	}
	if p.pair, err = p.load(); err != nil {
		return nil, err
	}
	p.looked = now()
	return p, nil
}

// Certificate is for tls.Config.GetCertificate. Files that were replaced are read
// again; as long as the new ones do not fit each other, as in the moment between the
// two, the old ones go on.
func (p *Pair) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if d := now.Sub(p.looked); d >= 0 && d < lookEvery {
		return p.pair, nil
	}
	p.looked = now
	seen, err := p.stamps()
	if err == nil && seen == p.seen {
		return p.pair, nil
	}
	var pair *tls.Certificate
	if err == nil {
		pair, err = p.load()
	}
	if err != nil {
		p.log.Error("the server's new certificate cannot be used; the old one goes on", "err", err)
		return p.pair, nil
	}
	p.pair, p.seen = pair, seen
	p.log.Info("the server's certificate was replaced", "until", pair.Leaf.NotAfter)
	return p.pair, nil
}

func (p *Pair) stamps() ([2]stamp, error) {
	var out [2]stamp
	for i, path := range []string{p.certPath, p.keyPath} {
		info, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i] = stamp{info.ModTime(), info.Size()}
	}
	return out, nil
}

func (p *Pair) load() (*tls.Certificate, error) {
	cert, err := read(p.certPath)
	if err != nil {
		return nil, err
	}
	key, err := read(p.keyPath)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// What exactly is wrong is not told: the error might quote the key.
		return nil, errors.New("the files do not hold a certificate and its key in PEM")
	}
	return &pair, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && len(text) > maxBytes {
		err = fmt.Errorf("%s is too long", path)
	}
	return text, err
}
