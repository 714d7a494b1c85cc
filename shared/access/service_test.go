package access_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func TestRequests(t *testing.T) {
	got, err := access.ServiceRequest{Label: "builds", Role: "viewer"}.Token(noon)
	want := access.ServiceToken{Label: "builds", Role: web.Viewer, Formations: []string{"*"}, CreatedAt: noon, ExpiresAt: noon.Add(90 * 24 * time.Hour)}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("left to defaults: %v %s", err, diff)
	}
	got, err = access.ServiceRequest{Label: "builds", Role: "org-admin", Formations: []string{"b", "a", "b"},
		Scopes: []string{"sinks:write", "documents:read", "sinks:write"}, ExpiresAt: noon.Add(time.Hour)}.Token(noon)
	want = access.ServiceToken{Label: "builds", Role: web.OrgAdmin, Formations: []string{"a", "b"},
		Scopes: []access.Scope{"documents:read", "sinks:write"}, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("kept to things: %v %s", err, diff)
	}
	// All that is wrong is said at once.
	_, err = access.ServiceRequest{Role: "root", Formations: []string{"a/b"}, Scopes: []string{"x"}, ExpiresAt: noon}.Token(noon)
	var pointers []string
	for _, f := range fault.Of(err).Fields {
		pointers = append(pointers, f.Pointer)
	}
	if diff := cmp.Diff([]string{"/label", "/role", "/expires_at", "/formations/0", "/scopes/0"}, pointers); diff != "" || !errors.Is(err, fault.Invalid) {
		t.Errorf("%v %s", err, diff)
	}
}

func TestStates(t *testing.T) {
	good := access.ServiceToken{ExpiresAt: noon}
	revoked := good
	revoked.RevokedAt = noon.Add(-time.Hour)
	for name, tc := range map[string]struct {
		token access.ServiceToken
		at    time.Time
		want  string
	}{
		"before its end":     {good, noon.Add(-1), "active"},
		"at its end":         {good, noon, "expired"},
		"revoked":            {revoked, noon.Add(-1), "revoked"},
		"revoked, then over": {revoked, noon.Add(1), "revoked"},
	} {
		if got := tc.token.State(tc.at); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestScopeOf(t *testing.T) {
	const f = "/orgs/{org}/formations/{app}"
	for pattern, want := range map[string]struct {
		need  web.Role
		scope access.Scope
		known bool
	}{
		"GET /orgs/{org}":                    {web.Viewer, "org:read", true},
		"PATCH /orgs/{org}":                  {web.GatewayAdmin, "", true},
		"POST /orgs/{org}/formations":        {web.OrgAdmin, "formations:write", true},
		"GET " + f:                           {web.Viewer, "formations:read", true},
		"GET " + f + "/cdc/events":           {web.Viewer, "documents:read", true},
		"POST " + f + "/cdc/sinks/preview":   {web.Viewer, "sinks:read", true},
		"DELETE " + f + "/cdc/sinks/{sink}":  {web.OrgAdmin, "sinks:write", true},
		"GET " + f + "/cdc/sinksters":        {web.Viewer, "documents:read", true},
		"POST /orgs/{org}/cdc/sinks":         {web.OrgAdmin, "sinks:write", true},
		"POST " + f + "/enrollment/tokens":   {web.OrgAdmin, "enrollment:write", true},
		"POST /orgs/{org}/tokens":            {web.OrgAdmin, "", true},
		"GET /orgs/{org}/tokens/{token}":     {web.Viewer, "", true},
		"GET " + f + "/something-new":        {web.Viewer, "", false},
		"GET /orgs/{org}/something-new":      {web.Viewer, "", false},
		"GET /orgs/{org}/formations/x":       {web.Viewer, "", false},
		"GET /elsewhere":                     {web.Viewer, "", false},
		"":                                   {web.Viewer, "", false},
		"POST " + f + "/sync-tickets":        {web.OrgAdmin, "tickets:write", true},
		"POST " + f + "/certificates/{s}/x":  {web.OrgAdmin, "certificates:write", true},
		"GET /orgs/{org}/audit/export":       {web.Viewer, "audit:read", true},
		"GET example.org/orgs/{org}/anyhost": {web.Viewer, "", false},
	} {
		scope, known := access.ScopeOf(pattern, want.need)
		if scope != want.scope || known != want.known {
			t.Errorf("%q: %q, %v", pattern, scope, known)
		}
		if scope != "" && !slices.Contains(access.Scopes(), scope) {
			t.Errorf("%q needs %q, which nobody can have", pattern, scope)
		}
	}
}

// TestTheGate: what callers with every kind of token are told at every kind of door.
func TestTheGate(t *testing.T) {
	b := newBench(t)
	tokens := map[string]string{
		"nothing": "", "the admin's": "secret", "a made-up one": b.text(), "a mistyped one": "peat_svc_x", "an enrollment token": "peat_enr_x",
	}
	for name, tok := range map[string]access.ServiceToken{
		"a viewer":              {Role: web.Viewer, Formations: []string{"*"}},
		"an admin":              {Role: web.OrgAdmin, Formations: []string{"*"}},
		"an admin of one":       {Role: web.OrgAdmin, Formations: []string{"logistics"}},
		"a viewer of none":      {Role: web.Viewer},
		"a reader of documents": {Role: web.Viewer, Formations: []string{"*"}, Scopes: []access.Scope{"documents:read"}},
		"a writer of sinks":     {Role: web.OrgAdmin, Formations: []string{"logistics"}, Scopes: []access.Scope{"sinks:write"}},
		"one who has expired":   {Role: web.OrgAdmin, Formations: []string{"*"}, ExpiresAt: b.now},
	} {
		tok.Org, tok.ID = "acme", name
		if tok.ExpiresAt.IsZero() {
			tok.ExpiresAt = b.now.Add(time.Hour)
		}
		tokens[name] = b.text()
		b.put(tokens[name], tok)
	}
	const f = "/orgs/{org}/formations/{app}"
	var called []string
	handle := func(_ http.ResponseWriter, r *http.Request) error {
		called = append(called, access.FromContext(r.Context()).Name)
		return nil
	}
	h := web.Mux([]web.Route{
		{Pattern: "GET /orgs", Need: web.GatewayAdmin, Handle: handle},
		{Pattern: "GET /orgs/{org}", Need: web.Viewer, Handle: handle},
		{Pattern: "PATCH /orgs/{org}", Need: web.GatewayAdmin, Handle: handle},
		{Pattern: "POST /orgs/{org}/tokens", Need: web.OrgAdmin, Handle: handle},
		{Pattern: "GET " + f + "/cdc/events", Need: web.Viewer, Handle: handle},
		{Pattern: "GET " + f + "/cdc/sinks", Need: web.Viewer, Handle: handle},
		{Pattern: "POST " + f + "/cdc/sinks", Need: web.OrgAdmin, Handle: handle},
	}, web.Options{Authorize: access.Gate{Bootstrap: access.NewBootstrap("secret"), Services: b.Checker}.Authorize})
	doors := []string{
		"GET /orgs", "GET /orgs/acme", "GET /orgs/rival", "PATCH /orgs/acme", "POST /orgs/acme/tokens",
		"GET /orgs/acme/formations/logistics/cdc/events", "GET /orgs/acme/formations/medevac/cdc/events",
		"GET /orgs/acme/formations/logistics/cdc/sinks", "POST /orgs/acme/formations/logistics/cdc/sinks",
		"POST /orgs/acme/formations/medevac/cdc/sinks", "GET /orgs/rival/formations/logistics/cdc/sinks",
	}
	for name, want := range map[string][]int{
		//                       /orgs acme rival PATCH tokens  events: its, another  sinks: see, make, another's, rival's
		"the admin's":           {200, 200, 200, 200, 200 /**/, 200, 200 /**/, 200, 200, 200, 200},
		"nothing":               {401, 401, 401, 401, 401 /**/, 401, 401 /**/, 401, 401, 401, 401},
		"a made-up one":         {401, 401, 401, 401, 401 /**/, 401, 401 /**/, 401, 401, 401, 401},
		"a mistyped one":        {401, 401, 401, 401, 401 /**/, 401, 401 /**/, 401, 401, 401, 401},
		"an enrollment token":   {401, 401, 401, 401, 401 /**/, 401, 401 /**/, 401, 401, 401, 401},
		"one who has expired":   {401, 401, 401, 401, 401 /**/, 401, 401 /**/, 401, 401, 401, 401},
		"a viewer":              {403, 200, 404, 403, 403 /**/, 200, 200 /**/, 200, 403, 403, 404},
		"an admin":              {403, 200, 404, 403, 200 /**/, 200, 200 /**/, 200, 200, 200, 404},
		"an admin of one":       {403, 403, 404, 403, 403 /**/, 200, 404 /**/, 200, 200, 404, 404},
		"a viewer of none":      {403, 403, 404, 403, 403 /**/, 404, 404 /**/, 404, 404, 404, 404},
		"a reader of documents": {403, 403, 404, 403, 403 /**/, 200, 200 /**/, 403, 403, 403, 404},
		"a writer of sinks":     {403, 403, 404, 403, 403 /**/, 403, 404 /**/, 200, 200, 404, 404},
	} {
		for i, door := range doors {
			method, path, _ := strings.Cut(door, " ")
			r := httptest.NewRequest(method, path, nil)
			if tokens[name] != "" {
				r.Header.Set("Authorization", "Bearer "+tokens[name])
			}
			w := httptest.NewRecorder()
			called = nil
			h.ServeHTTP(w, r)
			if w.Code != want[i] || (len(called) == 1) != (want[i] == 200) {
				t.Errorf("%s at %s: %d, want %d: %s", name, door, w.Code, want[i], w.Body)
			}
			caller := "service-token:" + name
			if name == "the admin's" {
				caller = "bootstrap-admin"
			}
			if len(called) == 1 && called[0] != caller {
				t.Errorf("%s is called %s", name, called[0])
			}
			if len(tokens[name]) > 20 && strings.Contains(w.Body.String(), tokens[name]) {
				t.Errorf("the token is in %s", w.Body)
			}
		}
	}
}

func TestWithoutATokenKey(t *testing.T) {
	r := httptest.NewRequest("GET", "/orgs", nil)
	r.Header.Set("Authorization", "Bearer peat_svc_x")
	if _, err := access.NewBootstrap("secret").Authorize(r, web.Viewer); !errors.Is(err, fault.Unavailable) {
		t.Errorf("err = %v", err)
	}
}

func TestWhoReadsTheAuditTrail(t *testing.T) {
	for name, tc := range map[string]struct {
		p    access.Principal
		want bool
	}{
		"a person":                         {access.Principal{Name: "ann"}, true},
		"a token for everything":           {access.Principal{Token: &access.ServiceToken{Formations: []string{"*"}}}, true},
		"a token with the scope":           {access.Principal{Token: &access.ServiceToken{Formations: []string{"*"}, Scopes: []access.Scope{"audit:read", "sinks:write"}}}, true},
		"a token with another scope":       {access.Principal{Token: &access.ServiceToken{Formations: []string{"*"}, Scopes: []access.Scope{"sinks:write"}}}, false},
		"a token of one formation":         {access.Principal{Token: &access.ServiceToken{Formations: []string{"logistics"}}}, false},
		"a token of one, though it has it": {access.Principal{Token: &access.ServiceToken{Formations: []string{"logistics"}, Scopes: []access.Scope{"audit:read"}}}, false},
	} {
		if got := tc.p.ReadsAudit(); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
