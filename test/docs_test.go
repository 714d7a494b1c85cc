package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestEventDocuments: docs/events.md and docs/asyncapi.yaml have every type of
// event there is, and no other.
func TestEventDocuments(t *testing.T) {
	root := testenv.Root(t)
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var api struct {
		Components struct {
			Messages map[string]struct {
				Name string `yaml:"name"`
			} `yaml:"messages"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(read("asyncapi.yaml"), &api); err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, m := range api.Components.Messages {
		there[m.Name] = true
	}
	words := map[string]bool{}
	for _, name := range regexp.MustCompile("`([a-z.]+)`").FindAllStringSubmatch(string(read("events.md")), -1) {
		words[name[1]] = true
	}
	for _, full := range event.Types() {
		if !there[full] {
			t.Errorf("asyncapi.yaml lacks %s", full)
		}
		delete(there, full)
		short := strings.TrimSuffix(strings.TrimPrefix(full, "com.defenseunicorns.peat.gateway."), ".v1")
		if !words[short] {
			t.Errorf("events.md lacks %s", short)
		}
	}
	for name := range there {
		t.Errorf("asyncapi.yaml has %s, which is no type of event", name)
	}
}

// TestLinks: what the documents point at in this repository is there.
func TestLinks(t *testing.T) {
	root := testenv.Root(t)
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"*.md", "docs/adr/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, more))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(f), m[1])); err != nil {
				name, _ := filepath.Rel(root, f)
				t.Errorf("%s points at %s, which is not there", name, m[1])
			}
		}
	}
}
