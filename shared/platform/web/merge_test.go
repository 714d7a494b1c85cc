package web_test

import (
	"encoding/json"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestMergePatch(t *testing.T) {
	for name, tc := range map[string]struct{ target, patch, want string }{ // want empty: it is no patch
		"one member":                {`{"a":1,"b":2}`, `{"a":3}`, `{"a":3,"b":2}`},
		"null removes":              {`{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		"inside":                    {`{"a":{"b":1,"c":2}}`, `{"a":{"b":null,"d":3}}`, `{"a":{"c":2,"d":3}}`},
		"a list is replaced":        {`{"a":[1,2]}`, `{"a":[3]}`, `{"a":[3]}`},
		"an object for a number":    {`{"a":1}`, `{"a":{"b":null}}`, `{"a":{}}`},
		"nothing there before":      {``, `{"a":1}`, `{"a":1}`},
		"a list is no patch":        {`{}`, `[]`, ``},
		"null is no patch":          {`{}`, `null`, ``},
		"half of one is no patch":   {`{}`, `{"a":`, ``},
		"nothing is not a patch":    {`{}`, ``, ``},
		"an empty one changes none": {`{"a":1}`, `{}`, `{"a":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := web.MergePatch(json.RawMessage(tc.target), json.RawMessage(tc.patch))
			if ok != (tc.want != "") || string(got) != tc.want {
				t.Errorf("%s %t", got, ok)
			}
		})
	}
}
