package envelope_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
)

func TestParseKEK(t *testing.T) {
	good := strings.Repeat("0a", 32)
	if kek, err := envelope.ParseKEK(strings.ToUpper(good)); err != nil || !same(t, kek, envelope.NewKEK([32]byte(bytes.Repeat([]byte{10}, 32)))) {
		t.Error(err)
	}
	for name, in := range map[string]string{
		"nothing":        "",
		"too short":      good[:62],
		"odd":            good[:63],
		"too long":       good + "0a",
		"not hex":        good[:62] + "zy",
		"with a newline": good + "\n",
		"zeros":          strings.Repeat("0", 64),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := envelope.ParseKEK(in)
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "0a") || strings.Contains(err.Error(), "z") && strings.Contains(err.Error(), "'z'") {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
}

func TestKEKDoesNotPrint(t *testing.T) {
	kek, err := envelope.ParseKEK(strings.Repeat("61", 32)) // "aaaa…" as text, 97 as number
	if err != nil {
		t.Fatal(err)
	}
	nested := struct {
		K      envelope.KEK
		hidden envelope.KEK
	}{kek, kek}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U", "%p"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", kek, &kek, nested)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "k", kek, "p", &kek, "n", nested)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "k", kek, "p", &kek, "n", nested)
	b, err := json.Marshal(map[string]any{"k": kek, "p": &kek, "n": nested})
	out.Write(b)
	for _, form := range []string{"aaa", "616161", "97 97", "97,97", "0x61", "U+0061"} {
		if strings.Contains(out.String(), form) || err != nil {
			t.Errorf("%q is in (%v):\n%s", form, err, out.String())
		}
	}
}

func TestKEKFileIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	first, err := envelope.LoadOrCreateKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := envelope.LoadOrCreateKEK(path)
	if err != nil || !same(t, first, second) {
		t.Errorf("the second start has another key (%v)", err)
	}
	text, _ := os.ReadFile(path)
	if kek, err := envelope.ParseKEK(strings.TrimSuffix(string(text), "\n")); err != nil || !same(t, kek, first) {
		t.Errorf("the file holds something else: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	alone(t, path)
}

func TestKEKFileIsMadeByOneOfMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	keys := make([]envelope.KEK, 16)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = envelope.LoadOrCreateKEK(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if !same(t, k, keys[0]) {
			t.Fatal("two processes have two keys")
		}
	}
	alone(t, path)
}

// same tells whether b opens what a has closed.
func same(t *testing.T, a, b envelope.KEK) bool {
	t.Helper()
	if !a.IsSet() || !b.IsSet() {
		return false
	}
	_, err := envelope.Open(t.Context(), local(t, b), genesisOf("acme"), seal(t, local(t, a), genesisOf("acme"), "x"))
	return err == nil
}

// alone fails if anything but the key was left behind.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestKEKFileIsRefused(t *testing.T) {
	good := strings.Repeat("0a", 32)
	for name, tc := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by the group":  {good, 0o640},
		"readable by everybody":  {good, 0o604},
		"writable by the group":  {good, 0o620},
		"empty":                  {"", 0o600},
		"half a key":             {good[:30], 0o600},
		"raw bytes":              {strings.Repeat("\x0a", 32), 0o600},
		"more than a key":        {good + good, 0o600},
		"a key and another line": {good + "\n" + good, 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.mode != 0o600 && runtime.GOOS == "windows" {
				t.Skip("files have no such modes here")
			}
			path := filepath.Join(t.TempDir(), "kek")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tc.mode); err != nil { // the umask has no say in this
				t.Fatal(err)
			}
			_, err := envelope.LoadOrCreateKEK(path)
			if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "0a0a") {
				t.Errorf("got %v", err)
			}
			if text, _ := os.ReadFile(path); string(text) != tc.text {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("a directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := envelope.LoadOrCreateKEK(dir); err == nil {
			t.Error("a directory was taken for a key")
		}
	})
	t.Run("in no directory", func(t *testing.T) {
		if _, err := envelope.LoadOrCreateKEK(filepath.Join(t.TempDir(), "none", "kek")); err == nil {
			t.Error("made out of nowhere")
		}
	})
}

func TestKEKFileMayEndInALine(t *testing.T) {
	for _, end := range []string{"", "\n", "\r\n"} {
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(strings.Repeat("0a", 32)+end), 0o400); err != nil {
			t.Fatal(err)
		}
		if _, err := envelope.LoadOrCreateKEK(path); err != nil {
			t.Errorf("end %q: %v", end, err)
		}
	}
}
