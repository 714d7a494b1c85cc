package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	gateway "github.com/defenseunicorns/peat-gateway"
)

// runtimeFunction is what Knative's runtime for Go looks for, by these names.
type runtimeFunction interface {
	Handle(http.ResponseWriter, *http.Request)
	Start(context.Context, map[string]string) error
	Stop(context.Context) error
	Ready(context.Context) (bool, error)
	Alive(context.Context) (bool, error)
}

func get(f runtimeFunction, path string) int {
	w := httptest.NewRecorder()
	f.Handle(w, httptest.NewRequest("GET", path, nil))
	return w.Code
}

func TestTheRuntimesHooks(t *testing.T) {
	var f runtimeFunction = gateway.New()
	ctx := t.Context()
	// The runtime listens before it calls Start.
	if code := get(f, "/health"); code != http.StatusServiceUnavailable {
		t.Errorf("before Start: %d", code)
	}
	if ready, err := f.Ready(ctx); ready || err != nil {
		t.Errorf("before Start: ready = %v, %v", ready, err)
	}
	dir := t.TempDir()
	cfg := map[string]string{
		"PEAT_FUNCTION": "orgs", "PEAT_ADMIN_TOKEN": "token", "K_SINK": "http://127.0.0.1:1/",
		"PEAT_DATABASE_URL": "sqlite:" + filepath.Join(dir, "x.db"), "PEAT_KEK_FILE": filepath.Join(dir, "kek"),
	}
	if err := f.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if ready, err := f.Ready(ctx); !ready || err != nil {
		t.Errorf("after Start: ready = %v, %v", ready, err)
	}
	for path, want := range map[string]int{"/health": 200, "/health/ready": 200, "/metrics": 200, "/openapi.yaml": 200, "/orgs": 401, "/nowhere": 404} {
		if code := get(f, path); code != want {
			t.Errorf("GET %s = %d, want %d", path, code, want)
		}
	}
	if err := f.Stop(ctx); err != nil {
		t.Error(err)
	}
	if code := get(f, "/health"); code != http.StatusServiceUnavailable {
		t.Errorf("after Stop: %d", code)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	for name, cfg := range map[string]map[string]string{
		"no function":      {"PEAT_ADMIN_TOKEN": "x"},
		"unknown function": {"PEAT_FUNCTION": "none"},
		"no database":      {"PEAT_FUNCTION": "orgs"},
		"a bad duration":   {"PEAT_FUNCTION": "orgs", "PEAT_RETRY_FOR": "soon"},
	} {
		if err := gateway.New().Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: Start succeeded", name)
		}
	}
}
