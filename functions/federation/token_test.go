package federation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/federation"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const tokens = "/orgs/acme/formations/logistics/enrollment/tokens"

var anyToken = regexp.MustCompile("(peat_(?:enr|svc)_)[0-9A-Za-z]{49}")

var logistics = tenant.Key{Org: "acme", App: "logistics"}

// use uses an enrollment token as an enrollment does.
func (w *tokenWorld) use(text string) error {
	return w.store.InTx(context.Background(), func(tx *store.Tx) error {
		_, err := tx.UseEnrollmentToken(context.Background(), logistics, w.key.Hashes(text), w.now)
		return err
	})
}

// TestContractOfTokens shows every answer that a client written today relies on.
func TestContractOfTokens(t *testing.T) {
	w := newTokenWorld(t)
	first := w.make(tokens, `{"label":"first"}`)
	service := w.make("/orgs/acme/tokens", `{"label":"first","role":"viewer"}`)
	if err := w.use(first.Token); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"token_created", "POST", tokens, `{"label":"trucks","max_uses":10,"expires_at":"2026-03-10T00:00:00Z","tier":"tactical","permissions":["relay"]}`, 201},
		{"token_created_strong", "POST", tokens, `{"label":"root","tier":"enterprise","permissions":["admin","enroll"]}`, 201},
		{"token_used_up", "GET", tokens + "/" + first.ID, "", 200},
		{"token_list_page", "GET", tokens + "?limit=1", "", 200},
		{"token_list_empty", "GET", "/orgs/acme/formations/medevac/enrollment/tokens", "", 200},
		{"token_revoked", "POST", tokens + "/" + first.ID + "/revoke", `{"reason":"the list went public","certificates":true}`, 200},
		{"token_deleted", "DELETE", tokens + "/" + first.ID, "", 204},
		{"token_gone", "GET", tokens + "/" + first.ID, "", 404},
		{"service_created", "POST", "/orgs/acme/tokens", `{"label":"exporter","role":"org-admin","formations":["medevac","logistics"],"scopes":["sinks:write","documents:read"],"expires_at":"2026-12-01T00:00:00+01:00"}`, 201},
		{"service", "GET", "/orgs/acme/tokens/" + service.ID, "", 200},
		{"service_list_page", "GET", "/orgs/acme/tokens?limit=1", "", 200},
		{"service_list_empty", "GET", "/orgs/rival/tokens", "", 200},
		{"service_revoked", "POST", "/orgs/acme/tokens/" + service.ID + "/revoke", "", 200},
	} {
		body := w.do(step.method, step.path, step.body, step.status)
		if step.status == http.StatusNoContent {
			continue
		}
		// Not even these are left lying about: a scanner would find them.
		body = anyToken.ReplaceAll(body, []byte("${1}(49 characters)"))
		goldentest.Check(t, "testdata/"+step.name+".json", goldentest.JSON(t, body))
	}
}

func TestWhatIsRefused(t *testing.T) {
	const service = "/orgs/acme/tokens"
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"no label":                   {"POST", tokens, `{}`, 422, "/label"},
		"a label of two lines":       {"POST", tokens, `{"label":"a\nb"}`, 422, "/label"},
		"a label too long":           {"POST", tokens, `{"label":"` + strings.Repeat("a", 129) + `"}`, 422, "/label"},
		"no uses":                    {"POST", tokens, `{"label":"a","max_uses":0}`, 422, "/max_uses"},
		"uses below zero":            {"POST", tokens, `{"label":"a","max_uses":-1}`, 422, "/max_uses"},
		"uses beyond all":            {"POST", tokens, `{"label":"a","max_uses":10001}`, 422, "/max_uses"},
		"uses as text":               {"POST", tokens, `{"label":"a","max_uses":"1"}`, 422, "/max_uses"},
		"expired already":            {"POST", tokens, `{"label":"a","expires_at":"2026-03-04T05:06:07Z"}`, 422, "/expires_at"},
		"far away":                   {"POST", tokens, `{"label":"a","expires_at":"2026-09-04T05:06:07Z"}`, 422, "/expires_at"},
		"a time that is none":        {"POST", tokens, `{"label":"a","expires_at":"tomorrow"}`, 422, ""},
		"a tier nobody knows":        {"POST", tokens, `{"label":"a","tier":"Endpoint"}`, 422, "/tier"},
		"a permission nobody knows":  {"POST", tokens, `{"label":"a","permissions":["relay","root"]}`, 422, "/permissions/1"},
		"admin, many times":          {"POST", tokens, `{"label":"a","max_uses":2,"permissions":["admin"]}`, 422, "/permissions"},
		"a token given by hand":      {"POST", tokens, `{"label":"a","token":"peat_enr_x"}`, 422, "/token"},
		"all that is wrong at once":  {"POST", tokens, `{"label":"","max_uses":0,"tier":"x"}`, 422, "/tier"},
		"not JSON":                   {"POST", tokens, `{`, 400, ""},
		"formation of nobody":        {"POST", "/orgs/acme/formations/nowhere/enrollment/tokens", `{"label":"a"}`, 404, ""},
		"organization of nobody":     {"POST", "/orgs/nowhere/formations/logistics/enrollment/tokens", `{"label":"a"}`, 404, ""},
		"a list of nobody":           {"GET", "/orgs/acme/formations/nowhere/enrollment/tokens", "", 404, ""},
		"an id that cannot be":       {"GET", tokens + "/x", "", 404, ""},
		"an id that is not there":    {"GET", tokens + "/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", 404, ""},
		"revoking nothing":           {"POST", tokens + "/01ARZ3NDEKTSV4RRFFQ69G5FAV/revoke", "", 404, ""},
		"deleting nothing":           {"DELETE", tokens + "/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", 404, ""},
		"a reason of two lines":      {"POST", tokens + "/01ARZ3NDEKTSV4RRFFQ69G5FAV/revoke", `{"reason":"a\nb"}`, 422, "/reason"},
		"a made-up cursor":           {"GET", tokens + "?cursor=x", "", 400, "cursor"},
		"service, no role":           {"POST", service, `{"label":"a"}`, 422, "/role"},
		"service, all the gateway":   {"POST", service, `{"label":"a","role":"gateway-admin"}`, 422, "/role"},
		"service, anyone":            {"POST", service, `{"label":"a","role":"anyone"}`, 422, "/role"},
		"service, no formation":      {"POST", service, `{"label":"a","role":"viewer","formations":[]}`, 422, "/formations"},
		"service, all and one":       {"POST", service, `{"label":"a","role":"viewer","formations":["*","logistics"]}`, 422, "/formations"},
		"service, no such formation": {"POST", service, `{"label":"a","role":"viewer","formations":["logistics","nowhere"]}`, 422, "/formations/1"},
		"service, not a formation":   {"POST", service, `{"label":"a","role":"viewer","formations":["a/b"]}`, 422, "/formations/0"},
		"service, no scope":          {"POST", service, `{"label":"a","role":"viewer","scopes":[]}`, 422, "/scopes"},
		"service, unknown scope":     {"POST", service, `{"label":"a","role":"viewer","scopes":["tokens:write"]}`, 422, "/scopes/0"},
		"service, viewer who writes": {"POST", service, `{"label":"a","role":"viewer","scopes":["sinks:write"]}`, 422, "/scopes/0"},
		"service, forever":           {"POST", service, `{"label":"a","role":"viewer","expires_at":"2036-03-04T05:06:07Z"}`, 422, "/expires_at"},
		"service, of nobody":         {"POST", "/orgs/nowhere/tokens", `{"label":"a","role":"viewer"}`, 404, ""},
		"service, list of nobody":    {"GET", "/orgs/nowhere/tokens", "", 404, ""},
		"service, not there":         {"POST", service + "/01ARZ3NDEKTSV4RRFFQ69G5FAV/revoke", "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTokenWorld(t)
			got := w.as(adminToken, tc.method, tc.path, tc.body)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Errorf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
			if did, _ := w.actions(); len(did) != 0 {
				t.Errorf("the trail tells of %v", did)
			}
		})
	}
}

func TestATokenIsShownOnceAndKeptNowhere(t *testing.T) {
	w := newTokenWorld(t)
	for path, body := range map[string]string{tokens: `{"label":"a"}`, "/orgs/acme/tokens": `{"label":"a","role":"viewer"}`} {
		m := w.make(path, body)
		_, trail := w.actions()
		said := string(w.do("GET", path, "", 200)) + string(w.do("GET", path+"/"+m.ID, "", 200)) + string(w.do("POST", path+"/"+m.ID+"/revoke", "", 200)) + trail
		chance := m.Token[len("peat_xxx_"):]
		if strings.Contains(said, chance[:20]) || strings.Contains(said, fmt.Sprintf("%x", w.key.Hash(m.Token))) {
			t.Errorf("the token or its hash is in %s", said)
		}
		if strings.Contains(m.Token, "acme") || strings.Contains(m.Token, m.ID) {
			t.Errorf("%s tells whose it is", m.Token)
		}
	}
}

func TestEveryActIsAudited(t *testing.T) {
	w := newTokenWorld(t)
	e := w.make(tokens, `{"label":"a"}`)
	w.now = w.now.Add(time.Second) // the trail is in the order of time
	w.do("POST", tokens+"/"+e.ID+"/revoke", `{"reason":"lost"}`, 200)
	w.now = w.now.Add(time.Second)
	w.do("DELETE", tokens+"/"+e.ID, "", 204)
	w.now = w.now.Add(time.Second)
	s := w.make("/orgs/acme/tokens", `{"label":"a","role":"org-admin"}`)
	w.now = w.now.Add(time.Second)
	if got := w.as(s.Token, "POST", "/orgs/acme/tokens/"+s.ID+"/revoke", ""); got.Code != 200 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	did, details := w.actions()
	want := []string{"enrollment_token.create logistics/" + e.ID, "enrollment_token.revoke logistics/" + e.ID, "enrollment_token.delete logistics/" + e.ID,
		"service_token.create " + s.ID, "service_token.revoke " + s.ID}
	if diff := cmp.Diff(want, did); diff != "" {
		t.Error(diff)
	}
	for _, part := range []string{`"Actor":"service-token:` + s.ID + `"`, `"reason":"lost"`, `"label":"a"`} {
		if !strings.Contains(details, part) {
			t.Errorf("%s is not in %s", part, details)
		}
	}
}

func TestRevokingATokenTakesBackWhatItGave(t *testing.T) {
	w := newTokenWorld(t)
	m := w.make(tokens, `{"label":"a"}`)
	rule := enrollment.Token{ID: m.ID}.Rule()
	w.inTx(func(tx *store.Tx) error {
		if _, err := tx.LockLedger(context.Background(), logistics); err != nil {
			return err
		}
		for i, by := range []string{rule, rule, "token:another"} {
			if err := tx.AddCertificate(context.Background(), authority.Certificate{Key: logistics, Number: uint64(i + 1), Serial: fmt.Sprint(i),
				Subject: bytes.Repeat([]byte{byte(i)}, 32), NodeID: fmt.Sprint(i), Encoded: []byte{1}, IssuedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
				Authority: "genesis", AdmittedBy: by}); err != nil {
				return err
			}
		}
		return nil
	})
	good := func() (n int) {
		for i := range 3 {
			c, err := w.store.Certificate(t.Context(), logistics, fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			if c.Standing(w.now) == authority.Good {
				n++
			}
		}
		return n
	}
	w.do("POST", tokens+"/"+m.ID+"/revoke", `{"reason":"lost"}`, 200)
	if n := good(); n != 3 {
		t.Errorf("%d certificates are left where none was to be revoked", n)
	}
	var out struct {
		N *int `json:"certificates_revoked"`
	}
	if err := json.Unmarshal(w.do("POST", tokens+"/"+m.ID+"/revoke", `{"certificates":true}`, 200), &out); err != nil || out.N == nil || *out.N != 2 {
		t.Errorf("%v %v", out.N, err)
	}
	if n := good(); n != 1 {
		t.Errorf("%d certificates are left", n)
	}
}

func TestTheLastTokenIsMadeOnce(t *testing.T) {
	w := newTokenWorld(t)
	w.org("small", 3)
	w.formation("small", "logistics")
	var made, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 12 {
		path, body := "/orgs/small/tokens", `{"label":"a","role":"viewer"}`
		if i%2 == 0 {
			path, body = "/orgs/small/formations/logistics/enrollment/tokens", `{"label":"a"}`
		}
		all.Go(func() {
			switch got := w.as(adminToken, "POST", path, body); {
			case got.Code == 201:
				made.Add(1)
			case got.Code == 429 && strings.Contains(got.Body.String(), "max_tokens") && got.Header().Get("Retry-After") != "":
				refused.Add(1)
			default:
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
	all.Wait()
	if made.Load() != 3 || refused.Load() != 9 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
	// What cannot be used takes no place.
	w.now = w.now.Add(100 * 24 * time.Hour)
	w.do("POST", "/orgs/small/tokens", `{"label":"a","role":"viewer"}`, 201)
}

func TestNothingIsMadeWithoutChance(t *testing.T) {
	w := newTokenWorld(t, func(d *federation.Deps) { d.Random = iotest.ErrReader(errors.New("no more")) })
	w.do("POST", tokens, `{"label":"a"}`, 500)
	w.do("POST", "/orgs/acme/tokens", `{"label":"a","role":"viewer"}`, 500)
	if n, err := w.store.CountTokens(t.Context(), "acme", w.now); n != 0 || err != nil {
		t.Errorf("%d tokens, %v", n, err)
	}
}

func TestEnrollmentTokensWork(t *testing.T) {
	w := newTokenWorld(t)
	m := w.make(tokens, `{"label":"a","max_uses":2}`)
	for range 2 {
		if err := w.use(m.Token); err != nil {
			t.Error(err)
		}
	}
	if err := w.use(m.Token); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a third time: %v", err)
	}
}
