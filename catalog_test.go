package gateway_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/eventing"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/openapi"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

func settings(t *testing.T, more map[string]string) *env.Reader {
	dir := t.TempDir()
	values := map[string]string{
		"PEAT_DATABASE_URL":   "sqlite:" + filepath.Join(dir, "x.db"),
		"PEAT_KEK_FILE":       filepath.Join(dir, "kek"),
		"PEAT_AUDIT_KEY_FILE": filepath.Join(dir, "audit-key"),
		"PEAT_TOKEN_KEY_FILE": filepath.Join(dir, "token-key"),
		"PEAT_ADMIN_TOKEN":    "token",
		"K_SINK":              "http://127.0.0.1:1/",
	}
	for k, v := range more {
		values[k] = v
	}
	return env.New(func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	})
}

// parts opens every function of the catalog.
func parts(t *testing.T) map[string]gateway.Part {
	t.Helper()
	host, err := gateway.NewHost(settings(t, nil), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	out := map[string]gateway.Part{}
	for _, e := range gateway.Catalog() {
		p, err := e.Open(t.Context(), host)
		if err != nil {
			t.Fatalf("open %s: %v", e.Name, err)
		}
		if c, ok := p.(io.Closer); ok {
			t.Cleanup(func() { _ = c.Close() })
		}
		out[e.Name] = p
	}
	return out
}

func TestEveryEventHeardHasATriggerAndTheReverse(t *testing.T) {
	var hears, triggered []string
	for name, p := range parts(t) {
		for _, s := range p.Events() {
			hears = append(hears, name+" hears "+s.Type)
		}
	}
	triggers, err := eventing.Triggers()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, tr := range triggers {
		triggered = append(triggered, tr.Subscriber+" hears "+tr.Exact["type"])
		if names[tr.Name] {
			t.Errorf("two triggers are named %s", tr.Name)
		}
		names[tr.Name] = true
		if tr.Path != "/events" || tr.Timeout <= 0 || tr.Retry <= 0 || tr.Backoff <= 0 {
			t.Errorf("trigger %s lacks a part of its delivery: %+v", tr.Name, tr)
		}
	}
	same(t, "functions' tables", hears, "triggers.yaml", triggered)
	known := append(event.Types(), event.PingType)
	for _, tr := range triggers {
		if !slices.Contains(known, tr.Exact["type"]) {
			t.Errorf("trigger %s waits for %s, which nobody emits", tr.Name, tr.Exact["type"])
		}
	}
}

func TestEveryRouteIsInOpenAPIAndTheReverse(t *testing.T) {
	routes := []string{"GET /health", "GET /health/live", "GET /health/ready", "GET /metrics", "GET /openapi.yaml"}
	for _, p := range parts(t) {
		if r, ok := p.(gateway.Router); ok {
			for _, route := range r.Routes() {
				routes = append(routes, route.Pattern)
			}
		}
	}
	described, err := openapi.Operations()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "routes", routes, "openapi.yaml", described)
}

func same(t *testing.T, aName string, a []string, bName string, b []string) {
	t.Helper()
	slices.Sort(a)
	slices.Sort(b)
	for _, x := range a {
		if !slices.Contains(b, x) {
			t.Errorf("%q is in the %s and not in %s", x, aName, bName)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			t.Errorf("%q is in %s and not in the %s", x, bName, aName)
		}
	}
	if len(slices.Compact(slices.Clone(a))) != len(a) || len(slices.Compact(slices.Clone(b))) != len(b) {
		t.Errorf("%s or %s says something twice", aName, bName)
	}
}

// TestConfigurationDocument keeps docs/configuration.md equal to what is read.
func TestConfigurationDocument(t *testing.T) {
	e := env.New(func(name string) (string, bool) { return "", false })
	if _, err := gateway.ReadSettings(e); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Configuration\n\nEverything is set by environment variables, read in `host.go`. A test writes this page.\n" +
		"`peat dev` sets what it needs below its data folder; what the environment says wins.\n\n| variable | type | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, s := range e.Documented() {
		def := s.Default
		if s.Name == "HOSTNAME" {
			def = "the host's name"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, s.Type, def, s.Doc)
	}
	b.WriteString("\n`peat serve` also listens on `PORT` (default 8080), as Knative sets it.\n")
	golden(t, "docs/configuration.md", b.String())
}

func TestServeRefusesToStartWithoutAnAdministrator(t *testing.T) {
	host, err := gateway.NewHost(settings(t, map[string]string{"PEAT_ADMIN_TOKEN": ""}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if _, err := host.Open(context.Background(), "orgs"); err == nil || !strings.Contains(err.Error(), "PEAT_ADMIN_TOKEN") {
		t.Errorf("Open = %v", err)
	}
	// What has no administration needs no administrator.
	s, err := host.Open(context.Background(), "sink-file")
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestFuncYAMLIsBesideThePackage(t *testing.T) {
	for _, name := range []string{"func.yaml", "go.mod", "function.go"} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}
