package access_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestMay(t *testing.T) {
	ann := access.Principal{Name: "ann", Orgs: map[tenant.OrgID]web.Role{"acme": web.OrgAdmin, "look": web.Viewer, "odd": "root"}}
	admin, nobody := access.Principal{Gateway: true}, access.FromContext(t.Context())
	for name, tc := range map[string]struct {
		who  access.Principal
		need web.Role
		org  tenant.OrgID
		want error
	}{
		"gateway-admin anywhere":         {admin, web.OrgAdmin, "acme", nil},
		"gateway-admin, no organization": {admin, web.GatewayAdmin, "", nil},
		"org-admin at home":              {ann, web.OrgAdmin, "acme", nil},
		"org-admin looks":                {ann, web.Viewer, "acme", nil},
		"org-admin as gateway-admin":     {ann, web.GatewayAdmin, "acme", fault.Forbidden},
		"viewer looks":                   {ann, web.Viewer, "look", nil},
		"viewer changes":                 {ann, web.OrgAdmin, "look", fault.Forbidden},
		"another organization":           {ann, web.Viewer, "rival", fault.NotFound},
		"the same in other case":         {ann, web.Viewer, "Acme", fault.NotFound},
		"a role nobody knows":            {ann, web.Viewer, "odd", fault.NotFound},
		"a need nobody knows":            {ann, "deity", "acme", fault.Forbidden},
		"no organization":                {ann, web.Viewer, "", fault.Forbidden},
		"anonymous":                      {nobody, web.Viewer, "acme", fault.NotFound},
		"anonymous, no organization":     {nobody, web.Viewer, "", fault.Forbidden},
	} {
		if err := tc.who.May(tc.need, tc.org); !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestTwoHeadersAreNone(t *testing.T) {
	r := httptest.NewRequest("GET", "/orgs", nil)
	r.Header["Authorization"] = []string{"Bearer secret", "Bearer other"}
	if _, err := access.NewBootstrap("secret").Authorize(r, web.Viewer); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("err = %v", err)
	}
}

func TestNoTokenIsEverLoggedOrSaid(t *testing.T) {
	const token = "the-token-itself"
	var log bytes.Buffer
	h := web.Mux([]web.Route{{Pattern: "GET /orgs", Need: web.GatewayAdmin, Handle: func(http.ResponseWriter, *http.Request) error { return nil }}},
		web.Options{
			Log:       slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Authorize: access.NewBootstrap(token).Authorize,
		})
	for _, sent := range []string{"Bearer " + token, "Bearer guess-1", "guess-1", "Basic guess-1"} {
		r := httptest.NewRequest("GET", "/orgs", nil)
		r.Header.Set("Authorization", sent)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if said := log.String() + w.Body.String(); strings.Contains(said, token) || strings.Contains(said, "guess-1") {
			t.Fatalf("%q is repeated in %s", sent, said)
		}
	}
}
