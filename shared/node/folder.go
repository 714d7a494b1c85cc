package node

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/defenseunicorns/peat-gateway/shared/platform/keyfile"
)

// The files of a folder. None can be read by anybody but its owner.
const (
	keyName         = "node.key"         // the seed of the node's key, in hexadecimal
	certificateName = "certificate"      // the bytes that peers read
	recordName      = "certificate.json" // the same with what the gateway says of it
	credentialsName = "credentials"      // what the formation's members share
	applicationName = "waiting.json"     // what to ask by, while an administrator decides
)

// Folder keeps a node's key and certificate. Each file is replaced as a whole or not
// at all, and lasts once it is. One process writes to it.
type Folder struct {
	dir string
	key ed25519.PrivateKey
}

// OpenFolder opens a folder, and makes one where there is none.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Folder{dir: dir}, nil
}

func (f *Folder) path(name string) string { return filepath.Join(f.dir, name) }

// NodeKey returns the node's key, which the first call makes.
func (f *Folder) NodeKey() (ed25519.PrivateKey, error) {
	if f.key != nil {
		return f.key, nil
	}
	text, err := keyfile.LoadOrCreate(f.path(keyName), ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	seed, err := hex.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s holds no key: want %d hexadecimal characters", f.path(keyName), 2*ed25519.SeedSize)
	}
	f.key = ed25519.NewKeyFromSeed(seed)
	return f.key, nil
}

// Certificate returns what was kept last; nil if nothing was.
func (f *Folder) Certificate() (*Certificate, error) {
	text, err := os.ReadFile(f.path(recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var c Certificate
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", f.path(recordName), err)
	}
	// The power may have gone between the two.
	if have, err := os.ReadFile(f.path(certificateName)); err != nil || string(have) != string(c.Certificate) {
		return &c, f.write(certificateName, c.Certificate)
	}
	return &c, nil
}

// Keep replaces the certificate. What comes once is kept first, and then the record,
// of which the other file can be made.
func (f *Folder) Keep(c Certificate) error {
	if c.Credentials != nil {
		if err := f.write(credentialsName, c.Credentials.Encoded); err != nil {
			return err
		}
		c.Credentials = nil
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := f.write(recordName, append(text, '\n')); err != nil {
		return err
	}
	return f.write(certificateName, c.Certificate)
}

// Application returns what the node waits for; nil: nothing.
func (f *Folder) Application() (*Application, error) {
	text, err := os.ReadFile(f.path(applicationName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var a Application
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", f.path(applicationName), err)
	}
	return &a, nil
}

// Apply keeps what the node waits for.
func (f *Folder) Apply(a Application) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return f.write(applicationName, append(text, '\n'))
}

// Forget ends the waiting.
func (f *Folder) Forget() error {
	if err := os.Remove(f.path(applicationName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(f.dir)
}

// write replaces a file: with the new content if it returns, and with the old or the
// new one whatever happens meanwhile.
func (f *Folder) write(name string, content []byte) (err error) {
	file, err := os.CreateTemp(f.dir, "."+name+"-*") // exclusive, mode 0600
	if err != nil {
		return err
	}
	defer func() {
		_ = file.Close()
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), f.path(name)); err != nil {
		return err
	}
	return syncDir(f.dir)
}

// syncDir makes the new name last, too.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
