package access_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/cookie"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// endings are the names that are ended, or why that is not known.
type endings struct {
	names map[string]bool
	err   error
}

func (e *endings) LoginEnded(_ context.Context, of access.Ends) (bool, error) {
	return e.names[string(of.Session)] || e.names[string(of.Provider)] || e.names[string(of.Subject)], e.err
}

type sessionWorld struct {
	*access.Sessions
	endings
	now time.Time
}

func newSessions(t testing.TB) *sessionWorld {
	t.Helper()
	key, err := cookie.ParseKey(strings.Repeat("42", 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &sessionWorld{now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), endings: endings{names: map[string]bool{}}}
	w.Sessions = &access.Sessions{Key: key, Idle: time.Hour, Whole: 8 * time.Hour, Origin: "https://gw.example", Issuer: "https://id.example", Rules: "r", Endings: &w.endings, Now: func() time.Time { return w.now }}
	return w
}

var ann = access.Principal{Name: "person:ann", Orgs: map[tenant.OrgID]web.Role{"acme": web.OrgAdmin, "look": web.Viewer}, Person: &access.Person{Subject: "ann", Label: "Ann"}}

// request is one of the browser that was given the session.
func (w *sessionWorld) request(t testing.TB, method string, s access.Session) *http.Request {
	t.Helper()
	answer := httptest.NewRecorder()
	if err := w.Give(answer, httptest.NewRequest("GET", "/", nil), s); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, "/orgs/acme", nil)
	r.SetPathValue("org", "acme")
	for _, c := range answer.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

func TestASessionComesBack(t *testing.T) {
	w := newSessions(t)
	want := w.New(ann, "id", "sso")
	got, err := w.Check(w.request(t, "GET", want))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestGateInASession(t *testing.T) {
	w := newSessions(t)
	gate := access.Gate{Bootstrap: access.NewBootstrap("secret"), People: &access.People{Verifier: none{}, Mapping: mapping, Sessions: w.Sessions, Log: slog.New(slog.DiscardHandler), Now: w.Now}}
	s := w.New(ann, "id", "sso")
	own := func(r *http.Request) { r.Header.Set("X-CSRF-Token", w.CSRF(s)) }
	for name, tc := range map[string]struct {
		method string
		need   web.Role
		change func(r *http.Request)
		want   error // nil: let in
	}{
		"to look":                      {"GET", web.Viewer, nil, nil},
		"to look only at the head":     {"HEAD", web.Viewer, nil, nil},
		"to change":                    {"POST", web.OrgAdmin, own, nil},
		"to change, from elsewhere":    {"POST", web.OrgAdmin, nil, fault.Forbidden},
		"to do what admins do":         {"GET", web.GatewayAdmin, nil, fault.Forbidden},
		"in another organization":      {"GET", web.Viewer, func(r *http.Request) { r.SetPathValue("org", "rival") }, fault.NotFound},
		"with a token beside":          {"GET", web.GatewayAdmin, func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }, nil},
		"with another's token beside":  {"GET", web.Viewer, func(r *http.Request) { r.Header.Set("Authorization", "Bearer other") }, fault.Unauthenticated},
		"with an empty token beside":   {"GET", web.Viewer, func(r *http.Request) { r.Header.Set("Authorization", "") }, fault.Unauthenticated},
		"without a cookie":             {"GET", web.Viewer, func(r *http.Request) { r.Header.Del("Cookie") }, fault.Unauthenticated},
		"ended":                        {"GET", web.Viewer, func(*http.Request) { w.names[string(w.Ends(s).Session)] = true }, fault.Unauthenticated},
		"ended at the provider":        {"GET", web.Viewer, func(*http.Request) { w.names[string(w.ProviderEnd("sso"))] = true }, fault.Unauthenticated},
		"ended with all":               {"GET", web.Viewer, func(*http.Request) { w.names[string(w.SubjectEnd("ann"))] = true }, fault.Unauthenticated},
		"another ended":                {"GET", web.Viewer, func(*http.Request) { w.names[string(w.SubjectEnd("bob"))] = true }, nil},
		"while nobody knows its ends":  {"GET", web.Viewer, func(*http.Request) { w.err = errors.New("the store is away") }, fault.Unavailable},
		"made under other rules":       {"GET", web.Viewer, func(*http.Request) { w.Rules = "others" }, fault.Unauthenticated},
		"idle":                         {"GET", web.Viewer, func(*http.Request) { w.now = w.now.Add(time.Hour) }, fault.Unauthenticated},
		"not quite idle":               {"GET", web.Viewer, func(*http.Request) { w.now = w.now.Add(time.Hour - time.Second) }, nil},
		"of a clock that is far ahead": {"GET", web.Viewer, func(*http.Request) { w.now = w.now.Add(-time.Minute) }, fault.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.request(t, tc.method, s)
			if tc.change != nil {
				tc.change(r)
			}
			ctx, err := gate.Authorize(r, tc.need)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if err == nil && r.Header.Get("Authorization") == "" && access.NameOf(ctx) != "person:ann" {
				t.Errorf("it is %s", access.NameOf(ctx))
			}
			w.names, w.err, w.Rules, w.now = map[string]bool{}, nil, "r", s.Begun
		})
	}
}

// none knows nobody.
type none struct{ identity.Verifier }

func (none) Verify(context.Context, identity.Proof, time.Time) (identity.Claims, error) {
	return identity.Claims{}, fault.Unauthenticated.New("hush: nobody is known")
}

// scripted says the same of every token.
type scripted struct {
	identity.Verifier
	claims identity.Claims
	err    error
}

func (s scripted) Verify(_ context.Context, p identity.Proof, _ time.Time) (identity.Claims, error) {
	if p.Expect.Audiences != nil || p.Expect.Nonce != "" {
		return identity.Claims{}, errors.New("a bearer token is for the gateway's own audience")
	}
	return s.claims, s.err
}

func TestGateByAToken(t *testing.T) {
	viewer := identity.Claims{Subject: "ann", Roles: []string{"peat-viewer:acme"}}
	for name, tc := range map[string]struct {
		token    string
		verifier identity.Verifier
		want     error
	}{
		"good":                    {"a.b.c", scripted{claims: viewer}, nil},
		"bad":                     {"a.b.c", none{}, fault.Unauthenticated},
		"of nobody":               {"a.b.c", scripted{}, fault.Unauthenticated},
		"not known now":           {"a.b.c", scripted{err: fault.Unavailable.New("the provider is away")}, fault.Unavailable},
		"a verifier out of order": {"a.b.c", scripted{err: errors.New("broken")}, fault.Unauthenticated},
		"no JWT":                  {"abc", scripted{claims: viewer}, fault.Unauthenticated},
		"encrypted":               {"a.b.c.d.e", scripted{claims: viewer}, fault.Unauthenticated},
		"in no organization":      {"a.b.c", scripted{claims: identity.Claims{Subject: "ann"}}, fault.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			gate := access.Gate{Bootstrap: access.NewBootstrap("secret"), People: &access.People{Verifier: tc.verifier, Mapping: mapping, Log: slog.New(slog.DiscardHandler), Now: time.Now}}
			r := httptest.NewRequest("POST", "/orgs/acme", nil) // no CSRF is asked of a token
			r.SetPathValue("org", "acme")
			r.Header.Set("Authorization", "Bearer "+tc.token)
			ctx, err := gate.Authorize(r, web.Viewer)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			if f := fault.Of(err); f != nil && strings.Contains(f.Message, "hush") {
				t.Errorf("more is told than should be: %s", f.Message)
			}
			if err == nil && access.NameOf(ctx) != "person:ann" {
				t.Errorf("it is %s", access.NameOf(ctx))
			}
		})
	}
	// Where people are not known a JWT is a token like any other that is not known.
	r := httptest.NewRequest("GET", "/orgs", nil)
	r.Header.Set("Authorization", "Bearer a.b.c")
	if _, err := (access.Gate{Bootstrap: access.NewBootstrap("secret")}).Authorize(r, web.Viewer); !errors.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
}

func TestASessionIsBounded(t *testing.T) {
	w := newSessions(t)
	p := ann
	p.Orgs = map[tenant.OrgID]web.Role{}
	for i := range 200 {
		p.Orgs[tenant.OrgID(fmt.Sprintf("org-%03d-of-usual-length", i))] = web.Viewer
	}
	s := w.New(p, "id", "sso")
	if err := w.Fits(s); err != nil {
		t.Fatalf("200 organizations: %v", err)
	}
	if got, err := w.Check(w.request(t, "GET", s)); err != nil || len(got.Orgs) != 200 {
		t.Errorf("%d organizations, %v", len(got.Orgs), err)
	}
	for i := range 2000 {
		p.Orgs[tenant.OrgID(fmt.Sprintf("more-%d", i))] = web.Viewer
	}
	s = w.New(p, "id", "sso")
	if err := w.Fits(s); !errors.Is(err, fault.Forbidden) {
		t.Error(err)
	}
	if err := w.Give(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), s); !errors.Is(err, fault.Forbidden) {
		t.Error(err)
	}
}

// FuzzSession decodes what would have been sealed, and then whatever is decoded may be
// no more than what is written.
func FuzzSession(f *testing.F) {
	f.Add([]byte(`{"i":"id","s":"ann","a":["acme"],"v":["look"],"b":1772600767,"t":1772600767,"r":"r"}`))
	f.Add([]byte(`{"i":"id","s":"ann","a":["acme"],"v":["acme"],"b":9e99,"t":-1}`))
	w := newSessions(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > cookie.MaxValue {
			return
		}
		answer := httptest.NewRecorder()
		if err := (cookie.Cookie{Name: "peat-session"}).Set(answer, httptest.NewRequest("GET", "/", nil), w.Key, text, time.Hour); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		for _, c := range answer.Result().Cookies() {
			r.AddCookie(c)
		}
		s, err := w.Check(r)
		if err != nil {
			return
		}
		if s.ID == "" || s.Subject == "" || s.Rules != "r" || w.Now().Sub(s.Begun) >= w.Whole || w.Now().Sub(s.Seen) >= w.Idle {
			t.Errorf("%q is %+v", text, s)
		}
		for org, role := range s.Orgs {
			if _, err := tenant.ParseOrgID(string(org)); err != nil || role != web.Viewer && role != web.OrgAdmin {
				t.Errorf("%q is %+v", text, s)
			}
		}
	})
}
