package file

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestFileConfigurationsThatAreRefused(t *testing.T) {
	for name, in := range map[string]string{
		"an unknown policy":            `{"path":"x","fsync":"sometimes"}`,
		"an interval without a policy": `{"path":"x","fsync_interval_ms":5}`,
		"a negative interval":          `{"path":"x","fsync":"interval","fsync_interval_ms":-1}`,
		"a long interval":              `{"path":"x","fsync":"interval","fsync_interval_ms":60001}`,
		"tiny files":                   `{"path":"x","rotate":{"max_bytes":1}}`,
		"files without a size":         `{"path":"x","rotate":{"keep":3}}`,
		"keeping less than none":       `{"path":"x","rotate":{"max_bytes":100000,"keep":-1}}`,
		"the name of a full file":      `{"path":"x.000000001"}`,
		"an option that is no one":     `{"path":"x","gzip":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(json.RawMessage(in), nil, driver.Settings{SinkDir: "/sinks"}); !errors.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
		})
	}
}

func FuzzFileConfiguration(f *testing.F) {
	f.Add([]byte(`{"path":"a/b.ndjson","rotate":{"max_bytes":65536,"keep":2},"fsync":"interval"}`))
	f.Add([]byte(`{"path":"../x"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		made, err := Parse(in, nil, driver.Settings{SinkDir: "/sinks"})
		if err != nil {
			return
		}
		public, err := json.Marshal(made.Public)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(public, nil, driver.Settings{SinkDir: "/sinks"})
		if err != nil || !cmp.Equal(again, made) {
			t.Errorf("%s is read as another: %v", public, err)
		}
		if c := made.Public.(fileConfig); !filepath.IsLocal(c.Path) || looksFull.MatchString(c.Path) {
			t.Errorf("%q was taken", c.Path)
		}
	})
}
