package login_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
	"github.com/defenseunicorns/peat-gateway/shared/login"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func at(public string) *login.Login {
	u, err := url.Parse(public)
	if err != nil {
		panic(err)
	}
	return &login.Login{Public: u, Client: &oauth.Client{Issuer: "https://id.example", ID: "peat"}, Now: func() time.Time { return now }}
}

func TestAddress(t *testing.T) {
	for name, tc := range map[string]struct{ public, place, want string }{
		"at the top":       {"https://gw.example", "/ui?a=b#c", "https://gw.example/ui?a=b#c"},
		"with a slash":     {"https://gw.example/", "/ui", "https://gw.example/ui"},
		"below a path":     {"https://gw.example/peat", "/ui", "https://gw.example/peat/ui"},
		"of another host?": {"https://gw.example", "/@evil.example", "https://gw.example/@evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := at(tc.public).Address(tc.place); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// FuzzPlace: what is taken for a place leads to the gateway, however it is written, and
// stays itself.
func FuzzPlace(f *testing.F) {
	for _, s := range []string{"/", "/ui?a=b#c", "//evil.example", `/\evil.example`, "/%2f%2fevil.example", "/..//evil.example", "/\t/evil.example", "https://evil.example", "/a%00b", "/%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		place, err := login.ParsePlace(text)
		if err != nil {
			return
		}
		address := at("https://gw.example").Address(place)
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Host != "gw.example" || u.User != nil || strings.ContainsAny(address, "\\\r\n\t ") {
			t.Errorf("%q leads to %q", text, address)
		}
		// As a browser reads a path that stands alone.
		base, _ := url.Parse("https://gw.example/auth/callback")
		if to, err := base.Parse(place); err != nil || to.Host != "gw.example" {
			t.Errorf("%q alone leads to %v, %v", text, to, err)
		}
		if again, err := login.ParsePlace(place); err != nil || again != place {
			t.Errorf("%q becomes %q, %v", place, again, err)
		}
	})
}

func TestAFlowComesBack(t *testing.T) {
	want := login.Flow{State: "s", Nonce: "n", Verifier: "v", Place: "/ui", Until: now}
	got, err := login.DecodeFlow(want.Encode())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func FuzzFlow(f *testing.F) {
	f.Add(login.Flow{State: "s", Nonce: "n", Verifier: "v", Place: "/ui", Until: now}.Encode())
	f.Add([]byte(`{"s":"s","n":"n","v":"v","p":"//evil.example"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		flow, err := login.DecodeFlow(text)
		if err != nil {
			return
		}
		if _, err := login.ParsePlace(flow.Place); err != nil || flow.State == "" || flow.Nonce == "" || flow.Verifier == "" {
			t.Errorf("%q is %+v", text, flow)
		}
	})
}

// event has the provider have signed whatever there is.
type event []byte

func (e event) Event(context.Context, string, time.Time) (tokenclaims.Set, error) {
	return tokenclaims.Decode(e)
}

func FuzzNotice(f *testing.F) {
	for _, claims := range []map[string]any{
		{"iss": "https://id.example", "aud": "peat", "jti": "1", "sub": "ann", "iat": now.Unix(), "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}},
		{"iss": "https://id.example", "aud": []string{"x", "peat"}, "jti": "1", "sid": "s", "iat": 1e300, "exp": -1e300, "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": nil}},
	} {
		text, err := json.Marshal(claims)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, claims []byte) {
		l := at("https://gw.example")
		l.Events = event(claims)
		n, err := l.Notice(t.Context(), "x")
		if err != nil {
			if !errors.Is(err, fault.Malformed) || err.Error() == "" {
				t.Error(err)
			}
			return
		}
		if n.ID == "" || n.Subject == "" && n.Session == "" || n.Until.Before(now) || n.Until.After(now.Add(time.Hour)) || !strings.Contains(string(claims), "peat") {
			t.Errorf("%q is %+v", claims, n)
		}
	})
}

// away is a provider that does not answer.
type away struct{}

func (away) Event(context.Context, string, time.Time) (tokenclaims.Set, error) {
	return nil, fault.Unavailable.New("not now")
}

func TestANoticeThatCannotBeChecked(t *testing.T) {
	l := at("https://gw.example")
	l.Events = away{}
	if _, err := l.Notice(t.Context(), "x"); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}
