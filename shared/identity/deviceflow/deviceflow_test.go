package deviceflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/identity/deviceflow"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth/oauthtest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// world is a flow at a provider, where time passes only by waiting.
type world struct {
	*oauthtest.Provider
	deviceflow.Flow
	now    time.Time
	waited []time.Duration
}

func newWorld(t *testing.T) *world {
	w := &world{Provider: oauthtest.New(t), now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	w.Person = map[string]any{"sub": "alice"}
	w.Flow = deviceflow.Flow{
		Client: &oauth.Client{Issuer: w.URL, ID: w.ClientID, Secret: env.NewSecret(w.Provider.Secret), HTTP: w.Server.Client(), Now: func() time.Time { return w.now }},
		Wait: func(ctx context.Context, d time.Duration) error {
			w.waited = append(w.waited, d)
			w.now = w.now.Add(d)
			return ctx.Err()
		},
	}
	return w
}

func TestDeviceFlow(t *testing.T) {
	const s = time.Second
	for name, tc := range map[string]struct {
		answers []string
		waits   []time.Duration
		want    error // nil: a token
	}{
		"let in at once":        {[]string{""}, []time.Duration{5 * s}, nil},
		"authorization pending": {[]string{oauth.AuthorizationPending, oauth.AuthorizationPending, ""}, []time.Duration{5 * s, 5 * s, 5 * s}, nil},
		"slow down":             {[]string{oauth.SlowDown, oauth.AuthorizationPending, oauth.SlowDown, ""}, []time.Duration{5 * s, 10 * s, 10 * s, 15 * s}, nil},
		"denied":                {[]string{oauth.AuthorizationPending, oauth.AccessDenied}, []time.Duration{5 * s, 5 * s}, fault.Forbidden},
		"expired":               {[]string{oauth.ExpiredToken}, []time.Duration{5 * s}, fault.Unauthenticated},
		"a code of nobody":      {[]string{"invalid_grant"}, []time.Duration{5 * s}, fault.Unauthenticated},
		"words for a log":       {[]string{"x\nlevel=ERROR", ""}, []time.Duration{5 * s, 10 * s}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Answers(tc.answers...)
			p, err := w.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p.URL != w.URL+"/activate" || p.FullURL != p.URL+"?user_code="+p.UserCode || !p.Expires.Equal(w.now.Add(10*time.Minute)) {
				t.Errorf("%+v", p)
			}
			got, err := w.Token(t.Context(), p)
			if !errors.Is(err, tc.want) || tc.want == nil && (err != nil || !got.Access.IsSet() || !got.ID.IsSet() || got.Life != 5*time.Minute) {
				t.Errorf("%+v %v", got, err)
			}
			if diff := cmp.Diff(tc.waits, w.waited); diff != "" {
				t.Error(diff)
			}
			if err != nil && strings.Contains(err.Error(), "stranger") {
				t.Errorf("the provider's own words are in %v", err)
			}
		})
	}
}

// TestNobodyComes: the node stops when its code ends, whatever the provider says.
func TestNobodyComes(t *testing.T) {
	w := newWorld(t)
	w.Answers(oauth.AuthorizationPending)
	p, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begin := w.now
	if _, err := w.Token(t.Context(), p); !errors.Is(err, fault.Unauthenticated) || w.now.Sub(begin) != 10*time.Minute {
		t.Errorf("after %s: %v", w.now.Sub(begin), err)
	}
}

func TestWhoStopsWaitingIsToldSo(t *testing.T) {
	w := newWorld(t)
	w.Answers(oauth.AuthorizationPending)
	p, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.Wait = func(context.Context, time.Duration) error { cancel(); return ctx.Err() }
	if _, err := w.Token(ctx, p); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAnOutageIsWaitedFor asks ever more seldom, and goes on when the provider is back.
func TestAnOutageIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.Answers("")
	p, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wait := w.Wait
	w.Wait = func(ctx context.Context, d time.Duration) error {
		w.With(func() { w.Down = len(w.waited) < 3 })
		return wait(ctx, d)
	}
	got, err := w.Token(t.Context(), p)
	if err != nil || !got.Access.IsSet() {
		t.Fatal(err)
	}
	const s = time.Second
	if diff := cmp.Diff([]time.Duration{5 * s, 10 * s, 20 * s, 40 * s}, w.waited); diff != "" {
		t.Error(diff)
	}
}

func TestAClientThatIsNotKnown(t *testing.T) {
	w := newWorld(t)
	w.Client.Secret = env.NewSecret("another")
	if _, err := w.Begin(t.Context()); !errors.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	if err := deviceflow.Sleep(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := deviceflow.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestWhatIsShownIsHarmless: a provider's answer ends up on somebody's terminal.
func TestWhatIsShownIsHarmless(t *testing.T) {
	for name, tc := range map[string]struct {
		change map[string]any
		ok     bool
	}{
		"as it should be":        {nil, true},
		"no full address":        {map[string]any{"verification_uri_complete": nil}, true},
		"the interval of no one": {map[string]any{"interval": 1e300}, true},
		"no interval":            {map[string]any{"interval": nil}, true},
		"no device code":         {map[string]any{"device_code": ""}, false},
		"no user code":           {map[string]any{"user_code": ""}, false},
		"escapes in a code":      {map[string]any{"user_code": "A\x1b[2JB"}, false},
		"a long code":            {map[string]any{"user_code": strings.Repeat("A", 65)}, false},
		"no address":             {map[string]any{"verification_uri": ""}, false},
		"an address of a file":   {map[string]any{"verification_uri": "file:///etc/passwd"}, false},
		"a script for address":   {map[string]any{"verification_uri_complete": "javascript:alert(1)"}, false},
		"escapes in an address":  {map[string]any{"verification_uri": "https://x/\x1b]0;y\x07"}, false},
		"a life of nothing":      {map[string]any{"expires_in": 0}, false},
		"a life of before":       {map[string]any{"expires_in": -1e300}, false},
		"a number as a text":     {map[string]any{"expires_in": "600"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			answer := map[string]any{"device_code": "d", "user_code": "ABCD-EFGH", "verification_uri": "https://idp.example/a", "verification_uri_complete": "https://idp.example/a?c=1", "expires_in": 600, "interval": 5}
			for k, v := range tc.change {
				answer[k] = v
			}
			var server *httptest.Server
			server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					fmt.Fprintf(w, `{"issuer":%q,"device_authorization_endpoint":%q}`, server.URL, server.URL+"/device")
					return
				}
				_ = json.NewEncoder(w).Encode(answer)
			}))
			defer server.Close()
			f := deviceflow.Flow{Client: &oauth.Client{Issuer: server.URL, ID: "c", HTTP: server.Client(), Now: time.Now}}
			if _, err := f.Begin(t.Context()); (err == nil) != tc.ok {
				t.Error(err)
			}
		})
	}
}
