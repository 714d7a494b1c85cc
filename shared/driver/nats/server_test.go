package nats

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

func makeSink(t testing.TB, config map[string]any, s driver.Settings) *natsStream {
	t.Helper()
	s.AllowPrivate = drivertest.Loopback
	return openSink(t, config, s)
}

// openSink makes a sink as the API does, parsed and sealed, when its operator allowed
// loopback addresses, and opens it under the settings given.
func openSink(t testing.TB, config map[string]any, s driver.Settings) *natsStream {
	t.Helper()
	in, _ := json.Marshal(config)
	made, err := Parse(in, nil, driver.Settings{AllowPrivate: drivertest.Loopback, NATSURL: s.NATSURL})
	if err != nil {
		t.Fatal(err)
	}
	public, _ := json.Marshal(made.Public)
	var secrets []byte
	if made.Secrets != nil {
		secrets, _ = json.Marshal(made.Secrets)
	}
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 5 * time.Second
	}
	d, err := Open(driver.Opening{Org: "acme", Sink: "s", Config: public, Secrets: secrets, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*natsStream)
}

func with(config map[string]any, more ...any) map[string]any {
	out := map[string]any{"subject_prefix": "cdc"}
	for k, v := range config {
		out[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		out[more[i].(string)] = more[i+1]
	}
	return out
}

func seedOf(t testing.TB, pair nkeys.KeyPair) string {
	t.Helper()
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return string(seed)
}

func publicOf(t testing.TB, pair nkeys.KeyPair) string {
	t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func pairOf(t testing.TB, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// decentral is a server that knows its users by JWTs, and the credentials of one.
func decentral(t testing.TB) (config, credentials string) {
	t.Helper()
	operator, account, user := pairOf(t, nkeys.CreateOperator), pairOf(t, nkeys.CreateAccount), pairOf(t, nkeys.CreateUser)
	system := pairOf(t, nkeys.CreateAccount)
	encode := func(c jwt.Claims, by nkeys.KeyPair) string {
		t.Helper()
		text, err := c.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	op := jwt.NewOperatorClaims(publicOf(t, operator))
	op.SystemAccount = publicOf(t, system)
	ac := jwt.NewAccountClaims(publicOf(t, account))
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	config = fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: {\n%s: %s\n%s: %s\n}\n", encode(op, operator),
		publicOf(t, account), encode(ac, operator), publicOf(t, system), encode(jwt.NewAccountClaims(publicOf(t, system)), operator))
	text, err := jwt.FormatUserConfig(encode(jwt.NewUserClaims(publicOf(t, user)), account), []byte(seedOf(t, user)))
	if err != nil {
		t.Fatal(err)
	}
	return config, string(text)
}

func TestNATSSignsIn(t *testing.T) {
	user, stranger := pairOf(t, nkeys.CreateUser), pairOf(t, nkeys.CreateUser)
	jwtConfig, credentials := decentral(t)
	_, strangers := decentral(t)
	for name, tc := range map[string]struct {
		server     string
		good, evil map[string]any
	}{
		"user and password": {"authorization { user: me, password: hush }",
			map[string]any{"username": "me", "password": "hush"}, map[string]any{"username": "me", "password": "guess"}},
		"token":       {"authorization { token: hush }", map[string]any{"token": "hush"}, map[string]any{"token": "guess"}},
		"nkey":        {"authorization { users: [{ nkey: " + publicOf(t, user) + " }] }", map[string]any{"nkey_seed": seedOf(t, user)}, map[string]any{"nkey_seed": seedOf(t, stranger)}},
		"credentials": {jwtConfig, map[string]any{"credentials": credentials}, map[string]any{"credentials": strangers}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.StartNATS(t, tc.server)
			drivertest.DeliverAll(t, makeSink(t, with(tc.good, "url", s.URL()), driver.Settings{}), "a/1", "a/2")
			for _, config := range []map[string]any{tc.evil, nil} {
				out := makeSink(t, with(config, "url", s.URL()), driver.Settings{}).Deliver(t.Context(), drivertest.Events("a/3"), drivertest.Soon())[0]
				if out.Verdict != driver.Retry || !out.Unreachable || !strings.Contains(strings.ToLower(out.Reason), "authorization") {
					t.Errorf("%+v", out)
				}
				for _, secret := range config {
					if strings.Contains(out.Reason, secret.(string)) {
						t.Errorf("a secret: %s", out.Reason)
					}
				}
			}
		})
	}
}

func TestNATSOverTLS(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	later := time.Now().AddDate(1, 0, 0)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := ca.Issue("localhost", later)
	block := fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q", write("cert", cert), write("key", key), write("ca", ca.PEM))
	clientCert, clientKey := ca.Issue("gateway", later)
	mine := map[string]any{"ca_pem": ca.PEM, "client_cert_pem": clientCert, "client_key_pem": clientKey}
	for name, tc := range map[string]struct {
		server string
		config map[string]any
		reason string
	}{
		"the server's authority is known":     {"}", with(nil, "tls", map[string]any{"ca_pem": ca.PEM}), ""},
		"the server's authority is not known": {"}", with(nil, "tls", map[string]any{}), "certificate"},
		"a certificate of ours":               {", verify: true }", with(nil, "tls", mine), ""},
		"none, though the server wants one":   {", verify: true }", with(nil, "tls", map[string]any{"ca_pem": ca.PEM}), ":"}, // its last word may be lost with the connection
		"TLS before anything else":            {", handshake_first: true }", with(nil, "tls", mine, "tls_first", true), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.StartNATS(t, block+tc.server)
			d := makeSink(t, with(tc.config, "url", "tls://"+s.Addr), driver.Settings{})
			outs := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())
			if tc.reason == "" {
				drivertest.WantDelivered(t, outs)
			} else if o := outs[0]; !o.Unreachable || !strings.Contains(o.Reason, tc.reason) {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestNATSSecretsStaySealed(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	cert, key := ca.Issue("gateway", time.Now().AddDate(1, 0, 0))
	seed := seedOf(t, pairOf(t, nkeys.CreateUser))
	_, credentials := decentral(t)
	for name, config := range map[string]map[string]any{
		"token": {"token": "hush-hush"}, "password": {"username": "me", "password": "hush-hush"}, "nkey": {"nkey_seed": seed},
		"credentials": {"credentials": credentials}, "tls": {"tls": map[string]any{"client_cert_pem": cert, "client_key_pem": key}},
	} {
		t.Run(name, func(t *testing.T) {
			parse := func(config map[string]any, prior []byte) (public string, sealed []byte) {
				t.Helper()
				in, _ := json.Marshal(with(config, "url", "nats://example.com"))
				made, err := Parse(in, prior, driver.Settings{})
				if err != nil {
					t.Fatal(err)
				}
				shown, _ := json.Marshal(made.Public)
				sealed, _ = json.Marshal(made.Secrets)
				return string(shown), sealed
			}
			public, sealed := parse(config, nil)
			for _, secret := range []string{"hush", seed, key, credentials} {
				quoted, _ := json.Marshal(secret)
				if strings.Contains(public, strings.Trim(string(quoted), `"`)) {
					t.Errorf("shown: %s", public)
				}
			}
			// Sent back as it is shown, it stays what it was.
			var shown map[string]any
			if err := json.Unmarshal([]byte(public), &shown); err != nil {
				t.Fatal(err)
			}
			if _, again := parse(shown, sealed); string(again) != string(sealed) {
				t.Error("the secrets have changed")
			}
			// Another way to sign in takes its place.
			delete(shown, "username")
			if _, other := parse(with(shown, "token", "another"), sealed); name != "tls" && string(other) != `{"token":"another"}` {
				t.Error("both ways are there")
			}
		})
	}
}

func TestNATSMakesTheStreamAsAsked(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	js := client(t, s)
	bystander(t, js)
	for name, tc := range map[string]struct {
		more []any
		want jetstream.StreamConfig
	}{
		"by itself":  {nil, jetstream.StreamConfig{Storage: jetstream.FileStorage, MaxBytes: -1, Duplicates: 10 * time.Minute}},
		"in memory":  {[]any{"storage", "memory", "replicas", 1}, jetstream.StreamConfig{Storage: jetstream.MemoryStorage, MaxBytes: -1, Duplicates: 10 * time.Minute}},
		"limited":    {[]any{"max_age", "72h", "max_bytes", 64 << 20, "duplicate_window", "1h"}, jetstream.StreamConfig{MaxAge: 72 * time.Hour, MaxBytes: 64 << 20, Duplicates: time.Hour}},
		"short-aged": {[]any{"max_age", "2m"}, jetstream.StreamConfig{MaxAge: 2 * time.Minute, MaxBytes: -1, Duplicates: 2 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			config := with(nil, append(tc.more, "url", s.ClientURL(), "stream", "made")...)
			drivertest.DeliverAll(t, makeSink(t, config, driver.Settings{}), "a/1")
			stream, err := js.Stream(t.Context(), "made")
			if err != nil {
				t.Fatal(err)
			}
			got := stream.CachedInfo().Config
			if got.Storage != tc.want.Storage || got.MaxAge != tc.want.MaxAge || got.MaxBytes != tc.want.MaxBytes || got.Duplicates != tc.want.Duplicates || got.Replicas != 1 {
				t.Errorf("%+v", got)
			}
			if err := js.DeleteStream(t.Context(), "made"); err != nil {
				t.Fatal(err)
			}
		})
	}
	// More replicas than servers: the server says no, and nothing is lost.
	d := makeSink(t, with(nil, "url", s.ClientURL(), "stream", "three", "replicas", 3), driver.Settings{})
	if o := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]; !o.Unreachable || !strings.Contains(o.Reason, "replicas") {
		t.Errorf("%+v", o)
	}
}

func TestNATSLeavesAForeignStreamAlone(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	js := client(t, s)
	ours := []string{"acme.cdc.>"}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "origin", Subjects: []string{"origin.>"}}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		config jetstream.StreamConfig
		reason string
	}{
		"a mirror":        {jetstream.StreamConfig{Mirror: &jetstream.StreamSource{Name: "origin"}}, "is a mirror"},
		"sealed":          {jetstream.StreamConfig{Subjects: ours, Sealed: true}, "is sealed"},
		"by interest":     {jetstream.StreamConfig{Subjects: ours, Retention: jetstream.InterestPolicy}, "retention by interest"},
		"silent":          {jetstream.StreamConfig{Subjects: ours, NoAck: true}, "acknowledges nothing"},
		"a counter":       {jetstream.StreamConfig{Subjects: ours, AllowMsgCounter: true}, "counts"},
		"other subjects":  {jetstream.StreamConfig{Subjects: []string{"acme.other.>"}}, "does not take the subjects"},
		"fewer subjects":  {jetstream.StreamConfig{Subjects: []string{"acme.cdc.logistics.*"}}, "does not take the subjects"},
		"a work queue":    {jetstream.StreamConfig{Subjects: ours, Retention: jetstream.WorkQueuePolicy}, ""},
		"one of settings": {jetstream.StreamConfig{Subjects: []string{"acme.>"}, MaxAge: time.Hour, Storage: jetstream.MemoryStorage, Duplicates: time.Minute}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tc.config.Name = "there"
			sealed := tc.config.Sealed
			tc.config.Sealed = false // only a stream that is there can be sealed
			before, err := js.CreateStream(t.Context(), tc.config)
			if err != nil {
				t.Fatal(err)
			}
			defer js.DeleteStream(t.Context(), "there")
			if sealed {
				tc.config.Sealed = true
				if before, err = js.UpdateStream(t.Context(), tc.config); err != nil {
					t.Fatal(err)
				}
			}
			d := makeSink(t, with(nil, "url", s.ClientURL(), "stream", "there", "max_age", "9h", "storage", "file"), driver.Settings{})
			outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon())
			_, assessed := d.Assess(t.Context())
			if tc.reason == "" {
				drivertest.WantDelivered(t, outs)
			} else if !outs[0].Unreachable || !strings.Contains(outs[0].Reason, tc.reason) || assessed == nil || !strings.Contains(assessed.Error(), tc.reason) {
				t.Errorf("%+v %v", outs[0], assessed)
			}
			after, err := js.Stream(t.Context(), "there")
			if err != nil {
				t.Fatal(err)
			}
			was, _ := json.Marshal(before.CachedInfo().Config)
			is, _ := json.Marshal(after.CachedInfo().Config)
			if string(was) != string(is) {
				t.Errorf("changed:\n%s\n%s", was, is)
			}
		})
	}
}

func TestNATSStreamOptionsThatAreRefused(t *testing.T) {
	seed := seedOf(t, pairOf(t, nkeys.CreateAccount))
	_, credentials := decentral(t)
	for name, more := range map[string]map[string]any{
		"six replicas":             {"replicas": 6},
		"replicas below zero":      {"replicas": -1},
		"a storage of none":        {"storage": "tape"},
		"a little room":            {"max_bytes": 1000},
		"room below zero":          {"max_bytes": -5},
		"an age that is no time":   {"max_age": "a week"},
		"an age of a second":       {"max_age": "1s"},
		"an age below zero":        {"max_age": "-1h"},
		"an age of a century":      {"max_age": "876000h"},
		"a window of a week":       {"duplicate_window": "168h"},
		"a window beyond the age":  {"max_age": "1h", "duplicate_window": "2h"},
		"an account's seed":        {"nkey_seed": seed},
		"half a seed":              {"nkey_seed": seed[:20]},
		"credentials without seed": {"credentials": strings.Split(credentials, "-----BEGIN USER")[0]},
		"credentials of none":      {"credentials": "me"},
		"too many credentials":     {"credentials": credentials + strings.Repeat(" ", maxCredentials)},
		"two ways to sign in":      {"credentials": credentials, "token": "x"},
		"a key beside tls":         {"tls_key": "x"},
		"a tls option of none":     {"tls": map[string]any{"verify": false}},
	} {
		t.Run(name, func(t *testing.T) {
			in, _ := json.Marshal(with(more, "url", "nats://example.com"))
			_, err := Parse(in, nil, driver.Settings{})
			if !errors.Is(err, fault.Invalid) || fault.Of(err).Fields == nil {
				t.Errorf("%v", err)
			}
			for _, secret := range []string{seed, seed[:20], credentials} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("a secret: %v", err)
				}
			}
		})
	}
	if _, err := Parse(json.RawMessage(`{"subject_prefix":"cdc","tls":{}}`), nil, driver.Settings{NATSURL: "nats://127.0.0.1"}); !errors.Is(err, fault.Invalid) {
		t.Errorf("TLS options for the operator's server: %v", err)
	}
}

// A user needs no more rights than the manual says, and what is missing is told at
// once and not by silence.
func TestNATSNeedsFewRights(t *testing.T) {
	const rights = `authorization { users: [{ user: me, password: hush, permissions: {
  publish: [%s], subscribe: ["_INBOX.>"] } }] }`
	const api = `"$JS.API.STREAM.INFO.x", "$JS.API.STREAM.CREATE.x"`
	for name, tc := range map[string]struct{ publish, reason string }{
		"those of the manual": {`"acme.cdc.>", ` + api, ""},
		"none to publish":     {api, "ermissions"},
		"none to the stream":  {`"acme.cdc.>"`, "ermissions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.StartNATS(t, fmt.Sprintf(rights, tc.publish))
			d := makeSink(t, with(nil, "url", s.URL(), "stream", "x", "username", "me", "password", "hush"), driver.Settings{})
			outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon())
			if tc.reason == "" {
				drivertest.WantDelivered(t, outs)
			} else if o := outs[0]; o.Verdict != driver.Retry || !o.Unreachable || !strings.Contains(o.Reason, tc.reason) || outs[1].Verdict != driver.Untried {
				t.Errorf("%+v", outs)
			}
		})
	}
}
