//go:build cgo

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/automerge/automerge-go"
)

// library is the folder of a peer: who it is, and its documents.
//
//	peer                          the peer's id
//	<kind>-<document id>.automerge
type library struct {
	dir       string
	peer      string
	documents []*document
}

// document is one Automerge document of a kind that edits.go knows.
type document struct {
	id      string
	kind    string
	doc     *automerge.Doc
	changes int // so far, about
}

// maxChanges is when a document has had enough: the old library behind this peer
// walks a document's whole history for every message. A new one follows it.
const maxChanges = 4000

func openLibrary(dir string) (*library, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l := &library{dir: dir}
	name := filepath.Join(dir, "peer")
	id, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id = []byte("demo-" + strings.ToLower(rand.Text()[:12]))
		if err := write(name, id); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	l.peer = strings.TrimSpace(string(id))

	files, err := filepath.Glob(filepath.Join(dir, "*.automerge"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		kind, id, ok := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".automerge"), "-")
		if !ok || !slices.Contains(kinds(), kind) {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		// The actor is a new one in each process. What an actor wrote before it
		// was killed may have reached others and not this file, and it must never
		// write something else under the same number.
		doc, err := automerge.Load(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		changes, err := doc.Changes()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		l.documents = append(l.documents, &document{id: id, kind: kind, doc: doc, changes: len(changes)})
	}
	return l, nil
}

// current returns the document of a kind that is edited now, or nil.
func (l *library) current(kind string) *document {
	for _, d := range l.documents {
		if d.kind == kind && d.changes < maxChanges {
			return d
		}
	}
	return nil
}

func (l *library) find(id string) *document {
	for _, d := range l.documents {
		if d.id == id {
			return d
		}
	}
	return nil
}

// add makes an empty document of a kind.
func (l *library) add(kind string) *document {
	d := &document{id: newDocumentID(), kind: kind, doc: automerge.New()}
	l.documents = append(l.documents, d)
	return d
}

// keep writes a document to its file.
func (l *library) keep(d *document) error {
	return write(filepath.Join(l.dir, d.kind+"-"+d.id+".automerge"), d.doc.Save())
}

func (l *library) save() error {
	for _, d := range l.documents {
		if err := l.keep(d); err != nil {
			return err
		}
	}
	return nil
}

// write replaces a file so that a reader sees the old or the new one, whole.
func write(name string, content []byte) error {
	if err := os.WriteFile(name+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// newDocumentID returns a document id as automerge-repo makes them: 16 random
// bytes (a UUID, version 4) and four of their double SHA-256, in base 58.
func newDocumentID() string {
	id := make([]byte, 16)
	rand.Read(id)
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	once := sha256.Sum256(id)
	twice := sha256.Sum256(once[:])

	n := new(big.Int).SetBytes(append(id, twice[:4]...))
	var text []byte
	for digit, radix := new(big.Int), big.NewInt(58); n.Sign() > 0; {
		n.DivMod(n, radix, digit)
		text = append(text, base58[digit.Int64()])
	}
	for _, b := range id { // a leading zero byte is a leading "1"
		if b != 0 {
			break
		}
		text = append(text, base58[0])
	}
	slices.Reverse(text)
	return string(text)
}
