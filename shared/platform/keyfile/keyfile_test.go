package keyfile_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/keyfile"
)

func TestManyProcessesGetOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var mu sync.Mutex
	seen := map[string]bool{}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			text, err := keyfile.LoadOrCreate(path, 32)
			if b, wrong := hex.DecodeString(text); err != nil || wrong != nil || len(b) != 32 {
				t.Errorf("%d characters, %v %v", len(text), err, wrong)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[text] = true
		})
	}
	all.Wait()
	if len(seen) != 1 {
		t.Errorf("%d keys", len(seen))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(path string) error
		says string
	}{
		"others may read it": {func(p string) error { return os.WriteFile(p, []byte("hush"), 0o644) }, "can be read by others"},
		"a folder":           {func(p string) error { return os.Mkdir(p, 0o700) }, "is not a file"},
		"far too long":       {func(p string) error { return os.WriteFile(p, make([]byte, 5000), 0o600) }, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := tc.make(path); err != nil {
				t.Fatal(err)
			}
			text, err := keyfile.LoadOrCreate(path, 32)
			if text != "" || err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
	if _, err := keyfile.LoadOrCreate(filepath.Join(t.TempDir(), "no", "such", "folder"), 32); err == nil {
		t.Error("a file was made in a folder that is not there")
	}
}
