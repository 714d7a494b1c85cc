package gateway_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/defenseunicorns/peat-gateway"

// layers from the top down: a package imports only from its own layer, where
// neighbours may, and from those below.
var layers = []struct {
	name       string
	prefixes   []string
	neighbours bool
}{
	{"test", []string{"/test"}, true},
	{"cmd", []string{"/cmd"}, false},
	{"root", []string{""}, false},
	{"functions", []string{"/functions"}, false},
	{"eventing", []string{"/eventing"}, false},
	{"store", []string{"/shared/store"}, false},
	{"domain", []string{"/shared"}, true},
	{"platform", []string{"/shared/platform"}, true},
}

// layerOf returns the layer whose prefix fits best.
func layerOf(pkg string) int {
	path := strings.TrimPrefix(pkg, module)
	best, length := -1, -1
	for i, l := range layers {
		for _, p := range l.prefixes {
			if (path == p || strings.HasPrefix(path, p+"/")) && len(p) > length {
				best, length = i, len(p)
			}
		}
	}
	return best
}

type listed struct {
	ImportPath, Doc string
	GoFiles         []string
	Imports, Deps   []string
	TestImports     []string
	XTestImports    []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range list(t, "./...") {
		from := layerOf(p.ImportPath)
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			to := layerOf(imported)
			// Packages that serve the tests of another sit beside it.
			sameHouse := strings.HasPrefix(p.ImportPath, imported+"/")
			if to < from || to == from && !layers[from].neighbours && !sameHouse {
				t.Errorf("%s (%s) imports %s (%s)", p.ImportPath, layers[from].name, imported, layers[to].name)
			}
		}
	}
}

// empty are names that say nothing about what is inside.
var empty = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "lib", "internal", "types", "models"}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	for _, p := range list(t, "./...") {
		if name := filepath.Base(p.ImportPath); slices.Contains(empty, name) {
			t.Errorf("%s: %q says nothing about what is inside", p.ImportPath, name)
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// forbidden is what a program may not contain, and why.
var forbidden = []struct{ program, prefix, why string }{
	{"/cmd/peat", "testing", "tests' code does not belong in production"},
	{"/cmd/peat", "github.com/automerge/automerge-go", "it is cgo, and a peer can make it abort the process"},
	{"/cmd/peat", "k8s.io/client-go", "it costs a cold start dearly"},
	{"/cmd/peat", module + "/shared/platform/testenv", "tests' code does not belong in production"},
	{"/cmd/peat", module + "/shared/platform/automerge/automergetest", "tests' code does not belong in production"},
	{"", "github.com/nats-io/nats-server", "only a development process has a server in it"},
}

func TestForbiddenDependencies(t *testing.T) {
	for _, f := range forbidden {
		for _, p := range list(t, module+f.program) {
			for _, dep := range p.Deps {
				if dep == f.prefix || strings.HasPrefix(dep, f.prefix+"/") {
					t.Errorf("%s depends on %s: %s", p.ImportPath, dep, f.why)
				}
			}
		}
	}
}

// maxLines is the size at which a file is asked about.
const maxLines = 500

func TestFilesStaySmall(t *testing.T) {
	for _, p := range list(t, "./...") {
		dir := "." + strings.TrimPrefix(p.ImportPath, module)
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(text, []byte("\n")); n > maxLines {
				t.Errorf("%s has %d lines, more than %d", filepath.Join(dir, name), n, maxLines)
			}
		}
	}
}

// TestLayersDocument keeps docs/layers.md equal to what the code imports.
func TestLayersDocument(t *testing.T) {
	edges := map[string]bool{}
	for _, p := range list(t, "./...") {
		from := layers[layerOf(p.ImportPath)].name
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module) {
				if to := layers[layerOf(imported)].name; to != from {
					edges["  "+from+" --> "+to] = true
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("# Layers\n\nA package imports only from layers below its own. `layers_test.go` guards this and writes this page.\n\n```mermaid\nflowchart TD\n")
	var lines []string
	for e := range edges {
		lines = append(lines, e)
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, "\n") + "\n```\n\n| layer | packages | may neighbours import each other |\n| --- | --- | --- |\n")
	for _, l := range layers {
		where := "`" + strings.TrimPrefix(strings.Join(l.prefixes, ", "), "/") + "`"
		if where == "``" {
			where = "the root package"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", l.name, where, map[bool]string{true: "yes", false: "no"}[l.neighbours])
	}
	golden(t, "docs/layers.md", b.String())
}

// golden compares with a file, or writes it when UPDATE=1.
func golden(t *testing.T, path, want string) {
	t.Helper()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != want {
		t.Errorf("%s is not up to date (%v); UPDATE=1 go test . writes it", path, err)
	}
}
