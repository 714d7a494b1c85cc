package access_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestBootstrap(t *testing.T) {
	for name, tc := range map[string]struct {
		token, header string
		ok            bool
	}{
		"the token":               {"secret", "Bearer secret", true},
		"the scheme in any case":  {"secret", "bearer secret", true},
		"no header":               {"secret", "", false},
		"another token":           {"secret", "Bearer other", false},
		"the beginning of it":     {"secret", "Bearer secre", false},
		"another scheme":          {"secret", "Basic secret", false},
		"no token at all":         {"secret", "Bearer ", false},
		"nothing set, none shown": {"", "Bearer ", false},
		"nothing set":             {"", "Bearer secret", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/orgs", nil)
			if tc.header != "" {
				r.Header.Set("Authorization", tc.header)
			}
			ctx, err := access.NewBootstrap(tc.token).Authorize(r, web.GatewayAdmin)
			if (err == nil) != tc.ok {
				t.Fatalf("err = %v", err)
			}
			if err != nil {
				if !errors.Is(err, fault.Unauthenticated) || strings.Contains(err.Error(), "secret") {
					t.Errorf("err = %v", err)
				}
				return
			}
			if got := access.FromContext(ctx).Name; got != "bootstrap-admin" {
				t.Errorf("caller = %q", got)
			}
		})
	}
	if got := access.FromContext(t.Context()).Name; got != "anonymous" {
		t.Errorf("caller of a request without a credential = %q", got)
	}
}
