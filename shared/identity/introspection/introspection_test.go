package introspection

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func config(i *identitytest.Issuer, changes map[string]any) json.RawMessage {
	c := map[string]any{
		"introspection_url": i.URL + identitytest.Introspection, "issuer": i.URL, "client_id": identitytest.ClientID, "client_secret": identitytest.ClientSecret,
		"audiences": []string{identitytest.Audience}, "authorized_parties": []string{"device-client"},
		"clock_skew": "10s", "claims": map[string]any{"roles": "realm_access.roles"}, "tls": map[string]any{"ca_pem": i.CA},
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	out, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return out
}

func opening(t testing.TB, s identity.Settings, in json.RawMessage) identity.Opening {
	t.Helper()
	c, err := Parse(in, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	public, publicErr := json.Marshal(c.Public)
	sealed, sealedErr := json.Marshal(c.Secrets)
	if err := errors.Join(publicErr, sealedErr); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(public), identitytest.ClientSecret) {
		t.Errorf("the secret is shown: %s", public)
	}
	return identity.Opening{Provider: identity.Provider{Kind: identity.Introspection, Issuer: c.Issuer, Config: public}, Secrets: sealed, Settings: s}
}

func open(t testing.TB, i *identitytest.Issuer, changes map[string]any) identity.Verifier {
	t.Helper()
	v, err := Open(opening(t, i.Settings(), config(i, changes)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func TestPromises(t *testing.T) {
	i := identitytest.NewIssuer(t)
	now := i.Now()
	good := identity.Proof{Token: "opaque-token-of-device-7"}
	i.Activate(good.Token, i.Claims(map[string]any{"username": "seven"}))
	bad := map[string]identity.Proof{
		"a token of nobody":              {Token: "opaque-token-of-nobody"},
		"a token without end":            {Token: strings.Repeat("x", identity.MaxTokenBytes+1)},
		"a token that would be two":      {Token: "a&token=opaque-token-of-device-7 b"},
		"a token with a line in it":      {Token: "opaque-token-of-device-7\n"},
		"a nonce that it does not have":  {Token: good.Token, Expect: identity.Expect{Nonce: "n-1"}},
		"an audience that is not wanted": {Token: good.Token, Expect: identity.Expect{Audiences: []string{"peat-login"}}},
	}
	n := 0
	for name, changes := range i.ClaimAttacks() {
		n++
		p := identity.Proof{Token: fmt.Sprintf("opaque-attack-%d", n)}
		i.Activate(p.Token, i.Claims(changes))
		bad[name] = p
	}
	delete(bad, "an issuer that is only read loosely") // it is refused below, where an issuer must be named
	for name, active := range map[string]any{"not active": false} {
		p := identity.Proof{Token: "opaque-" + name[:3] + "-active"}
		i.Activate(p.Token, i.Claims(map[string]any{"active": active}))
		bad[name] = p
	}
	identitytest.Run(t, identitytest.Suite{
		Open: func(t *testing.T) (identity.Verifier, error) {
			return Open(opening(t, i.Settings(), config(i, nil)))
		},
		Now: now, Good: good,
		Want: identity.Claims{
			Kind: identity.Introspection, Issuer: i.URL, Subject: "device-7", Groups: []string{"/field", "/ops"}, Roles: []string{"driver", "medic"},
			Attributes: map[string]any{"azp": "device-client", "username": "seven", "realm_access": map[string]any{"roles": []any{"medic", "driver"}}},
			ExpiresAt:  now.Add(5*time.Minute + 10*time.Second), ID: "0001",
		},
		Bad: bad,
	})
}

// TestAnAnswerIsRemembered counts requests.
func TestAnAnswerIsRemembered(t *testing.T) {
	i := identitytest.NewIssuer(t)
	v := open(t, i, map[string]any{"cache_for": "1m"})
	p := identity.Proof{Token: "opaque"}
	i.Activate(p.Token, i.Claims(nil))
	show := func() error { _, err := v.Verify(t.Context(), p, i.Now()); return err }
	asked := func(want int) {
		t.Helper()
		if got := i.Asked(identitytest.Introspection); got != want {
			t.Errorf("asked %d times, want %d", got, want)
		}
	}
	for range 3 {
		if err := show(); err != nil {
			t.Fatal(err)
		}
	}
	asked(1)
	i.Activate(p.Token, nil) // withdrawn
	i.Pass(time.Minute - time.Second)
	if err := show(); err != nil {
		t.Error(err)
	}
	i.Pass(time.Second)
	if err := show(); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a token that was withdrawn: %v", err)
	}
	asked(2)
	i.Activate(p.Token, i.Claims(map[string]any{"exp": i.Now().Add(20 * time.Second).Unix()}))
	i.Pass(4 * time.Second)
	if err := show(); !errors.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
	asked(2)
	i.Pass(time.Second)
	if err := show(); err != nil {
		t.Error(err)
	}
	asked(3)
	i.Pass(40 * time.Second) // remembered, and over
	if err := show(); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a token that is over: %v", err)
	}
	asked(3)
	// Each organization asks for itself: who may not ask is told nothing.
	other := open(t, i, map[string]any{"client_secret": "wrong"})
	if _, err := other.Verify(t.Context(), p, i.Now()); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	var r remembered
	for n := range 10 * maxRemembered {
		r.put(fmt.Sprint(n), answer{at: identitytest.Now, until: identitytest.Now.Add(time.Minute)})
	}
	if n := len(r.now) + len(r.past); n > 2*maxRemembered {
		t.Errorf("%d answers are kept", n)
	}
	if _, ok := r.get(fmt.Sprint(10*maxRemembered-1), identitytest.Now); !ok {
		t.Error("the newest is not remembered")
	}
}

func TestOutagesAreNobodysFault(t *testing.T) {
	i := identitytest.NewIssuer(t)
	p := identity.Proof{Token: "opaque-token-of-device-7"}
	i.Activate(p.Token, i.Claims(nil))
	say := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = w.Write([]byte(text)) }
	}
	for name, how := range map[string]http.HandlerFunc{
		"failing":            say(500, "inner secrets"),
		"it does not let us": say(401, "inner secrets"),
		"gone":               say(404, "inner secrets"),
		"no JSON":            say(200, "inner secrets"),
		"a list":             say(200, `[]`),
		"no word on it":      say(200, `{"sub":"device-7"}`),
		"active as a text":   say(200, `{"active":"true"}`),
		"active as one":      say(200, `{"active":1}`),
		"active twice":       say(200, `{"active":false,"active":true}`),
		"ACTIVE":             say(200, `{"ACTIVE":true,"sub":"device-7"}`),
		"huge":               say(200, `{"active":true,"x":"`+strings.Repeat("x", 1<<20)+`"}`),
		"sent on": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, i.URL+"/other", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			i.Break(identitytest.Introspection, how)
			defer i.Up()
			v := open(t, i, nil)
			_, err := v.Verify(t.Context(), p, i.Now())
			if !errors.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "inner") || strings.Contains(err.Error(), p.Token) || strings.Contains(err.Error(), identitytest.ClientSecret) {
				t.Error(err)
			}
			if report, err := v.Check(t.Context()); err != nil || report.OK {
				t.Errorf("a check finds %+v %v", report, err)
			}
		})
	}
	if i.Asked("/other") != 0 {
		t.Error("a redirect was followed, with the token and the secret")
	}
}

func TestBothWaysToAsk(t *testing.T) {
	i := identitytest.NewIssuer(t)
	i.Activate("opaque", i.Claims(map[string]any{"iss": nil, "exp": nil}))
	for _, auth := range []string{"basic", "post"} {
		v := open(t, i, map[string]any{"auth": auth, "issuer": nil})
		got, err := v.Verify(t.Context(), identity.Proof{Token: "opaque"}, i.Now())
		if err != nil || got.Issuer != i.URL+identitytest.Introspection || !got.ExpiresAt.Equal(i.Now().Add(noExpiry)) {
			t.Errorf("%s: %+v %v", auth, got, err)
		}
		report, err := v.Check(t.Context())
		if err != nil || !report.OK || len(report.Findings) != 2 {
			t.Errorf("%s: %+v %v", auth, report, err)
		}
	}
	i.Activate(madeUp, i.Claims(nil))
	if report, err := open(t, i, nil).Check(t.Context()); err != nil || report.OK {
		t.Errorf("a provider that takes everything: %+v %v", report, err)
	}
}

func TestSecretsStayWhereTheyBelong(t *testing.T) {
	i := identitytest.NewIssuer(t)
	prior := opening(t, i.Settings(), config(i, nil)).Secrets
	for name, tc := range map[string]struct {
		changes map[string]any
		want    string // empty: it must be given
	}{
		"left out":              {map[string]any{"client_secret": nil}, identitytest.ClientSecret},
		"as it was shown":       {map[string]any{"client_secret": identity.Sealed}, identitytest.ClientSecret},
		"another":               {map[string]any{"client_secret": "new"}, "new"},
		"another path":          {map[string]any{"client_secret": nil, "introspection_url": i.URL + "/other"}, identitytest.ClientSecret},
		"another host":          {map[string]any{"client_secret": nil, "introspection_url": "https://evil.example/introspect"}, ""},
		"another host, shown":   {map[string]any{"client_secret": identity.Sealed, "introspection_url": "https://evil.example/introspect"}, ""},
		"another host, another": {map[string]any{"client_secret": "new", "introspection_url": "https://evil.example/introspect"}, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse(config(i, tc.changes), prior, i.Settings())
			if tc.want == "" {
				if f := fault.Of(err); f == nil || f.Fields[0].Pointer != "/config/client_secret" {
					t.Error(err)
				}
				return
			}
			if err != nil || c.Secrets.(secrets).ClientSecret != tc.want || c.Public.(Config).ClientSecret != identity.Sealed {
				t.Errorf("%+v %v", c, err)
			}
		})
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	i := identitytest.NewIssuer(t)
	for name, tc := range map[string]struct {
		changes map[string]any
		pointer string
	}{
		"no URL":              {map[string]any{"introspection_url": nil}, "/config/introspection_url"},
		"inside":              {map[string]any{"introspection_url": "https://169.254.169.254/"}, "/config/introspection_url"},
		"no client":           {map[string]any{"client_id": nil}, "/config/client_id"},
		"no secret":           {map[string]any{"client_secret": nil}, "/config/client_secret"},
		"a long secret":       {map[string]any{"client_secret": strings.Repeat("x", 5000)}, "/config/client_secret"},
		"another way to ask":  {map[string]any{"auth": "jwt"}, "/config/auth"},
		"remembered too long": {map[string]any{"cache_for": "1h"}, "/config/cache_for"},
		"everybody's tokens":  {map[string]any{"audiences": nil, "authorized_parties": nil}, "/config/audiences"},
		"a misspelt option":   {map[string]any{"url": "x"}, "/config/url"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(config(i, tc.changes), nil, i.Settings())
			if f := fault.Of(err); f == nil || f.Kind != fault.Invalid || len(f.Fields) == 0 || f.Fields[0].Pointer != tc.pointer {
				t.Errorf("%+v", err)
			}
		})
	}
	if _, err := Parse(config(i, map[string]any{"audiences": nil, "authorized_parties": nil, "any_audience": true}), nil, i.Settings()); err != nil {
		t.Error(err)
	}
	if _, err := Parse(config(i, nil), []byte("{"), i.Settings()); err == nil || cmp.Equal(err, nil) {
		t.Error("secrets that cannot be read")
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"active":true,"sub":"a"}`, `{"active":false}`, `{}`, `null`, `{"active":"true"}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := read(body)
		if err == nil && set != nil && string(set["active"]) != "true" {
			t.Errorf("active by %s", set["active"])
		}
	})
}
