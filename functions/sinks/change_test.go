package sinks

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
)

// receiver is a webhook's, and what it last got of a header.
func receiver(t *testing.T, got *string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { *got = r.Header.Get("X-Key") }))
	t.Cleanup(srv.Close)
	return srv
}

// A secret stays when a patch does not mention it, and goes nowhere else.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	o := newOffice(t)
	var mine, theirs string
	here, elsewhere := receiver(t, &mine), receiver(t, &theirs)
	var made, got sinkWire
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"`+here.URL+`/a","headers":{"X-Key":"hush"}}}`, 201, &made)
	path := ofFormation + "/" + made.ID

	o.call("PATCH", path, `{"config":{"url":"`+here.URL+`/b"},"format":"raw","retry":{"ladder":["2s"],"for":"1h"}}`, 200, &got)
	if got.Secret != "" || got.Format != delivery.Raw || got.Retry == nil || !strings.Contains(string(got.Config), "/b") || strings.Contains(string(got.Config), "hush") {
		t.Errorf("%+v %s", got, got.Config)
	}
	var test testWire
	o.call("POST", path+"/test", ``, 200, &test)
	if !test.Delivered || mine != "hush" {
		t.Errorf("%+v with %q", test, mine)
	}

	o.call("PATCH", path, `{"config":{"url":"`+elsewhere.URL+`"}}`, 422, nil)
	o.call("PATCH", path, `{"config":{"url":"`+elsewhere.URL+`","headers":{"X-Key":"new"}}}`, 200, &got)
	if got.Secret != "" {
		t.Error("the signing secret was made anew")
	}
	o.call("POST", path+"/test", ``, 200, &test)
	if !test.Delivered || theirs != "new" {
		t.Errorf("%+v with %q", test, theirs)
	}

	var bare sinkWire
	o.call("PATCH", path, `{"retry":null,"config":{"headers":null}}`, 200, &bare)
	if bare.Retry != nil || strings.Contains(string(bare.Config), "X-Key") {
		t.Errorf("%+v %s", bare, bare.Config)
	}
}

func TestPatchesThatAreRefused(t *testing.T) {
	o := newOffice(t)
	var made sinkWire
	o.call("POST", ofFormation, `{"kind":"webhook","config":{"url":"https://example.com/x"}}`, 201, &made)
	for name, in := range map[string]struct {
		body string
		want int
	}{
		"a filter that does not compile": {`{"filter":{"where":"event.sequ > 1"}}`, 422},
		"a ladder without steps":         {`{"retry":{"ladder":[]}}`, 422},
		"a format":                       {`{"format":"xml"}`, 422},
		"a configuration that is a list": {`{"config":[]}`, 422},
		"an address inside":              {`{"config":{"url":"http://10.0.0.1/"}}`, 422},
		"another kind":                   {`{"kind":"nats"}`, 422},
	} {
		if o.call("PATCH", ofFormation+"/"+made.ID, in.body, in.want, nil) == "" {
			t.Errorf("%s: no answer", name)
		}
	}
}

// What a sink has claimed stays its own when something else of it changes.
func TestAClaimOutlivesAPatch(t *testing.T) {
	o := newOffice(t)
	var made sinkWire
	o.call("POST", ofFormation, `{"kind":"file","config":{"path":"mine"}}`, 201, &made)
	o.call("PATCH", ofFormation+"/"+made.ID, `{"format":"raw"}`, 200, nil)
	o.call("POST", ofFormation, `{"kind":"file","config":{"path":"mine"}}`, 409, nil)
}

func TestHosts(t *testing.T) {
	for name, tc := range map[string]struct {
		before, after string
		elsewhere     bool
	}{
		"another path":         {`{"url":"https://a/x"}`, `{"url":"https://a/y"}`, false},
		"another port":         {`{"url":"https://a/x"}`, `{"url":"https://a:8443/x"}`, true},
		"no TLS any more":      {`{"url":"https://a/x"}`, `{"url":"http://a/x"}`, true},
		"a broker less":        {`{"brokers":["a:1","b:1"]}`, `{"brokers":["b:1"]}`, false},
		"a broker more":        {`{"brokers":["a:1"]}`, `{"brokers":["a:1","b:1"]}`, true},
		"a token from another": {`{"url":"https://a","oauth2":{"token_url":"https://t/"}}`, `{"url":"https://a","oauth2":{"token_url":"https://u/"}}`, true},
		"another's name":       {`{"url":"https://a","tls":{}}`, `{"url":"https://a","tls":{"server_name":"b"}}`, true},
	} {
		if got := leadsElsewhere(json.RawMessage(tc.before), json.RawMessage(tc.after)); got != tc.elsewhere {
			t.Errorf("%s: %t", name, got)
		}
	}
}
