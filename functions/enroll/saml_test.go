package enroll_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/providers"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// oneProvider is what an organization has.
type oneProvider struct{ identity.Provider }

func (p oneProvider) Providers(context.Context, tenant.OrgID) ([]identity.Provider, error) {
	return []identity.Provider{p.Provider}, nil
}

// samlWorld is a world in which a SAML provider vouches. It is really asked.
func samlWorld(t *testing.T, config map[string]any) (w *world, respond func(a samltest.Answer) string) {
	t.Helper()
	idp, err := samltest.New("https://idp.example")
	if err != nil {
		t.Fatal(err)
	}
	config["metadata_xml"] = idp.Metadata()
	in, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	w, _ = vouched(t, "sqlite:"+t.TempDir()+"/store.db", func(d *enroll.Deps) {
		settings := identity.Settings{PublicURL: &url.URL{Scheme: "https", Host: "gateway.example"}, Now: d.Now}
		made, err := saml.Parse(in, nil, settings)
		if err != nil {
			t.Fatal(err)
		}
		public, _ := json.Marshal(made.Public)
		secrets, _ := json.Marshal(made.Secrets)
		all := providers.New(providers.Deps{
			Store: oneProvider{identity.Provider{
				Key: identity.Key{Org: key.Org, ID: "idp"}, Kind: identity.SAML, Issuer: made.Issuer, Enabled: true, Config: public, Sealed: secrets, Version: 1,
			}},
			Unseal:   func(_ context.Context, p identity.Provider) ([]byte, error) { return p.Sealed, nil },
			Settings: settings,
		})
		t.Cleanup(func() { _ = all.Close() })
		d.Identities = all
	})
	base := "https://gateway.example/orgs/" + string(key.Org) + "/identity-providers/idp/saml"
	return w, func(a samltest.Answer) string {
		a.To, a.Audience, a.Now, a.Subject = base+"/acs", base+"/metadata", w.time(), "ann"
		response, err := idp.Respond(a)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(response)
	}
}

// TestSAML: a response lets in who shows it with the challenge that it was asked for
// with, once.
func TestSAML(t *testing.T) {
	w, respond := samlWorld(t, map[string]any{})
	show := func(n node, challenge, response string) map[string]any {
		return map[string]any{
			"identity": map[string]any{"saml": response}, "challenge": challenge,
			"public_key": hex.EncodeToString(n.public()), "node_id": n.id, "proof": n.answers(challenge, w.time()),
		}
	}
	first, second := w.challenge(), w.challenge()
	response := respond(samltest.Answer{InResponseTo: saml.RequestID(first)})
	thief := newNode("thief", 9)
	if got := w.enroll(show(thief, second, response)); got.Code != 401 || strings.Contains(got.Body.String(), "another") {
		t.Errorf("with another challenge: %d %s", got.Code, got.Body)
	}
	if got := w.enroll(show(newNode("alpha-1", 1), first, response)); got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	if got := w.enroll(show(thief, first, response)); got.Code < 400 {
		t.Errorf("a second time: %d %s", got.Code, got.Body)
	}
	third := w.challenge()
	if got := w.enroll(show(thief, third, respond(samltest.Answer{}))); got.Code != 401 {
		t.Errorf("unasked: %d %s", got.Code, got.Body)
	}
}

// TestUnsolicitedSAML: where a provider may send responses by itself, one is good with
// any challenge, and still once.
func TestUnsolicitedSAML(t *testing.T) {
	w, respond := samlWorld(t, map[string]any{"allow_unsolicited": true})
	response := respond(samltest.Answer{})
	var codes []int
	for i, id := range []string{"alpha-1", "alpha-2"} {
		n := newNode(id, byte(i+1))
		codes = append(codes, w.enroll(w.claim(n, "", map[string]any{"identity": map[string]any{"saml": response}})).Code)
		w.later(time.Second)
	}
	if codes[0] != 201 || codes[1] < 400 {
		t.Errorf("%d", codes)
	}
}

// TestSAMLAtARenewal: where the provider must vouch again, it is asked for the
// certificate that is renewed.
func TestSAMLAtARenewal(t *testing.T) {
	w, respond := samlWorld(t, map[string]any{})
	if err := w.store.InTx(t.Context(), func(tx *store.Tx) error {
		return tx.CreateProvider(t.Context(), identity.Provider{
			Key: identity.Key{Org: key.Org, ID: "idp"}, Kind: identity.SAML, Issuer: "https://idp.example", Enabled: true, Config: []byte(`{}`),
			Version: 1, CreatedAt: store.Precise(w.time()), UpdatedAt: store.Precise(w.time()),
		})
	}); err != nil {
		t.Fatal(err)
	}
	n, challenge := newNode("alpha-1", 1), w.challenge()
	got := w.enroll(map[string]any{
		"identity": map[string]any{"saml": respond(samltest.Answer{InResponseTo: saml.RequestID(challenge)})}, "challenge": challenge,
		"public_key": hex.EncodeToString(n.public()), "node_id": n.id, "proof": n.answers(challenge, w.time()),
	})
	if got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	c := parse[certificate](t, got.Body.Bytes())
	w.later(c.RenewAfter.Sub(w.time()))
	for _, step := range []struct {
		asked  string
		status int
	}{{challenge, 401}, {strings.Repeat("0", 64), 401}, {c.Serial, 201}} {
		got := w.call("POST", base+"/certificates/"+c.Serial+"/renew", map[string]any{
			"proof":    n.proves(authority.ForRenewal, c.Serial, w.time()),
			"identity": map[string]any{"saml": respond(samltest.Answer{InResponseTo: saml.RequestID(step.asked)})},
		}, "Authorization", "")
		if got.Code != step.status {
			t.Errorf("asked for %s: %d, want %d: %s", step.asked, got.Code, step.status, got.Body)
		}
	}
}
