package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget/httptargettest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// open parses and opens a configuration, as an organization would give it.
func open(t testing.TB, config string, s driver.Settings) *webhook {
	t.Helper()
	if s.AllowPrivate == nil {
		s.AllowPrivate = drivertest.Loopback
	}
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 20 * time.Second
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	made, err := Parse(json.RawMessage(config), nil, s)
	if err != nil {
		t.Fatal(err)
	}
	return openMade(t, made, s, nil)
}

func openMade(t testing.TB, made driver.Config, s driver.Settings, keys []driver.SigningKey) *webhook {
	t.Helper()
	return httptargettest.OpenMade(t, Open, made, driver.Opening{Signing: keys, Settings: s}).(*webhook)
}

// receive starts a receiver and returns a driver that posts to it.
func receive(t testing.TB, s driver.Settings, h http.HandlerFunc) *webhook {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return open(t, `{"url":"`+srv.URL+`/hook?token=hush"}`, s)
}

func TestWebhookJudgesAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		header string
		want   driver.Verdict
		gone   bool
		all    bool // nothing gets through
		says   string
		wait   time.Duration
	}{
		"ok":                        {status: 200, want: driver.Delivered},
		"accepted":                  {status: 202, want: driver.Delivered},
		"no content":                {status: 204, want: driver.Delivered},
		"bad request":               {status: 400, want: driver.Refused, says: "400 Bad Request"},
		"unauthorized":              {status: 401, want: driver.Retry, all: true, says: "401"},
		"forbidden":                 {status: 403, want: driver.Refused, says: "403"},
		"too large":                 {status: 413, want: driver.Refused, says: "413"},
		"not found":                 {status: 404, want: driver.Refused, says: "404"},
		"gone":                      {status: 410, want: driver.Retry, gone: true, says: "410 Gone"},
		"request timeout":           {status: 408, want: driver.Retry, says: "408"},
		"too many":                  {status: 429, want: driver.Retry, says: "429"},
		"too many, in seconds":      {status: 429, header: "120", want: driver.Retry, says: "429", wait: 2 * time.Minute},
		"too many, for too long":    {status: 429, header: "99999999", want: driver.Retry, says: "429", wait: time.Hour},
		"too many, with nonsense":   {status: 429, header: "-1", want: driver.Retry, says: "429"},
		"unavailable, with a date":  {status: 503, header: "Wed, 04 Mar 2026 05:16:07 GMT", want: driver.Retry, says: "503", wait: 10 * time.Minute},
		"unavailable, a past date":  {status: 503, header: "Wed, 04 Mar 2020 05:16:07 GMT", want: driver.Retry, says: "503"},
		"internal error":            {status: 500, want: driver.Retry, says: "500"},
		"redirect is not followed":  {status: 302, want: driver.Refused, says: "redirects are not followed"},
		"permanent redirect either": {status: 308, want: driver.Refused, says: "redirects are not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			at := driver.Settings{Now: func() time.Time { return drivertest.Start }}
			w := receive(t, at, func(rw http.ResponseWriter, r *http.Request) {
				calls++
				rw.Header().Set("Location", "/elsewhere")
				if tc.header != "" {
					rw.Header().Set("Retry-After", tc.header)
				}
				rw.WriteHeader(tc.status)
				_, _ = io.WriteString(rw, strings.Repeat("é", 1000))
			})
			out := w.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]
			if out.Verdict != tc.want || out.Gone != tc.gone || out.Unreachable != tc.all || !strings.Contains(out.Reason, tc.says) || calls != 1 {
				t.Errorf("%+v after %d calls", out, calls)
			}
			if tc.wait == 0 && !out.NotBefore.IsZero() || tc.wait != 0 && !out.NotBefore.Equal(drivertest.Start.Add(tc.wait)) {
				t.Errorf("not before %s", out.NotBefore)
			}
			if len(out.Excerpt) > driver.MaxExcerpt || tc.want != driver.Delivered && tc.status != 204 && out.Excerpt == "" {
				t.Errorf("excerpt of %d bytes", len(out.Excerpt))
			}
		})
	}
}

// The specification, by hand: HMAC-SHA256 over id.timestamp.body with the key
// that is in the secret after its prefix.
func TestWebhookSignature(t *testing.T) {
	made, err := Parse(json.RawMessage(`{"url":"https://example.com/x","headers":{"Authorization":"Bearer hush"}}`), nil, driver.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	public, _ := json.Marshal(made.Public)
	sealed, _ := json.Marshal(made.Secrets)
	if strings.Contains(string(public), "hush") || strings.Contains(string(public), made.Once) || !strings.HasPrefix(made.Once, "whsec_") {
		t.Errorf("%s %s", public, made.Once)
	}
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer srv.Close()
	d, err := Open(driver.Opening{
		Config:  []byte(`{"url":"` + srv.URL + `","signing":"hmac"}`),
		Secrets: sealed, Settings: driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: 20 * time.Second, Now: func() time.Time { return drivertest.Start }},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if out := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]; out.Verdict != driver.Delivered {
		t.Fatalf("%+v", out)
	}
	h := got.Header
	if h.Get("webhook-id") != "id-a/1" || h.Get("webhook-timestamp") != fmt.Sprint(drivertest.Start.Unix()) ||
		h.Get("content-type") != "application/cloudevents+json" || h.Get("authorization") != "Bearer hush" || h.Values("X-Idempotency-Key") != nil {
		t.Errorf("%v", h)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(made.Once, "whsec_"))
	if err != nil || len(raw) < 24 || len(raw) > 64 {
		t.Fatalf("a key of %d bytes, %v", len(raw), err)
	}
	mac := hmac.New(sha256.New, raw)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); h.Get("webhook-signature") != want {
		t.Errorf("signature %s, want %s", h.Get("webhook-signature"), want)
	}
}

func TestWebhookKeepsTheOrderOfADocument(t *testing.T) {
	var mu sync.Mutex
	var got []string
	w := receive(t, driver.Settings{}, func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("webhook-id")
		if id == "id-b/2" {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		got = append(got, id)
	})
	outs := w.Deliver(t.Context(), drivertest.Events("a/1", "b/1", "a/2", "b/2", "b/3", "a/3"), drivertest.Soon())
	want := []driver.Verdict{driver.Delivered, driver.Delivered, driver.Delivered, driver.Retry, driver.Untried, driver.Delivered}
	for i, o := range outs {
		if o.Verdict != want[i] {
			t.Errorf("event %d: %+v", i, o)
		}
	}
	var a []string
	for _, id := range got {
		if strings.HasPrefix(id, "id-a") {
			a = append(a, id)
		}
	}
	if strings.Join(a, " ") != "id-a/1 id-a/2 id-a/3" || len(got) != 4 {
		t.Errorf("%v", got)
	}
}

func TestWebhookThatHangs(t *testing.T) {
	release := make(chan struct{})
	w := receive(t, driver.Settings{AttemptTimeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") == "id-a/1" {
			<-release
		}
	})
	defer close(release)
	outs := w.Deliver(t.Context(), drivertest.Events("a/1", "a/2", "b/1"), drivertest.Soon())
	if outs[0].Verdict != driver.Retry || outs[0].Unreachable || outs[1].Verdict != driver.Untried || outs[2].Verdict != driver.Delivered {
		t.Errorf("%+v", outs)
	}
	// Breaking off is nobody's failure.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	w = receive(t, driver.Settings{AttemptTimeout: time.Minute}, func(http.ResponseWriter, *http.Request) { <-release })
	if out := w.Deliver(ctx, drivertest.Events("a/1"), drivertest.Soon())[0]; out.Verdict != driver.Untried {
		t.Errorf("%+v", out)
	}
	// Nothing begins after its time.
	if out := w.Deliver(t.Context(), drivertest.Events("b/1"), time.Now())[0]; out.Verdict != driver.Untried {
		t.Errorf("%+v", out)
	}
}

func TestWebhookThatResets(t *testing.T) {
	var calls atomic.Int32
	w := receive(t, driver.Settings{}, func(rw http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	out := w.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]
	if out.Verdict != driver.Retry || out.Unreachable || strings.Contains(out.Reason, "hush") {
		t.Errorf("%+v", out)
	}
}

func TestWebhookThatIsNotThere(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	w := open(t, `{"url":"`+srv.URL+`?token=hush"}`, driver.Settings{})
	out := w.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]
	if out.Verdict != driver.Retry || !out.Unreachable || strings.Contains(out.Reason, "hush") {
		t.Errorf("%+v", out)
	}
	// What a name resolves to is seen only when it is dialled.
	local := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	guarded := open(t, `{"url":"`+local+`"}`, driver.Settings{AllowPrivate: []netip.Prefix{}})
	out = guarded.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]
	if out.Verdict != driver.Retry || !out.Unreachable || out.Reason != netguard.ErrForbidden.Error() {
		t.Errorf("%+v", out)
	}
}

func TestWebhookConfigurationsThatAreRefused(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":                ``,
		"no url":                 `{}`,
		"another scheme":         `{"url":"ftp://example.com"}`,
		"no host":                `{"url":"https:///x"}`,
		"user":                   `{"url":"https://me:hush@example.com"}`,
		"loopback":               `{"url":"http://127.0.0.1/"}`,
		"mapped loopback":        `{"url":"http://[::ffff:127.0.0.1]/"}`,
		"decimal":                `{"url":"http://2130706433/"}`,
		"octal":                  `{"url":"http://0177.0.0.1/"}`,
		"hex":                    `{"url":"http://0x7f.1/"}`,
		"short":                  `{"url":"http://127.1/"}`,
		"metadata":               `{"url":"http://169.254.169.254/latest"}`,
		"unknown field":          `{"url":"https://example.com","verify":false}`,
		"wrong type":             `{"url":7}`,
		"signing":                `{"url":"https://example.com","signing":"rsa"}`,
		"a batch of none":        `{"url":"https://example.com","batch":{"max_events":-1}}`,
		"a batch that is large":  `{"url":"https://example.com","batch":{"max_events":1001}}`,
		"a batch of a few bytes": `{"url":"https://example.com","batch":{"max_bytes":100}}`,
		"a batch of many bytes":  `{"url":"https://example.com","batch":{"max_bytes":8388609}}`,
		"our header":             `{"url":"https://example.com","headers":{"Webhook-Signature":"x"}}`,
		"host header":            `{"url":"https://example.com","headers":{"hOst":"x"}}`,
		"framing header":         `{"url":"https://example.com","headers":{"Content-Length":"1"}}`,
		"header in a header":     `{"url":"https://example.com","headers":{"X":"a\r\nHost: b"}}`,
		"name with a space":      `{"url":"https://example.com","headers":{"X Y":"a"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(json.RawMessage(in), nil, driver.Settings{})
			if f := fault.Of(err); !errors.Is(err, fault.Invalid) || len(f.Fields) == 0 || !strings.HasPrefix(f.Fields[0].Pointer, "/config") {
				t.Errorf("%+v", err)
			}
		})
	}
}
