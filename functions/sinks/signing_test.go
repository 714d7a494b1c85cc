package sinks

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// signed is a request as its receiver got it.
type signed struct {
	message    string
	signatures []string
}

// receiver notes what is posted to it.
func (o *office) receiver() (url string, last func() signed) {
	var got signed
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = signed{
			message:    r.Header.Get("Webhook-Id") + "." + r.Header.Get("Webhook-Timestamp") + "." + string(body),
			signatures: strings.Split(r.Header.Get("Webhook-Signature"), " "),
		}
	}))
	o.t.Cleanup(srv.Close)
	return srv.URL, func() signed { return got }
}

func (s signed) body() string {
	_, rest, _ := strings.Cut(s.message, ".")
	_, body, _ := strings.Cut(rest, ".")
	return body
}

// by reports which of the secrets or public keys have signed, in the order of the signatures.
func (s signed) by(t *testing.T, keys ...string) []int {
	t.Helper()
	var out []int
	for _, sig := range s.signatures {
		version, encoded, _ := strings.Cut(sig, ",")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, slices.IndexFunc(keys, func(k string) bool {
			prefix, encoded, _ := strings.Cut(k, "_")
			key, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case prefix == "whsec" && version == "v1":
				mac := hmac.New(sha256.New, key)
				mac.Write([]byte(s.message))
				return hmac.Equal(mac.Sum(nil), raw)
			case prefix == "whpk" && version == "v1a":
				return ed25519.Verify(key, []byte(s.message), raw)
			}
			return false
		}))
	}
	return out
}

func (o *office) wantTest(sink string) {
	o.t.Helper()
	var result testWire
	if o.call("POST", ofOrg+"/"+sink+"/test", "", 200, &result); !result.Delivered {
		o.t.Fatalf("%+v", result)
	}
}

func want(t *testing.T, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("signed by %v, want %v", got, want)
	}
}

func TestRotationOfASecret(t *testing.T) {
	o := newOffice(t)
	url, last := o.receiver()
	var made, first, second, third sinkWire
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+url+`"}}`, 201, &made)
	secrets := func() []string { return []string{made.Secret, first.Secret, second.Secret, third.Secret} }
	rotate := ofFormation + "/" + made.ID + "/rotate-secret"
	o.call("POST", rotate, "", 200, &first)
	o.wantTest(made.ID)
	want(t, last().by(t, made.Secret, first.Secret), 1, 0)
	o.clock.advance(23 * time.Hour)
	o.call("POST", rotate, `{"overlap":"48h"}`, 200, &second)
	o.wantTest(made.ID)
	want(t, last().by(t, made.Secret, first.Secret, second.Secret), 2, 1, 0)
	// The first ends when it was said to, not later because of the second.
	o.clock.advance(time.Hour)
	o.wantTest(made.ID)
	want(t, last().by(t, made.Secret, first.Secret, second.Secret), 2, 1)
	o.call("POST", rotate, `{"overlap":"0s"}`, 200, &third)
	o.wantTest(made.ID)
	want(t, last().by(t, secrets()...), 3)

	if text := o.call("GET", ofFormation+"/"+made.ID, "", 200, nil); strings.Contains(text, "whsec_") {
		t.Errorf("a secret in %s", text)
	}
	if got := o.outbox(); len(got) != 4 || got[3] != event.SinkChangedType {
		t.Errorf("%v", got)
	}
	trail, err := o.store.AuditTrail(t.Context(), "acme", 10)
	if err != nil || len(trail) != 8 || trail[6].Action != "sink.rotate-secret" || trail[6].Target != made.ID {
		t.Errorf("%+v %v", trail, err)
	}
	for range 3 {
		o.call("POST", rotate, "", 200, nil)
	}
	o.call("POST", rotate, "", 409, nil)
	o.call("POST", rotate, `{"overlap":"0s"}`, 200, nil)
}

// A sink that is changed goes on with the secret it has, unless it signs otherwise.
func TestAWebhookThatIsChangedKeepsItsSecret(t *testing.T) {
	o := newOffice(t)
	url, last := o.receiver()
	var made, changed sinkWire
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+url+`","headers":{"X-Token":"hush"}}}`, 201, &made)
	o.call("PATCH", ofFormation+"/"+made.ID, `{"config":{"batch":{"max_events":7}}}`, 200, &changed)
	o.wantTest(made.ID)
	want(t, last().by(t, made.Secret), 0)
	if changed.Secret != "" || !strings.HasPrefix(last().body(), "[") {
		t.Errorf("%+v %s", changed, last().message)
	}
	o.call("PATCH", ofFormation+"/"+made.ID, `{"config":{"signing":"ed25519"}}`, 200, &changed)
	o.wantTest(made.ID)
	var list web.List[signingKeyWire]
	if o.call("GET", "/orgs/acme/.well-known/webhook-keys", "", 200, &list); len(list.Items) != 1 {
		t.Fatalf("%+v", list)
	}
	want(t, last().by(t, list.Items[0].PublicKey), 0)
	o.call("PATCH", ofFormation+"/"+made.ID, `{"config":{"signing":"hmac","batch":null}}`, 200, &changed)
	o.wantTest(made.ID)
	want(t, last().by(t, changed.Secret, made.Secret), 0)
	if !strings.HasPrefix(last().body(), "{") {
		t.Errorf("%s", last().message)
	}
}

func TestRotationsThatAreRefused(t *testing.T) {
	o := newOffice(t)
	var hook, plain, keyed sinkWire
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"https://example.com"}}`, 201, &hook)
	o.call("POST", ofFormation, `{"kind":"stdout"}`, 201, &plain)
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"https://example.com","signing":"ed25519"}}`, 201, &keyed)
	o.addFormation(tenant.Key{Org: "rival", App: "logistics"})
	for name, tc := range map[string]struct {
		path, body string
		want       int
	}{
		"a sink without a secret":       {ofFormation + "/" + plain.ID + "/rotate-secret", "", 409},
		"a sink that signs by key":      {ofFormation + "/" + keyed.ID + "/rotate-secret", "", 409},
		"too long":                      {ofFormation + "/" + hook.ID + "/rotate-secret", `{"overlap":"169h"}`, 422},
		"negative":                      {ofFormation + "/" + hook.ID + "/rotate-secret", `{"overlap":"-1s"}`, 422},
		"not a duration":                {ofFormation + "/" + hook.ID + "/rotate-secret", `{"overlap":"a day"}`, 422},
		"another organization's":        {"/orgs/rival/cdc/sinks/" + hook.ID + "/rotate-secret", "", 404},
		"keys, too long":                {"/orgs/acme/cdc/signing-keys/rotate", `{"overlap":"169h"}`, 422},
		"keys of nobody":                {"/orgs/nobody/cdc/signing-keys/rotate", "", 404},
		"keys of what is no name":       {"/orgs/A%20b/cdc/signing-keys/rotate", "", 404},
		"a sink that there is not":      {ofFormation + "/01ARZ3NDEKTSV4RRFFQ69G5FAV/rotate-secret", "", 404},
		"a body that is another's body": {ofFormation + "/" + hook.ID + "/rotate-secret", `{"secret":"mine"}`, 422},
	} {
		t.Run(name, func(t *testing.T) {
			o := *o
			o.t = t
			before := len(o.outbox())
			o.call("POST", tc.path, tc.body, tc.want, nil)
			if len(o.outbox()) != before {
				t.Error("half-done")
			}
		})
	}
}

func TestKeysOfAnOrganization(t *testing.T) {
	o := newOffice(t)
	o.addFormation(tenant.Key{Org: "rival", App: "logistics"})
	published := func(org string) []signingKeyWire {
		t.Helper()
		out := httptest.NewRecorder()
		o.ServeHTTP(out, httptest.NewRequest("GET", "/orgs/"+org+"/.well-known/webhook-keys", nil)) // by anybody
		if out.Code != 200 || out.Header().Get("Cache-Control") != "public, max-age=300" {
			t.Fatalf("%d %v", out.Code, out.Header())
		}
		var list web.List[signingKeyWire]
		o.call("GET", "/orgs/"+org+"/.well-known/webhook-keys", "", 200, &list)
		return list.Items
	}
	if got := published("acme"); len(got) != 0 {
		t.Errorf("%+v before anybody needs one", got)
	}
	url, last := o.receiver()
	var made, twin sinkWire
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+url+`","signing":"ed25519"}}`, 201, &made)
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+url+`","signing":"ed25519"}}`, 201, &twin)
	keys := published("acme")
	if len(keys) != 1 || keys[0].Algorithm != "ed25519" || keys[0].NotAfter != nil || made.Secret != "" || len(published("rival")) != 0 {
		t.Fatalf("%+v", keys)
	}
	old := keys[0].PublicKey
	for _, s := range []sinkWire{made, twin} {
		o.wantTest(s.ID)
		want(t, last().by(t, old), 0)
	}
	var list web.List[signingKeyWire]
	o.call("POST", "/orgs/acme/cdc/signing-keys/rotate", `{"overlap":"1h"}`, 200, &list)
	if keys = published("acme"); len(keys) != 2 || keys[1].PublicKey != old || keys[1].NotAfter == nil || keys[0] != list.Items[0] {
		t.Fatalf("%+v", keys)
	}
	o.wantTest(made.ID)
	want(t, last().by(t, old, keys[0].PublicKey), 1, 0)
	o.clock.advance(time.Hour)
	if got := published("acme"); len(got) != 1 || got[0].PublicKey != keys[0].PublicKey {
		t.Errorf("%+v", got)
	}
	o.wantTest(made.ID)
	want(t, last().by(t, old, keys[0].PublicKey), 1)
	trail, err := o.store.AuditTrail(t.Context(), "acme", 10)
	if err != nil || len(trail) != 7 || trail[4].Action != "signing-key.rotate" || trail[4].Target != keys[0].ID {
		t.Errorf("%+v %v", trail, err)
	}
	o.call("GET", "/orgs/nobody/.well-known/webhook-keys", "", 404, nil)
	// After a leak nothing of the old ones is left.
	o.call("POST", "/orgs/acme/cdc/signing-keys/rotate", `{"overlap":"0s"}`, 200, &list)
	if len(list.Items) != 1 || list.Items[0].PublicKey == keys[0].PublicKey {
		t.Errorf("%+v", list)
	}
}
