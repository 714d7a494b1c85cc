package openapitest

import (
	"strconv"
	"strings"
	"testing"
)

// TestEveryReferenceLeads finds a mistake in the description also where no
// function's test comes by: a reference to nothing, a schema inside an operation
// that is none.
func TestEveryReferenceLeads(t *testing.T) {
	c := New(t)
	var references, schemas int
	var walk func(v any, at string)
	walk = func(v any, at string) {
		list, _ := v.([]any)
		for i, child := range list {
			walk(child, at+"/"+strconv.Itoa(i))
		}
		for key, child := range object(v) {
			here := at + "/" + escape(key)
			if ref, ok := child.(string); ok && key == "$ref" {
				references++
				if found, _ := c.find(ref); found == nil {
					t.Errorf("%s refers to %s, which is not there", at, ref)
				}
			}
			if key == "schema" && !strings.Contains(at, "/properties/") {
				schemas++
				if _, err := c.compiler.Compile(base + here); err != nil {
					t.Error(err)
				}
			}
			walk(child, here)
		}
	}
	walk(c.doc, "#")
	if references < 100 || schemas < 20 {
		t.Errorf("only %d references and %d schemas were found", references, schemas)
	}
}
