package node

import (
	"crypto/ed25519"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func openFolder(t *testing.T, dir string) *Folder {
	t.Helper()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFolderKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "node")
	f := openFolder(t, dir)
	if c, err := f.Certificate(); c != nil || err != nil {
		t.Errorf("an empty folder has %v, %v", c, err)
	}
	key, err := f.NodeKey()
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_772_600_767_123).UTC()
	for _, want := range []Certificate{
		{Serial: "1", NodeID: "truck-7", ExpiresAt: at, Certificate: []byte{1, 2}},
		{Serial: "2", NodeID: "truck-7", ExpiresAt: at, Certificate: []byte{3}},
	} {
		if err := f.Keep(want); err != nil {
			t.Fatal(err)
		}
		again := openFolder(t, dir)
		got, err := again.Certificate()
		if diff := cmp.Diff(&want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		if same, err := again.NodeKey(); err != nil || !key.Equal(same) {
			t.Errorf("the key is another: %v", err)
		}
		if bytes, err := os.ReadFile(filepath.Join(dir, certificateName)); err != nil || string(bytes) != string(want.Certificate) {
			t.Errorf("%x, %v", bytes, err)
		}
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		if err == nil && strings.HasPrefix(d.Name(), ".") {
			t.Errorf("%s was left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFolderAfterAPowerCut: between any two of the steps of Keep.
func TestFolderAfterAPowerCut(t *testing.T) {
	old, next := Certificate{Serial: "1", Certificate: []byte{1}}, Certificate{Serial: "2", Certificate: []byte{2}}
	for name, tc := range map[string]struct {
		cut  func(t *testing.T, f *Folder, dir string)
		want Certificate
	}{
		"before anything": {func(*testing.T, *Folder, string) {}, old},
		"with half a file written": {func(t *testing.T, _ *Folder, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "."+recordName+"-1"), []byte(`{"ser`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, old},
		"after the record": {func(t *testing.T, f *Folder, dir string) {
			before, err := os.ReadFile(filepath.Join(dir, certificateName))
			if err == nil {
				err = f.Keep(next)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, certificateName), before, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, next},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := openFolder(t, dir)
			if err := f.Keep(old); err != nil {
				t.Fatal(err)
			}
			tc.cut(t, f, dir)
			got, err := openFolder(t, dir).Certificate()
			if diff := cmp.Diff(&tc.want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
			if bytes, err := os.ReadFile(filepath.Join(dir, certificateName)); err != nil || string(bytes) != string(tc.want.Certificate) {
				t.Errorf("peers are shown %x, %v", bytes, err)
			}
		})
	}
}

func TestFolderRefuses(t *testing.T) {
	seed := strings.Repeat("42", ed25519.SeedSize)
	for name, tc := range map[string]struct {
		file, content string
		mode          os.FileMode
		want          string
	}{
		"a key that others can read": {keyName, seed, 0o644, "can be read by others"},
		"a key that is too short":    {keyName, seed[2:], 0o600, "holds no key"},
		"a key that is none":         {keyName, "a key", 0o600, "holds no key"},
		"a record that is none":      {recordName, "{", 0o600, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tc.file)
			if err := os.WriteFile(path, []byte(tc.content), tc.mode); err != nil {
				t.Fatal(err)
			}
			f := openFolder(t, dir)
			_, keyErr := f.NodeKey()
			_, certErr := f.Certificate()
			if err := keyErr; err == nil {
				keyErr = certErr
			}
			if keyErr == nil || !strings.Contains(keyErr.Error(), tc.want) {
				t.Errorf("%v", keyErr)
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != tc.content {
				t.Error("it was written over")
			}
		})
	}
}
