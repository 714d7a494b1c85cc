package providers

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var now = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

// world is a Providers on a list in memory, whose verifiers do as their
// configuration says.
type world struct {
	mu     sync.Mutex
	lists  map[tenant.OrgID][]identity.Provider
	reads  int
	now    time.Time
	opened []string // provider@version
	closed []string
	sealed error // what unsealing comes to
	asked  int   // how often secrets were unsealed
	*Providers
}

// have gives an organization these providers and no other.
func (w *world) have(org tenant.OrgID, list ...identity.Provider) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range list {
		list[i].Org = org
		if list[i].Version == 0 {
			list[i].Version = 1
		}
	}
	w.lists[org] = list
}

type inMemory struct{ w *world }

func (m inMemory) Providers(_ context.Context, org tenant.OrgID) ([]identity.Provider, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.w.reads++
	return m.w.lists[org], nil
}

func newWorld(t *testing.T) *world {
	w := &world{lists: map[tenant.OrgID][]identity.Provider{}, now: now}
	unseal := func(context.Context, identity.Provider) ([]byte, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asked++
		return []byte("{}"), w.sealed
	}
	clock := func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }
	scripted := kind{open: w.open}
	w.Providers = newWith(Deps{Store: inMemory{w}, Unseal: unseal, Settings: identity.Settings{Now: clock}}, map[identity.Kind]kind{
		identity.OIDC: scripted, identity.Introspection: scripted, identity.MTLS: scripted,
		identity.SAML: {open: w.open, issuer: func(p identity.Proof) (string, error) { return string(p.SAML), nil }},
	})
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func (w *world) open(o identity.Opening) (identity.Verifier, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := fmt.Sprintf("%s@%d", o.Provider.ID, o.Provider.Version)
	w.opened = append(w.opened, name)
	return &scriptedVerifier{w, name, o.Provider.Label}, nil
}

// scriptedVerifier answers as its provider's label says.
type scriptedVerifier struct {
	w           *world
	name, label string
}

func (v *scriptedVerifier) Verify(_ context.Context, _ identity.Proof, now time.Time) (identity.Claims, error) {
	switch v.label {
	case "refuses":
		return identity.Claims{}, fault.Unauthenticated.New("refused by %s", v.name)
	case "is down":
		return identity.Claims{}, fault.Unavailable.New("%s is down", v.name)
	case "names nobody":
		return identity.Claims{ExpiresAt: now.Add(time.Hour)}, nil
	case "is over":
		return identity.Claims{Subject: "s", ExpiresAt: now}, nil
	}
	return identity.Claims{Subject: v.name, ExpiresAt: now.Add(time.Hour)}, nil
}

func (v *scriptedVerifier) Check(context.Context) (identity.Report, error) {
	return identity.Report{OK: true, Findings: []identity.Finding{{Name: v.name}}}, nil
}

func (v *scriptedVerifier) Close() error {
	// Called with the lock of kept held, so w's is free.
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	v.w.closed = append(v.w.closed, v.name)
	return nil
}

func provider(id string, k identity.Kind, issuer string) identity.Provider {
	return identity.Provider{Key: identity.Key{ID: id}, Kind: k, Issuer: issuer, Enabled: true}
}

func labelled(p identity.Provider, label string) identity.Provider { p.Label = label; return p }

func jwt(t *testing.T, payload any) string {
	t.Helper()
	b, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(b) + ".c2ln"
}

func TestRouting(t *testing.T) {
	off := provider("off", identity.OIDC, "https://off")
	off.Enabled = false
	chain := []*x509.Certificate{{}}
	from := func(issuer string) string { return jwt(t, map[string]any{"iss": issuer}) }
	for name, tc := range map[string]struct {
		proof identity.Proof
		want  string // whose verifier answers; empty: nobody's
	}{
		"a JWT by its issuer":                      {identity.Proof{Token: from("https://a")}, "a"},
		"a JWT of another":                         {identity.Proof{Token: from("https://b")}, "b"},
		"a JWT that introspection has":             {identity.Proof{Token: from("https://i")}, "i"},
		"a JWT of nobody's":                        {identity.Proof{Token: from("https://x")}, ""},
		"a JWT of one that is disabled":            {identity.Proof{Token: from("https://off")}, ""},
		"a JWT of a SAML provider's issuer":        {identity.Proof{Token: from("https://saml")}, ""},
		"a JWT that writes its issuer differently": {identity.Proof{Token: jwt(t, map[string]any{"ISS": "https://a"})}, "i"},
		"a JWT, shown as another's":                {identity.Proof{Token: from("https://a"), Provider: "b"}, ""},
		"a JWT, to be introspected":                {identity.Proof{Token: from("https://a"), Provider: "i"}, "i"},
		"an opaque token":                          {identity.Proof{Token: "2YotnFZFEjr1zCsicMWpAA"}, "i"},
		"an opaque token, shown as OIDC":           {identity.Proof{Token: "2YotnFZFEjr1zCsicMWpAA", Provider: "a"}, ""},
		"SAML by its issuer":                       {identity.Proof{SAML: []byte("https://saml")}, "saml"},
		"SAML of nobody's":                         {identity.Proof{SAML: []byte("https://a")}, ""},
		"a chain":                                  {identity.Proof{Chain: chain}, "ca"},
		"a chain, of one that is not":              {identity.Proof{Chain: chain, Provider: "a"}, ""},
		"nothing":                                  {identity.Proof{}, ""},
		"two at once":                              {identity.Proof{Token: from("https://a"), Chain: chain}, ""},
		"a token too long":                         {identity.Proof{Token: from("https://a" + string(make([]byte, identity.MaxTokenBytes)))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.have("acme", provider("a", identity.OIDC, "https://a"), provider("b", identity.OIDC, "https://b"), off,
				provider("i", identity.Introspection, "https://i"), provider("saml", identity.SAML, "https://saml"), provider("ca", identity.MTLS, "the CA"))
			w.have("rival", provider("x", identity.OIDC, "https://x"))
			claims, p, err := w.Verify(t.Context(), "acme", tc.proof, now)
			if tc.want == "" {
				if !errors.Is(err, fault.Unauthenticated) || cmp.Diff(identity.Claims{}, claims) != "" {
					t.Fatalf("%+v %v", claims, err)
				}
				return
			}
			if err != nil || claims.Subject != tc.want+"@1" || claims.Provider != tc.want || claims.Kind != p.Kind || p.ID != tc.want {
				t.Errorf("%+v %+v %v", claims, p, err)
			}
		})
	}
}

func TestSeveralMayBeMeant(t *testing.T) {
	token := identity.Proof{Token: "opaque"}
	for name, tc := range map[string]struct {
		labels []string
		want   string
		kind   fault.Kind
		asked  string // the provider that the error is of
	}{
		"the second knows it":      {[]string{"refuses", ""}, "1@1", "", "1"},
		"one is down, one knows":   {[]string{"is down", ""}, "1@1", "", "1"},
		"nobody knows it":          {[]string{"refuses", "refuses"}, "", fault.Unauthenticated, ""},
		"one refuses":              {[]string{"refuses"}, "", fault.Unauthenticated, "0"},
		"one refuses, one is down": {[]string{"refuses", "is down"}, "", fault.Unavailable, ""},
		"claims without a subject": {[]string{"names nobody"}, "", fault.Unauthenticated, "0"},
		"claims that are over":     {[]string{"is over"}, "", fault.Unauthenticated, "0"},
		"too many":                 {make([]string, maxAsked+1), "", fault.Unauthenticated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var list []identity.Provider
			for i, l := range tc.labels {
				list = append(list, labelled(provider(fmt.Sprint(i), identity.Introspection, fmt.Sprint(i)), l))
			}
			w.have("acme", list...)
			claims, p, err := w.Verify(t.Context(), "acme", token, now)
			if claims.Subject != tc.want || p.ID != tc.asked || (err == nil) != (tc.kind == "") || tc.kind != "" && !errors.Is(err, tc.kind) {
				t.Errorf("%+v %+v %v", claims, p, err)
			}
		})
	}
}

// TestChangesAreSeen changes what there is and asks again.
func TestChangesAreSeen(t *testing.T) {
	w := newWorld(t)
	ask := func() string {
		t.Helper()
		claims, _, err := w.Verify(t.Context(), "acme", identity.Proof{Token: "opaque"}, now)
		if err != nil && !errors.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
		return claims.Subject
	}
	if got := ask(); got != "" {
		t.Errorf("%q, of nothing", got)
	}
	one := provider("i", identity.Introspection, "i")
	w.have("acme", one)
	if got := ask(); got != "i@1" {
		t.Errorf("%q: one that was added is not seen at once", got)
	}
	one.Version = 2
	w.have("acme", one)
	reads := w.reads
	if got := ask(); got != "i@1" || w.reads != reads {
		t.Errorf("%q after %d reads more: what is fresh is not read again", got, w.reads-reads)
	}
	w.now = w.now.Add(Freshness)
	if got := ask(); got != "i@2" {
		t.Errorf("%q: a change is not seen", got)
	}
	if diff := cmp.Diff([]string{"i@1"}, w.closed); diff != "" {
		t.Error(diff)
	}
	one.Enabled = false
	w.have("acme", one)
	w.Forget("acme")
	if got := ask(); got != "" {
		t.Errorf("%q: one that is disabled vouches", got)
	}
	_ = w.Close()
	if diff := cmp.Diff([]string{"i@1", "i@2"}, w.closed); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"i@1", "i@2"}, w.opened); diff != "" {
		t.Error(diff)
	}
}

// TestOneOpens has many ask at once.
func TestOneOpens(t *testing.T) {
	w := newWorld(t)
	w.have("acme", provider("i", identity.Introspection, "i"))
	var wg sync.WaitGroup
	var wrong atomic.Int32
	for range 32 {
		wg.Go(func() {
			if c, _, err := w.Verify(t.Context(), "acme", identity.Proof{Token: "opaque"}, now); err != nil || c.Subject != "i@1" {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	if wrong.Load() != 0 || len(w.opened) != 1 {
		t.Errorf("%d wrong, opened %v", wrong.Load(), w.opened)
	}
}

// TestAKeyThatIsTakenAway ends what was opened with it.
func TestAKeyThatIsTakenAway(t *testing.T) {
	w := newWorld(t)
	w.SecretsFor = time.Nanosecond // asked at every use
	one := provider("i", identity.Introspection, "i")
	one.Sealed = []byte("sealed")
	w.have("acme", one)
	ask := func() error {
		_, _, err := w.Verify(t.Context(), "acme", identity.Proof{Token: "opaque"}, now)
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil || w.asked != 2 || len(w.opened) != 1 {
		t.Errorf("asked %d times, opened %v: %v", w.asked, w.opened, err)
	}
	w.sealed = fault.Unavailable.New("no answer")
	if err := ask(); !errors.Is(err, fault.Unavailable) || len(w.closed) != 0 {
		t.Errorf("%v, closed %v", err, w.closed)
	}
	w.sealed = fault.Sealed.New("shut")
	if err := ask(); !errors.Is(err, fault.Sealed) || len(w.closed) != 1 {
		t.Errorf("%v, closed %v", err, w.closed)
	}
}

func TestOpenVerifiersAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range maxOpen + 10 {
		org := tenant.OrgID(fmt.Sprintf("o%d", i))
		w.have(org, provider("i", identity.Introspection, "i"))
		if _, _, err := w.Verify(t.Context(), org, identity.Proof{Token: "opaque"}, now); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.kept.open) != maxOpen || len(w.closed) != 10 {
		t.Errorf("%d are open, %d were closed", len(w.kept.open), len(w.closed))
	}
}

func TestCheckOpensForThisOnce(t *testing.T) {
	w := newWorld(t)
	one := provider("i", identity.Introspection, "i")
	one.Enabled = false
	if r, err := w.Check(t.Context(), one); err != nil || !r.OK || len(w.closed) != 1 {
		t.Errorf("%+v %v %v", r, w.closed, err)
	}
}

func FuzzTokenIssuer(f *testing.F) {
	for _, s := range []string{"", "a.b.c", "e30.e30.e30", "e30.eyJpc3MiOiJodHRwczovL2EifQ.c2ln", "..", "e30.bnVsbA.c2ln"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if TokenIssuer(token) != "" && len(token) > identity.MaxTokenBytes {
			t.Error("read from a token that is too long")
		}
	})
}
