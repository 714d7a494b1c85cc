package kafka

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestConfigurationsThatAreRefused(t *testing.T) {
	for name, tc := range map[string]struct{ in, pointer string }{
		"no brokers":                {`{"topic":"x"}`, "/config/brokers"},
		"no port":                   {`{"brokers":["example.com"],"topic":"x"}`, "/config/brokers"},
		"a path":                    {`{"brokers":["example.com:9092/x"],"topic":"x"}`, "/config/brokers"},
		"a user":                    {`{"brokers":["me:hush@example.com:9092"],"topic":"x"}`, "/config/brokers"},
		"two in one":                {`{"brokers":["example.com:9092,127.0.0.1:9092"],"topic":"x"}`, "/config/brokers"},
		"a private address":         {`{"brokers":["example.com:9092","10.0.0.1:9092"],"topic":"x"}`, "/config/brokers"},
		"no topic":                  {`{"brokers":["example.com:9092"]}`, "/config/topic"},
		"another placeholder":       {`{"brokers":["example.com:9092"],"topic":"{document}"}`, "/config/topic"},
		"a topic that is a path":    {`{"brokers":["example.com:9092"],"topic":".."}`, "/config/topic"},
		"another mechanism":         {`{"brokers":["example.com:9092"],"topic":"x","sasl":{"mechanism":"gssapi","username":"me","password":"x"}}`, "/config/sasl/mechanism"},
		"no password":               {`{"brokers":["example.com:9092"],"topic":"x","sasl":{"mechanism":"plain","username":"me"}}`, "/config/sasl"},
		"a password with a zero":    {`{"brokers":["example.com:9092"],"topic":"x","sasl":{"mechanism":"plain","username":"me","password":"a\u0000b"}}`, "/config/sasl"},
		"an option that is unknown": {`{"brokers":["example.com:9092"],"topic":"x","acks":1}`, "/config/acks"},
		"tls that is a word":        {`{"brokers":["example.com:9092"],"topic":"x","tls":"yes"}`, "/config/tls"},
		"an unknown option of tls":  {`{"brokers":["example.com:9092"],"topic":"x","tls":{"verify":false}}`, "/config/tls/verify"},
		"an authority that is none": {`{"brokers":["example.com:9092"],"topic":"x","tls":{"ca_pem":"x"}}`, "/config/tls/ca_pem"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(json.RawMessage(tc.in), nil, driver.Settings{Now: time.Now})
			f := fault.Of(err)
			if !errors.Is(err, fault.Invalid) || len(f.Fields) == 0 || f.Fields[0].Pointer != tc.pointer {
				t.Errorf("%v: %+v", err, f)
			}
		})
	}
}

// What is shown holds no secret, and given back with what was sealed makes the same.
func TestConfigurationsAreShownWithoutSecrets(t *testing.T) {
	cert, key := drivertest.NewAuthority(t).Issue("gateway", time.Now().AddDate(1, 0, 0))
	with := func(more fields) fields {
		c := fields{"brokers": []string{"example.com:9092"}, "topic": "{org}.{app}"}
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	for name, tc := range map[string]struct {
		in      fields
		shown   string // of tls and sasl
		secrets kafkaSecrets
	}{
		"in the open":   {with(nil), `{}`, kafkaSecrets{}},
		"tls, no":       {with(fields{"tls": false}), `{}`, kafkaSecrets{}},
		"tls, yes":      {with(fields{"tls": true}), `{"tls":true}`, kafkaSecrets{}},
		"tls, by name":  {with(fields{"tls": fields{"server_name": "kafka"}}), `{"tls":{"server_name":"kafka"}}`, kafkaSecrets{}},
		"tls, as usual": {with(fields{"tls": fields{}}), `{"tls":{}}`, kafkaSecrets{}},
		"both ways": {
			with(fields{"tls": fields{"client_cert_pem": cert, "client_key_pem": key}}),
			`{"tls":{"client_cert_pem":` + string(encode(t, cert)) + `,"client_key_pem":"[sealed]"}}`, kafkaSecrets{ClientKey: key},
		},
		"a password": {
			with(fields{"tls": true, "sasl": fields{"mechanism": "scram-sha-512", "username": "me", "password": "hush"}}),
			`{"tls":true,"sasl":{"mechanism":"scram-sha-512","username":"me"}}`, kafkaSecrets{Password: "hush"},
		},
		"a password and a key": {
			with(fields{"tls": fields{"client_cert_pem": cert, "client_key_pem": key}, "sasl": fields{"mechanism": "plain", "username": "me", "password": "hush"}}),
			`{"tls":{"client_cert_pem":` + string(encode(t, cert)) + `,"client_key_pem":"[sealed]"},"sasl":{"mechanism":"plain","username":"me"}}`,
			kafkaSecrets{Password: "hush", ClientKey: key},
		},
	} {
		t.Run(name, func(t *testing.T) {
			settings := driver.Settings{Now: time.Now}
			first, err := Parse(encode(t, tc.in), nil, settings)
			if err != nil {
				t.Fatal(err)
			}
			shown := string(encode(t, first.Public))
			want := `{"brokers":["example.com:9092"],"topic":"{org}.{app}"` + strings.TrimSuffix(","+tc.shown[1:], ",}")
			if tc.shown == "{}" {
				want += "}"
			}
			if d := cmp.Diff(want, shown); d != "" {
				t.Error(d)
			}
			again, err := Parse([]byte(shown), encode(t, first.Secrets), settings)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []driver.Config{first, again} {
				secrets, _ := c.Secrets.(kafkaSecrets)
				if secrets != tc.secrets || (c.Secrets == nil) != (tc.secrets == kafkaSecrets{}) {
					t.Errorf("%t %+v", c.Secrets == nil, len(secrets.Password))
				}
			}
			if d := cmp.Diff(shown, string(encode(t, again.Public))); d != "" {
				t.Error(d)
			}
			if d := openParsed(t, again, settings); (d.dialer.tls != nil) != strings.Contains(tc.shown, "tls") || (d.dialer.sasl != nil) != strings.Contains(tc.shown, "sasl") {
				t.Errorf("%+v", d.dialer)
			}
		})
	}
}

func FuzzTopicTemplate(f *testing.F) {
	f.Add("peat.{org}.{app}", "acme", "logistics")
	f.Add("{app}{app}", "a", "b")
	f.Add("{org", "{app}", "}")
	f.Fuzz(func(t *testing.T, template, org, app string) {
		if !isTemplate(template) || !isName(org) || !isName(app) {
			return
		}
		name := expandTopic(template, org, app)
		// Only its length can be wrong with what comes of a template that was taken.
		if !isTopic(name) && len(name) <= maxTopic {
			t.Fatalf("%q for %q and %q", name, org, app)
		}
		if !matches(expandTopic(template, org, "{app}"), name) {
			t.Fatalf("%q is not found again by %q", name, template)
		}
	})
}

// isName is as formations are named.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f || !driver.IsPlain(byte(r)) })
}
