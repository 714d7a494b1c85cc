// Package openapi holds the description of the REST API, which tests keep true:
// catalog_test.go compares its paths with the functions' tables, openapitest the
// requests and answers of their tests with its schemas.
package openapi

import (
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

//go:embed openapi.yaml
var text []byte

// Text is the document, in YAML.
func Text() []byte { return slices.Clone(text) }

// Routes serves the document.
func Routes() []web.Route {
	return []web.Route{{Pattern: "GET /openapi.yaml", Need: web.Anyone, Handle: serve}}
}

func serve(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, err := w.Write(text)
	return err
}

// methods are the keys of a path that are operations.
var methods = []string{"get", "post", "put", "patch", "delete"}

// Operations lists "METHOD /path" for every operation in the document.
func Operations() ([]string, error) {
	var doc struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	var out []string
	for path, item := range doc.Paths {
		for _, m := range methods {
			if _, ok := item[m]; ok {
				out = append(out, strings.ToUpper(m)+" "+path)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
