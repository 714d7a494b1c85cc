package web_test

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestIfMatch(t *testing.T) {
	for name, tc := range map[string]struct {
		headers []string
		want    bool
	}{
		"none":             {nil, true},
		"this state":       {[]string{`"7"`}, true},
		"another":          {[]string{`"6"`}, false},
		"any":              {[]string{`*`}, true},
		"one of several":   {[]string{`"5", "7"`}, true},
		"in a second line": {[]string{`"5"`, `"7"`}, true},
		"none of several":  {[]string{`"5", "6"`}, false},
		"weak":             {[]string{`W/"7"`}, false},
		"without quotes":   {[]string{`7`}, false},
		"empty":            {[]string{``}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("PATCH", "/x", nil)
			for _, h := range tc.headers {
				r.Header.Add("If-Match", h)
			}
			err := web.IfMatch(r, "7")
			if (err == nil) != tc.want || err != nil && !errors.Is(err, fault.Mismatch) {
				t.Errorf("got %v", err)
			}
		})
	}
	w := httptest.NewRecorder()
	web.SetETag(w, "7")
	if got := w.Header().Get("ETag"); got != `"7"` {
		t.Errorf("ETag: %s", got)
	}
}
