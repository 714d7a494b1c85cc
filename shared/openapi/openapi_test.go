package openapi_test

import (
	"bytes"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/defenseunicorns/peat-gateway/shared/openapi"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestServed(t *testing.T) {
	got := httptest.NewRecorder()
	web.Mux(openapi.Routes(), web.Options{}).ServeHTTP(got, httptest.NewRequest("GET", "/openapi.yaml", nil))
	if got.Code != 200 || got.Header().Get("Content-Type") != "application/yaml" || !bytes.Equal(got.Body.Bytes(), openapi.Text()) {
		t.Errorf("%d %s, %d bytes", got.Code, got.Header().Get("Content-Type"), got.Body.Len())
	}
}

type parameter struct {
	Name string `yaml:"name"`
	In   string `yaml:"in"`
	Ref  string `yaml:"$ref"`
}

type operation struct {
	ID         string               `yaml:"operationId"`
	Summary    string               `yaml:"summary"`
	Parameters []parameter          `yaml:"parameters"`
	Responses  map[string]yaml.Node `yaml:"responses"`
}

type path struct {
	Parameters []parameter `yaml:"parameters"`
	Get        *operation  `yaml:"get"`
	Post       *operation  `yaml:"post"`
	Put        *operation  `yaml:"put"`
	Patch      *operation  `yaml:"patch"`
	Delete     *operation  `yaml:"delete"`
}

type document struct {
	Paths      map[string]path `yaml:"paths"`
	Components struct {
		Parameters map[string]parameter `yaml:"parameters"`
		Schemas    map[string]struct {
			Enum       []string             `yaml:"enum"`
			MaxLength  int                  `yaml:"maxLength"`
			Properties map[string]yaml.Node `yaml:"properties"`
		} `yaml:"schemas"`
	} `yaml:"components"`
}

func read(t *testing.T) document {
	t.Helper()
	var doc document
	if err := yaml.Unmarshal(openapi.Text(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

var placeholder = regexp.MustCompile(`\{([a-z_]+)\}`)

func TestEveryOperationIsWhole(t *testing.T) {
	doc := read(t)
	names := map[string]string{}
	count := 0
	for at, p := range doc.Paths {
		for method, o := range map[string]*operation{"GET": p.Get, "POST": p.Post, "PUT": p.Put, "PATCH": p.Patch, "DELETE": p.Delete} {
			if o == nil {
				continue
			}
			count++
			here := method + " " + at
			if o.ID == "" || o.Summary == "" || len(o.Responses) == 0 {
				t.Errorf("%s lacks an id, a summary or answers", here)
			}
			if other, ok := names[o.ID]; ok {
				t.Errorf("%s and %s have one id, %q", here, other, o.ID)
			}
			names[o.ID] = here
			var want, got []string
			for _, m := range placeholder.FindAllStringSubmatch(at, -1) {
				want = append(want, m[1])
			}
			for _, param := range slices.Concat(p.Parameters, o.Parameters) {
				if param.Ref != "" {
					param = doc.Components.Parameters[strings.TrimPrefix(param.Ref, "#/components/parameters/")]
				}
				if param.In == "path" {
					got = append(got, param.Name)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: path parameters:\n%s", here, diff)
			}
		}
	}
	listed, err := openapi.Operations()
	if err != nil || len(listed) != count || !slices.Contains(listed, "POST /orgs/{org}/formations") {
		t.Errorf("%v: %d listed, %d there", err, len(listed), count)
	}
}

// TestSaysWhatTheDomainSays: names and bounds that stand in the document and in
// the code must not come apart.
func TestSaysWhatTheDomainSays(t *testing.T) {
	schemas := read(t).Components.Schemas
	if got := schemas["Id"].MaxLength; got != tenant.MaxIDBytes {
		t.Errorf("an id may have %d characters, the domain says %d", got, tenant.MaxIDBytes)
	}
	for _, policy := range schemas["EnrollmentPolicy"].Enum {
		if _, err := tenant.ParseEnrollmentPolicy(policy); err != nil {
			t.Error(err)
		}
	}
	quotas, err := yaml.Marshal(tenant.DefaultQuotas())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(schemas["Quotas"].Properties), bytes.Count(quotas, []byte("\n")); got != want {
		t.Errorf("%d quotas are described, there are %d", got, want)
	}
}
