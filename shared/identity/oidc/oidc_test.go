package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oidc"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// config is a configuration for the issuer, with some of it changed; nil takes out.
func config(i *identitytest.Issuer, changes map[string]any) json.RawMessage {
	c := map[string]any{
		"issuer": i.URL, "audiences": []string{identitytest.Audience}, "authorized_parties": []string{"device-client"},
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

// opening takes a configuration through Parse, as it is when it is administered.
func opening(t testing.TB, s identity.Settings, in json.RawMessage) identity.Opening {
	t.Helper()
	c, err := oidc.Parse(in, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(c.Public)
	if err != nil || c.Secrets != nil {
		t.Fatal(c.Secrets, err)
	}
	return identity.Opening{Provider: identity.Provider{Kind: identity.OIDC, Issuer: c.Issuer, Config: public}, Settings: s}
}

func open(t testing.TB, i *identitytest.Issuer, changes map[string]any) identity.Verifier {
	t.Helper()
	v, err := oidc.Open(opening(t, i.Settings(), config(i, changes)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func TestPromises(t *testing.T) {
	i := identitytest.NewIssuer(t)
	now := i.Now()
	identitytest.Run(t, identitytest.Suite{
		Open: func(t *testing.T) (identity.Verifier, error) {
			return oidc.Open(opening(t, i.Settings(), config(i, nil)))
		},
		Now: now,
		Good: identity.Proof{Token: i.Token(map[string]any{
			"acr": "2", "amr": []string{"pwd", "mfa", "pwd"}, "auth_time": now.Add(-time.Hour).Unix(), "sid": "session-1", "groups": []string{"/ops", "/field", "/ops"},
			"rank": 3, "https://acme.example/unit": []string{"7"}, "nonce": "whatever",
		})},
		Want: identity.Claims{
			Kind: identity.OIDC, Issuer: i.URL, Subject: "device-7", Groups: []string{"/field", "/ops"}, Roles: []string{"driver", "medic"},
			Attributes: map[string]any{
				"azp": "device-client", "rank": 3.0, "https://acme.example/unit": []any{"7"},
				"realm_access": map[string]any{"roles": []any{"medic", "driver"}},
			},
			ACR: "2", AMR: []string{"mfa", "pwd"}, AuthenticatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(5*time.Minute + 10*time.Second), Session: "session-1", ID: "0001",
		},
		Bad: i.TokenAttacks(t),
	})
}

func TestEveryAlgorithm(t *testing.T) {
	i := identitytest.NewIssuer(t)
	for _, algorithm := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		i.Publish(identitytest.NewKey(t, algorithm, algorithm))
		if _, err := open(t, i, nil).Verify(t.Context(), identity.Proof{Token: i.Token(nil)}, i.Now()); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		pinned := "RS256"
		if algorithm == pinned {
			pinned = "ES256"
		}
		identitytest.Refuses(t, open(t, i, map[string]any{"algorithms": []string{pinned}}), identity.Proof{Token: i.Token(nil)}, i.Now())
	}
}

// TestOutagesAreNobodysFault shows a good token while the provider is of no help.
func TestOutagesAreNobodysFault(t *testing.T) {
	i := identitytest.NewIssuer(t)
	token := identity.Proof{Token: i.Token(nil)}
	for name, outage := range identitytest.Outages(i) {
		t.Run(name, func(t *testing.T) {
			for path, how := range outage {
				i.Break(path, how)
			}
			defer i.Up()
			v := open(t, i, nil)
			_, err := v.Verify(t.Context(), token, i.Now())
			if !errors.Is(err, fault.Unavailable) {
				t.Fatal(err)
			}
			told := fault.Of(err).Message
			for _, inner := range []string{"169.254", "10.0.0", "/etc/passwd", "127.0.0.1", "user:pass"} {
				if strings.Contains(told, inner) {
					t.Errorf("%q is told: %s", inner, told)
				}
			}
			report, err := v.Check(t.Context())
			if err != nil || report.OK {
				t.Errorf("a check finds %+v %v", report, err)
			}
			i.Up()
			// It is not asked again at once, whatever is shown; but soon.
			asked := i.Asked(identitytest.Discovery)
			if _, err := v.Verify(t.Context(), token, i.Now()); !errors.Is(err, fault.Unavailable) || i.Asked(identitytest.Discovery) != asked {
				t.Errorf("asked again: %v", err)
			}
			if _, err := v.Verify(t.Context(), token, i.Now().Add(10*time.Second)); err != nil {
				t.Errorf("it is back, and yet: %v", err)
			}
		})
	}
}

func TestASlowProviderIsNotWaitedFor(t *testing.T) {
	i := identitytest.NewIssuer(t)
	for _, path := range []string{identitytest.Discovery, identitytest.Keys} {
		t.Run(path, func(t *testing.T) {
			i.Break(path, func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write([]byte(`{`)) // it begins, and goes on for ever
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
			defer i.Up()
			s := i.Settings()
			s.Patience = 50 * time.Millisecond
			v, err := oidc.Open(opening(t, s, config(i, nil)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Verify(t.Context(), identity.Proof{Token: i.Token(nil)}, i.Now()); !errors.Is(err, fault.Unavailable) {
				t.Error(err)
			}
		})
	}
}

// TestGrace takes the provider away and lets time pass.
func TestGrace(t *testing.T) {
	i := identitytest.NewIssuer(t)
	v := open(t, i, map[string]any{"max_outage": "2h"})
	show := func() (identity.Claims, error) {
		return v.Verify(t.Context(), identity.Proof{Token: i.Token(nil)}, i.Now())
	}
	began := i.Now()
	if c, err := show(); err != nil || !c.Grace.IsZero() {
		t.Fatalf("%+v %v", c, err)
	}
	i.Down()
	i.Pass(oidc.Refresh - time.Second)
	if c, err := show(); err != nil || !c.Grace.IsZero() {
		t.Errorf("its keys are still fresh: %+v %v", c, err)
	}
	i.Pass(time.Second)
	if c, err := show(); err != nil || !c.Grace.Equal(began.Add(2*time.Hour)) {
		t.Errorf("in the outage: %+v %v", c, err)
	}
	report, err := v.Check(t.Context())
	if err != nil || report.OK || !strings.Contains(report.Findings[len(report.Findings)-1].Detail, began.Add(2*time.Hour).Format(time.RFC3339)) {
		t.Errorf("%+v %v", report, err)
	}
	// An outage makes no bad token good.
	identitytest.Refuses(t, v, identity.Proof{Token: i.Token(map[string]any{"aud": "other"})}, i.Now())
	identitytest.Refuses(t, v, identity.Proof{Token: identitytest.NewKey(t, "first", "RS256").Token(i.Claims(nil))}, i.Now())
	// And one of a key that was never seen may be good or not.
	if _, err := v.Verify(t.Context(), identity.Proof{Token: identitytest.NewKey(t, "new", "RS256").Token(i.Claims(nil))}, i.Now()); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	i.Pass(2 * time.Hour)
	if _, err := show(); !errors.Is(err, fault.Unavailable) {
		t.Errorf("after the outage has lasted too long: %v", err)
	}
	i.Up()
	i.Pass(time.Minute)
	if c, err := show(); err != nil || !c.Grace.IsZero() {
		t.Errorf("it is back: %+v %v", c, err)
	}
}

// TestRotation changes the keys under the verifier.
func TestRotation(t *testing.T) {
	i := identitytest.NewIssuer(t)
	v := open(t, i, nil)
	show := func(k identitytest.Key) error {
		_, err := v.Verify(t.Context(), identity.Proof{Token: k.Token(i.Claims(nil))}, i.Now())
		return err
	}
	first, second := i.Key(), identitytest.NewKey(t, "second", "ES256")
	if err := show(first); err != nil {
		t.Fatal(err)
	}
	i.Pass(time.Minute)
	i.Publish(first, second)
	if err := show(second); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if err := show(first); err != nil {
		t.Errorf("the one before, which is still published: %v", err)
	}
	asked := i.Asked(identitytest.Keys)
	for n := range 100 {
		identitytest.Refuses(t, v, identity.Proof{Token: identitytest.Compact(map[string]any{"alg": "RS256", "kid": string(rune('a' + n))}, i.Claims(nil), first.Sign)}, i.Now())
	}
	if got := i.Asked(identitytest.Keys) - asked; got > 0 {
		t.Errorf("unknown keys have the provider asked %d times", got)
	}
	i.Publish(second)
	i.Pass(oidc.Refresh)
	if err := show(first); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that was withdrawn: %v", err)
	}
	if err := show(second); err != nil {
		t.Error(err)
	}
	// One that keeps its name and is another key.
	again := identitytest.NewKey(t, "second", "ES256")
	i.Publish(again)
	i.Pass(oidc.Refresh)
	if err := show(again); err != nil {
		t.Error(err)
	}
	if err := show(second); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that was replaced under its name: %v", err)
	}
}

func TestKeysOfOneName(t *testing.T) {
	i := identitytest.NewIssuer(t)
	a, b := identitytest.NewKey(t, "same", "RS256"), identitytest.NewKey(t, "same", "RS256")
	i.Publish(a, b)
	v := open(t, i, nil)
	for _, k := range []identitytest.Key{a, b} {
		if _, err := v.Verify(t.Context(), identity.Proof{Token: k.Token(i.Claims(nil))}, i.Now()); err != nil {
			t.Error(err)
		}
	}
	var many []identitytest.Key
	for range 5 {
		many = append(many, identitytest.NewKey(t, "same", "ES256"))
	}
	i.Publish(many...)
	identitytest.Refuses(t, open(t, i, nil), identity.Proof{Token: i.Token(nil)}, i.Now())
}

// TestOneIssuerIsAskedOnceForAll opens it for many organizations.
func TestOneIssuerIsAskedOnceForAll(t *testing.T) {
	i := identitytest.NewIssuer(t)
	issuers := oidc.NewIssuers(nil)
	var wg sync.WaitGroup
	for range 20 {
		v, err := issuers.Open(opening(t, i.Settings(), config(i, map[string]any{"clock_skew": "11s"})))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := v.Verify(t.Context(), identity.Proof{Token: i.Token(nil)}, i.Now()); err != nil {
				t.Error(err)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	i.Down() // who opens it now goes on with what is known
	v, err := issuers.Open(opening(t, i.Settings(), config(i, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), identity.Proof{Token: i.Token(nil)}, i.Now()); err != nil {
		t.Error(err)
	}
	if got := i.Asked(identitytest.Keys); got != 1 {
		t.Errorf("the keys were asked for %d times", got)
	}
}

func TestLogin(t *testing.T) {
	i := identitytest.NewIssuer(t)
	v := open(t, i, map[string]any{"authorized_parties": nil, "audiences": []string{"peat-login"}})
	for name, tc := range map[string]struct {
		claims map[string]any
		good   bool
	}{
		"as it should be":                {map[string]any{"nonce": "n-1", "aud": "peat-login", "azp": "peat-login"}, true},
		"without a party":                {map[string]any{"nonce": "n-1", "aud": "peat-login", "azp": nil}, true},
		"given to another":               {map[string]any{"nonce": "n-1", "aud": []string{"peat-login", "other"}, "azp": "other"}, false},
		"another nonce":                  {map[string]any{"nonce": "n-2", "aud": "peat-login", "azp": nil}, false},
		"a nonce that is not a text":     {map[string]any{"nonce": 1, "aud": "peat-login", "azp": nil}, false},
		"of an audience that is not his": {map[string]any{"nonce": "n-1", "aud": "other", "azp": "peat-login"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := identity.Proof{Token: i.Token(tc.claims), Expect: identity.Expect{Nonce: "n-1"}}
			if !tc.good {
				identitytest.Refuses(t, v, p, i.Now())
			} else if _, err := v.Verify(t.Context(), p, i.Now()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatTheConfigurationAsks(t *testing.T) {
	i := identitytest.NewIssuer(t)
	now := i.Now()
	for name, tc := range map[string]struct {
		config, claims map[string]any
		good           bool
		want           func(identity.Claims) bool
	}{
		"an old token":                       {map[string]any{"max_token_age": "1m"}, map[string]any{"iat": now.Add(-2 * time.Minute).Unix()}, false, nil},
		"a new one":                          {map[string]any{"max_token_age": "1m"}, map[string]any{"iat": now.Add(-time.Minute).Unix()}, true, nil},
		"of no age":                          {map[string]any{"max_token_age": "1m"}, map[string]any{"iat": nil}, false, nil},
		"once":                               {map[string]any{"single_use": true}, nil, true, func(c identity.Claims) bool { return c.Once && c.ID == "0001" }},
		"once, and nothing to tell it by":    {map[string]any{"single_use": true}, map[string]any{"jti": nil}, false, nil},
		"a session longer than the token":    {map[string]any{"session": "8h"}, nil, true, func(c identity.Claims) bool { return c.ExpiresAt.Equal(now.Add(8*time.Hour - time.Minute)) }},
		"a session shorter than the token":   {map[string]any{"session": "1m"}, nil, true, func(c identity.Claims) bool { return c.ExpiresAt.Equal(now.Add(5*time.Minute + 10*time.Second)) }},
		"a party that Entra ID names":        {nil, map[string]any{"azp": nil, "appid": "device-client"}, true, nil},
		"another subject":                    {map[string]any{"claims": map[string]any{"subject": "edipi"}}, map[string]any{"edipi": "1234567890"}, true, func(c identity.Claims) bool { return c.Subject == "1234567890" }},
		"a claim whose name has dots":        {map[string]any{"claims": map[string]any{"groups": "acme.example/groups"}}, map[string]any{"acme.example/groups": "one"}, true, func(c identity.Claims) bool { return cmp.Equal(c.Groups, []string{"one"}) }},
		"a pointer":                          {map[string]any{"claims": map[string]any{"roles": "/resource_access/a.b/roles"}}, map[string]any{"resource_access": map[string]any{"a.b": map[string]any{"roles": []string{"r"}}}}, true, func(c identity.Claims) bool { return cmp.Equal(c.Roles, []string{"r"}) }},
		"a path through a text":              {map[string]any{"claims": map[string]any{"roles": "sub.roles"}}, nil, true, func(c identity.Claims) bool { return c.Roles == nil }},
		"some attributes":                    {map[string]any{"claims": map[string]any{"attributes": map[string]any{"unit": "org.unit", "none": "nothing"}}}, map[string]any{"org": map[string]any{"unit": "7"}}, true, func(c identity.Claims) bool { return cmp.Equal(c.Attributes, map[string]any{"unit": "7"}) }},
		"the gateway's address by itself":    {map[string]any{"audiences": nil}, nil, true, nil},
		"the gateway's address, and another": {map[string]any{"audiences": nil}, map[string]any{"aud": "https://other.example"}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := i.Settings()
			s.PublicURL, _ = url.Parse(identitytest.Audience)
			v, err := oidc.Open(opening(t, s, config(i, tc.config)))
			if err != nil {
				t.Fatal(err)
			}
			p := identity.Proof{Token: i.Token(tc.claims)}
			if !tc.good {
				identitytest.Refuses(t, v, p, now)
				return
			}
			if got, err := v.Verify(t.Context(), p, now); err != nil || tc.want != nil && !tc.want(got) {
				t.Errorf("%+v %v", got, err)
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
		"no issuer":                    {map[string]any{"issuer": nil}, "/config/issuer"},
		"an issuer inside":             {map[string]any{"issuer": "https://10.0.0.1"}, "/config/issuer"},
		"the cloud's secrets":          {map[string]any{"issuer": "http://169.254.169.254/"}, "/config/issuer"},
		"a number for an address":      {map[string]any{"issuer": "https://2130706433"}, "/config/issuer"},
		"a file":                       {map[string]any{"issuer": "file:///etc/passwd"}, "/config/issuer"},
		"a user":                       {map[string]any{"issuer": "https://a:b@idp.example"}, "/config/issuer"},
		"a query":                      {map[string]any{"issuer": "https://idp.example/?x=1"}, "/config/issuer"},
		"the document for the issuer":  {map[string]any{"issuer": "https://idp.example/.well-known/openid-configuration"}, "/config/issuer"},
		"alg none":                     {map[string]any{"algorithms": []string{"none"}}, "/config/algorithms"},
		"HS256":                        {map[string]any{"algorithms": []string{"RS256", "HS256"}}, "/config/algorithms"},
		"no audience":                  {map[string]any{"audiences": nil}, "/config/audiences"},
		"an empty audience":            {map[string]any{"audiences": []string{""}}, "/config/audiences"},
		"a large skew":                 {map[string]any{"clock_skew": "1h"}, "/config/clock_skew"},
		"an endless outage":            {map[string]any{"max_outage": "1000h"}, "/config/max_outage"},
		"an age that is no duration":   {map[string]any{"max_token_age": "soon"}, "/config/max_token_age"},
		"a session of a year":          {map[string]any{"session": "8760h"}, "/config/session"},
		"a path without end":           {map[string]any{"claims": map[string]any{"groups": strings.Repeat("a.", 100)}}, "/config/claims/groups"},
		"an attribute without a name":  {map[string]any{"claims": map[string]any{"attributes": map[string]any{"": "a"}}}, "/config/claims/attributes"},
		"an authority that is none":    {map[string]any{"tls": map[string]any{"ca_pem": "hello"}}, "/config/tls/ca_pem"},
		"a misspelt option":            {map[string]any{"audience": "a"}, "/config/audience"},
		"a private key among roots":    {map[string]any{"tls": map[string]any{"ca_pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}}, "/config/tls/ca_pem"},
		"parties that are not a list":  {map[string]any{"authorized_parties": "a"}, "/config/authorized_parties"},
		"claims that are not as named": {map[string]any{"claims": map[string]any{"group": "a"}}, "/config/claims/group"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := oidc.Parse(config(i, tc.changes), nil, i.Settings())
			f := fault.Of(err)
			if f == nil || f.Kind != fault.Invalid || len(f.Fields) == 0 || f.Fields[0].Pointer != tc.pointer {
				t.Errorf("%+v", err)
			}
		})
	}
	s := i.Settings()
	s.AllowPrivate = nil
	if _, err := oidc.Parse(config(i, map[string]any{"issuer": "http://idp.example"}), nil, s); !errors.Is(err, fault.Invalid) {
		t.Errorf("without encryption: %v", err)
	}
}

// TestInsideIsNotReached opens a verifier for an issuer at an address that the
// operator has not allowed.
func TestInsideIsNotReached(t *testing.T) {
	i := identitytest.NewIssuer(t)
	o := opening(t, i.Settings(), config(i, nil))
	o.AllowPrivate = nil
	v, err := oidc.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), identity.Proof{Token: i.Token(nil)}, i.Now())
	if !errors.Is(err, fault.Unavailable) || i.Asked(identitytest.Discovery) != 0 {
		t.Errorf("asked %d times: %v", i.Asked(identitytest.Discovery), err)
	}
}

func TestCheck(t *testing.T) {
	i := identitytest.NewIssuer(t)
	v := open(t, i, nil)
	report, err := v.Check(t.Context())
	want := identity.Report{OK: true, Findings: []identity.Finding{
		{Name: "discovery", OK: true, Detail: "the document is the issuer's"}, {Name: "keys", OK: true, Detail: "1 can be used, for RS256"},
		{Name: "clock", OK: true, Detail: "agrees with the gateway's"},
	}}
	if diff := cmp.Diff(want, report); diff != "" || err != nil {
		t.Error(diff, err)
	}
	report, err = open(t, i, map[string]any{"algorithms": []string{"ES256"}}).Check(t.Context())
	if err != nil || report.OK {
		t.Errorf("%+v %v", report, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
