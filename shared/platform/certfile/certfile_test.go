package certfile_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/certfile"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

func TestAPairIsReplaced(t *testing.T) {
	authority := testenv.NewAuthority(t)
	dir := t.TempDir()
	certPath, keyPath := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	stamp := time.Now()
	write := func(cert, key []byte) {
		t.Helper()
		// Two writes within the clock's grain must not look like one.
		stamp = stamp.Add(time.Second)
		for path, text := range map[string][]byte{certPath: cert, keyPath: key} {
			if text == nil {
				continue
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, stamp, stamp); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, firstKey := authority.Issue(t, "first", "localhost")
	second, secondKey := authority.Issue(t, "second", "localhost")
	write(first, firstKey)

	var log bytes.Buffer
	now := time.Now()
	pair, err := certfile.Open(certPath, keyPath, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	want := func(when, name string) {
		t.Helper()
		now = now.Add(time.Second)
		got, err := pair.Certificate(nil)
		if err != nil || got.Leaf.Subject.CommonName != name {
			t.Fatalf("%s: %v %v, want %s", when, got, err, name)
		}
	}
	want("at first", "first")
	write(second, nil)
	want("between the two files", "first")
	write(nil, secondKey)
	want("when both are there", "second")
	write([]byte("nonsense"), nil)
	want("nonsense", "second")
	if err := os.Remove(keyPath); err != nil {
		t.Fatal(err)
	}
	want("a file is gone", "second")
	write(first, firstKey)
	want("and there again", "first")
	if s := log.String(); strings.Contains(s, "PRIVATE") || !strings.Contains(s, "the old one goes on") {
		t.Errorf("the log says %s", s)
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	authority := testenv.NewAuthority(t)
	dir := t.TempDir()
	cert, _ := authority.Issue(t, "a", "localhost")
	_, key := authority.Issue(t, "b", "localhost")
	path := func(name string, text []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, files := range map[string][2]string{
		"no certificate":  {filepath.Join(dir, "none"), path("k", key)},
		"no key":          {path("c", cert), filepath.Join(dir, "none")},
		"another's key":   {path("c", cert), path("k", key)},
		"far too long":    {path("long", make([]byte, 2<<20)), path("k", key)},
		"swapped":         {path("k", key), path("c", cert)},
		"a folder":        {dir, path("k", key)},
		"an empty file":   {path("empty", nil), path("k", key)},
		"no file at all ": {"", ""},
	} {
		if _, err := certfile.Open(files[0], files[1], slog.New(slog.DiscardHandler), time.Now); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
