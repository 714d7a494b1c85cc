package gateway_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// everything is what the gateway said, each thing under the name of where.
type everything map[string][]byte

// TestSecretsAreNowhere plants every secret there is, uses each well and badly, and
// then looks for them in all that the gateway has written, answered, logged and sent.
func TestSecretsAreNowhere(t *testing.T) {
	dir := t.TempDir()
	kek, hashed, admin := strings.Repeat("c0ffee42", 8), strings.Repeat("badcab1e", 8), "planted-admin-token-0123456789"
	var logs locked
	g := startAll(t, &logs, map[string]string{
		"PEAT_DATABASE_URL": "sqlite:" + filepath.Join(dir, "x.db"), "PEAT_KEK_FILE": "", "PEAT_KEK": kek,
		"PEAT_TOKEN_KEY_FILE": "", "PEAT_TOKEN_KEY": hashed, "PEAT_ADMIN_TOKEN": admin, "PEAT_LOG_LEVEL": "debug", "PEAT_IDENTITY_ALLOW": "127.0.0.0/8",
	})
	said := everything{}
	answer := func(name string, got *httptest.ResponseRecorder) {
		said["answer: "+name] = append(got.Body.Bytes(), fmt.Sprint(got.Header())...)
	}
	// made is a secret that an answer shows, which is the one that may.
	made := func(path, body, field string) string {
		t.Helper()
		got := g.call(admin, "POST", path, body)
		var out map[string]any
		if err := json.Unmarshal(got.Body.Bytes(), &out); err != nil || got.Code != 201 {
			t.Fatalf("%s: %d %s", path, got.Code, got.Body)
		}
		secret, ok := out[field].(string)
		if !ok || len(secret) < 20 {
			t.Fatalf("%s: no %s in %s", path, field, got.Body)
		}
		return secret
	}
	const formation = "/orgs/acme/formations/logistics"
	secrets := map[string]string{
		"the key of keys":      kek,
		"the key of hashes":    hashed,
		"the admin's token":    admin,
		"a service token":      made("/orgs/acme/tokens", `{"label":"a","role":"org-admin"}`, "token"),
		"an enrollment token":  made(formation+"/enrollment/tokens", `{"label":"a","max_uses":2}`, "token"),
		"a sync ticket":        made(formation+"/sync-tickets", ``, "ticket"),
		"a sink's secret":      made("/orgs/acme/cdc/sinks", `{"kind":"webhook","formations":["*"],"config":{"url":"https://example.org/in"}}`, "secret"),
		"a sink's own header":  "planted-header-0123456789",
		"a client's secret":    "planted-client-secret-0123456789",
		"another one":          "planted-new-client-secret-0123456789",
		"a token of nobody":    mustToken(t, "peat_svc_"),
		"a mistyped one":       "peat_svc_planted0123456789planted0123456789",
		"a ticket of nobody":   "peat_sync_planted-0123456789-planted",
		"an enrollment's lost": mustToken(t, "peat_enr_"),
	}
	withHeader := g.call(admin, "POST", "/orgs/acme/cdc/sinks",
		`{"kind":"webhook","formations":["*"],"config":{"url":"https://example.org/other","headers":{"X-Key":"`+secrets["a sink's own header"]+`"}}}`)
	if withHeader.Code != 201 {
		t.Fatal(withHeader.Body)
	}
	answer("a sink with a header", withHeader)

	// And so is what the gateway shows to an identity provider.
	var vouching struct {
		ID string `json:"provider_id"`
	}
	with := func(secret string) string {
		return `{"kind":"introspection","label":"a","config":{"introspection_url":"http://127.0.0.1:1/x","client_id":"a","any_audience":true,"client_secret":"` + secret + `"}}`
	}
	idp := g.call(admin, "POST", "/orgs/acme/identity-providers", with(secrets["a client's secret"]))
	if err := json.Unmarshal(idp.Body.Bytes(), &vouching); err != nil || idp.Code != 201 {
		t.Fatalf("%v %s", err, idp.Body)
	}
	answer("an identity provider", idp)
	const idps = "/orgs/acme/identity-providers"
	for path, body := range map[string]string{
		idps + "/" + vouching.ID + "/rotate-secret": `{"client_secret":"` + secrets["another one"] + `"}`,
		idps + "/" + vouching.ID + "/check":         "",
		idps:                                        with(secrets["another one"]) + "}", // cannot be read
	} {
		answer("POST "+path, g.call(admin, "POST", path, body))
	}
	answer("an identity provider, refused", g.call(admin, "POST", idps, with(secrets["a client's secret"]))) // its issuer is taken
	answer("identity providers", g.call(admin, "GET", idps, ""))

	// One that is asked for twice is answered twice, and so remembered for a while.
	again := func() string {
		r := httptest.NewRequest("POST", "/orgs/acme/tokens", strings.NewReader(`{"label":"twice","role":"viewer"}`))
		for name, value := range map[string]string{"Authorization": "Bearer " + admin, "Content-Type": "application/json", "Idempotency-Key": "planted-key-0123456789"} {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		g.serving.ServeHTTP(w, r)
		var out struct{ Token string }
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 201 || out.Token == "" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return out.Token
	}
	secrets["a token that was asked for twice"] = again()
	if second := again(); second != secrets["a token that was asked for twice"] {
		t.Error("asked for twice, a token was made twice")
	}

	// Each is shown where it belongs and where it does not.
	for name, secret := range secrets {
		for _, path := range []string{"/orgs", "/orgs/acme", "/orgs/acme/tokens", formation, formation + "/enrollment/tokens", formation + "/cdc/sinks", "/nowhere"} {
			answer(name+" as a bearer at "+path, g.call(secret, "GET", path, ""))
		}
		query := url.Values{"ticket": {secret}, "token": {secret}, "cursor": {secret}}.Encode()
		answer(name+" in a query", g.call(admin, "GET", "/orgs/acme/tokens?"+query, ""))
		answer(name+" in a query of a session", g.call("", "GET", formation+"/sync?"+query, ""))
		if name == "the admin's token" || !strings.HasPrefix(secret, "peat_") && name != "a sink's own header" {
			continue
		}
		g.useToken(t, secret)
	}
	// What is asked of them, and their ends.
	var list struct{ Items []map[string]any }
	for _, path := range []string{"/orgs/acme/tokens", formation + "/enrollment/tokens"} {
		got := g.call(admin, "GET", path, "")
		if err := json.Unmarshal(got.Body.Bytes(), &list); err != nil || len(list.Items) == 0 {
			t.Fatalf("%v %s", err, got.Body)
		}
		answer("get "+path, g.call(admin, "GET", fmt.Sprint(path, "/", list.Items[0]["token_id"]), ""))
		answer("revoke "+path, g.call(admin, "POST", fmt.Sprint(path, "/", list.Items[0]["token_id"], "/revoke"), ""))
	}
	answer("metrics", g.call("", "GET", "/metrics", ""))

	g.stop() // all is written
	said["the log"] = logs.bytes()
	for name, b := range tables(t, filepath.Join(dir, "x.db")) {
		said[name] = b
	}
	if len(said["the log"]) == 0 || len(said["table service_tokens"]) == 0 || len(said["table audit"]) == 0 || len(said["table outbox"])+len(said["table sinks"]) == 0 {
		t.Fatal("nothing was looked at")
	}
	for where, b := range said {
		for name, secret := range secrets {
			for _, form := range forms(secret) {
				if bytes.Contains(b, []byte(form)) {
					t.Errorf("%s is in %s:\n%s", name, where, around(b, form))
				}
			}
		}
	}
}

// forms are the ways in which a secret may have been written: as it is, without its
// kind, in hexadecimal and back, in base 64, and in an address.
func forms(secret string) []string {
	out := []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)), url.QueryEscape(secret)}
	if i := strings.LastIndex(secret, "_"); i > 0 && len(secret)-i > 20 {
		out = append(out, secret[i+1:])
	}
	if b, err := hex.DecodeString(secret); err == nil {
		out = append(out, string(b))
	}
	return out
}

func around(b []byte, form string) string {
	i := bytes.Index(b, []byte(form))
	return fmt.Sprintf("%q", b[max(0, i-80):min(len(b), i+len(form)+40)])
}

func mustToken(t *testing.T, kind token.Kind) string {
	t.Helper()
	secret, err := kind.New(zeros{})
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return len(b), nil
}

// locked is a log that several write to.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *locked) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}

// tables is all that a SQLite database holds, the log that is not merged yet included.
func tables(t *testing.T, path string) everything {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	names, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for names.Next() {
		var name string
		if err := names.Scan(&name); err != nil {
			t.Fatal(err)
		}
		list = append(list, name)
	}
	if err := names.Err(); err != nil {
		t.Fatal(err)
	}
	out := everything{}
	for _, name := range list {
		rows, err := db.Query(`SELECT * FROM "` + name + `"`)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(sql.RawBytes)
			}
			if err := rows.Scan(values...); err != nil {
				t.Fatal(err)
			}
			for i, v := range values {
				out["table "+name] = fmt.Appendf(out["table "+name], "%s=%s\n", columns[i], *v.(*sql.RawBytes))
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, suffix := range []string{"", "-wal"} {
		if b, err := os.ReadFile(path + suffix); err == nil {
			out["the file x.db"+suffix] = b
		}
	}
	return out
}

// useToken uses a text as an enrollment token, as an enrollment does.
func (g *gatewayUnderTest) useToken(t *testing.T, text string) {
	t.Helper()
	st, err := g.host.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := g.host.TokenKey()
	if err != nil {
		t.Fatal(err)
	}
	err = st.InTx(context.Background(), func(tx *store.Tx) error {
		_, err := tx.UseEnrollmentToken(context.Background(), tenant.Key{Org: "acme", App: "logistics"}, key.Hashes(text), time.Now())
		return err
	})
	if enrollment.TokenKind.Check(text) != nil && err == nil {
		t.Errorf("%q was taken for an enrollment token", text)
	}
	if err != nil && strings.Contains(err.Error(), text) {
		t.Errorf("the token is in %v", err)
	}
}
