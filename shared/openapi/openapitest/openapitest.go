// Package openapitest holds what a handler reads and writes against the
// description of the REST API. Only tests import it.
//
// It is stricter than the description: a field of an answer that is not described
// fails the test, though clients are told to expect new ones. That is how a field
// comes to be described on the day it is added.
package openapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/defenseunicorns/peat-gateway/shared/openapi"
)

// base is the name under which the document is known to the schema compiler.
const base = "openapi.json"

// Checker knows the description. It may be used by several goroutines.
type Checker struct {
	doc   map[string]any
	paths *http.ServeMux // only to find the path an address belongs to

	mu       sync.Mutex // the compiler keeps what it compiled
	compiler *jsonschema.Compiler
}

// New reads the description.
func New(t testing.TB) *Checker {
	t.Helper()
	c, err := read(openapi.Text())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(text []byte) (*Checker, error) {
	var parsed any
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		return nil, err
	}
	// Through JSON, so that numbers and keys are what the compiler expects.
	b, err := json.Marshal(parsed)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	c := &Checker{paths: http.NewServeMux(), compiler: jsonschema.NewCompiler()}
	c.doc, _ = doc.(map[string]any)
	closeObjects(c.doc["components"])
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(base, c.doc); err != nil {
		return nil, err
	}
	for path, item := range object(c.doc["paths"]) {
		for method := range object(item) {
			if method != "parameters" {
				c.paths.HandleFunc(strings.ToUpper(method)+" "+path, func(http.ResponseWriter, *http.Request) {})
			}
		}
	}
	return c, nil
}

// closeObjects lets no object have a property that is not described.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, described := v["properties"].(map[string]any)
		if _, said := v["additionalProperties"]; described && !said {
			v["additionalProperties"] = false
		}
		for _, child := range v {
			closeObjects(child)
		}
	case []any:
		for _, child := range v {
			closeObjects(child)
		}
	}
}

// Handler returns h under watch: whatever passes through it and is not as
// described is an error of the test. Not for handlers that take over connections.
func (c *Checker) Handler(t testing.TB, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent bytes.Buffer
		r.Body = io.NopCloser(io.TeeReader(r.Body, &sent))
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		for _, err := range c.check(r, sent.Bytes(), answer) {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// undescribed are statuses that any path may answer with.
var undescribed = map[int]bool{http.StatusMethodNotAllowed: true, http.StatusForbidden: true, http.StatusInternalServerError: true}

// check returns what is not as described.
func (c *Checker) check(r *http.Request, sent []byte, answer *httptest.ResponseRecorder) []error {
	// A fresh request: matching must not see what the handler did to r.
	_, pattern := c.paths.Handler(httptest.NewRequest(r.Method, r.URL.EscapedPath(), nil))
	method, path, found := strings.Cut(pattern, " ")
	problems := "#/components/schemas/Problem"
	if !found {
		if answer.Code != http.StatusNotFound && answer.Code != http.StatusMethodNotAllowed {
			return []error{fmt.Errorf("status %d where nothing is described", answer.Code)}
		}
		return wrap(c.conforms(problems, answer.Body.Bytes()))
	}
	at := "#/paths/" + escape(path) + "/" + strings.ToLower(method)
	if described, _ := c.find(at + "/responses/" + strconv.Itoa(answer.Code)); undescribed[answer.Code] && described == nil {
		return wrap(c.conforms(problems, answer.Body.Bytes()))
	}
	var wrong []error
	if answer.Code < 300 {
		wrong = append(wrong, c.checkRequest(at, r.Header.Get("Content-Type"), sent)...)
	}
	return append(wrong, c.checkAnswer(at, answer)...)
}

// checkRequest: what was accepted must be what is described.
func (c *Checker) checkRequest(at, contentType string, sent []byte) []error {
	body, _ := c.find(at + "/requestBody")
	if body == nil {
		if len(sent) > 0 {
			return []error{fmt.Errorf("a body was accepted where none is described: %s", sent)}
		}
		return nil
	}
	if len(sent) == 0 && body["required"] != true {
		return nil
	}
	if media, _, err := mime.ParseMediaType(contentType); err == nil && media != "application/json" && object(body["content"])[media] != nil {
		return nil // described, and nothing that a schema could be held to
	}
	return wrap(c.conforms(at+"/requestBody/content/application~1json/schema", sent))
}

func (c *Checker) checkAnswer(at string, answer *httptest.ResponseRecorder) []error {
	described, at := c.find(at + "/responses/" + strconv.Itoa(answer.Code))
	if described == nil {
		return []error{fmt.Errorf("status %d is not described: %s", answer.Code, answer.Body)}
	}
	content := object(described["content"])
	if len(content) == 0 {
		if answer.Body.Len() > 0 {
			return []error{fmt.Errorf("an answer where none is described: %s", answer.Body)}
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(answer.Header().Get("Content-Type"))
	if err != nil || content[media] == nil {
		return []error{fmt.Errorf("content type %q is not described", answer.Header().Get("Content-Type"))}
	}
	if media != "application/json" && media != "application/problem+json" {
		return nil
	}
	return wrap(c.conforms(at+"/content/"+escape(media)+"/schema", answer.Body.Bytes()))
}

// find returns the object at a pointer and the pointer of what it refers to.
func (c *Checker) find(at string) (map[string]any, string) {
	var v any = c.doc
	for _, part := range strings.Split(strings.TrimPrefix(at, "#/"), "/") {
		v = object(v)[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	found := object(v)
	if ref, ok := found["$ref"].(string); ok {
		return c.find(ref)
	}
	return found, at
}

func (c *Checker) conforms(schemaAt string, body []byte) error {
	c.mu.Lock()
	schema, err := c.compiler.Compile(base + schemaAt)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("not JSON: %w: %s", err, body)
	}
	if err := schema.Validate(v); err != nil {
		return fmt.Errorf("%w in %s", err, body)
	}
	return nil
}

func wrap(err error) []error {
	if err == nil {
		return nil
	}
	return []error{err}
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func escape(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }
