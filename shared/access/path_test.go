package access_test

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestKeyOf(t *testing.T) {
	for name, tc := range map[string]struct {
		org, app, refused string
	}{
		"both can exist":         {"acme", "log", ""},
		"no such organization":   {"a/b", "log", "no such organization"},
		"no such formation":      {"acme", "_org", "no such formation"},
		"neither: the first one": {"", "", "no such organization"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.SetPathValue("org", tc.org)
			r.SetPathValue("app", tc.app)
			key, err := access.KeyOf(r)
			if tc.refused == "" {
				if want := (tenant.Key{Org: "acme", App: "log"}); err != nil || key != want {
					t.Errorf("%v, %v", key, err)
				}
				return
			}
			if !errors.Is(err, fault.NotFound) || err.Error() != tc.refused || key != (tenant.Key{}) {
				t.Errorf("%v, %v", key, err)
			}
		})
	}
}
