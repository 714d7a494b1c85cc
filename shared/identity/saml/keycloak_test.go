package saml_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// TestKeycloak: metadata goes both ways by itself, and what a real provider says is
// taken, whichever way it signs and encrypts, and whoever begins.
func TestKeycloak(t *testing.T) {
	k := testenv.Keycloak(t)
	now := func() time.Time { return time.Now().UTC() }
	s := settings()
	s.Now, s.AllowPrivate = now, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	config := jsonOf(map[string]any{
		"entity_id": k.Entity(), "metadata_url": k.Entity() + "/protocol/saml/descriptor",
		"tls":               map[string]any{"ca_pem": string(k.Authority.PEM)},
		"allow_unsolicited": true, "attributes": map[string]any{"groups": []string{"groups"}, "roles": []string{"roles"}},
	})
	made, err := saml.Parse(config, jsonOf(ours().Secrets), s)
	if err != nil {
		t.Fatal(err)
	}
	o := identity.Opening{
		Provider: identity.Provider{Key: identity.Key{Org: "alpha", ID: "01J"}, Kind: identity.SAML, Issuer: made.Issuer, Config: jsonOf(made.Public)},
		Secrets:  jsonOf(made.Secrets), Settings: s,
	}
	v, err := saml.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	if report, err := v.Check(t.Context()); err != nil || !report.OK {
		t.Errorf("%+v, %v", report, err)
	}
	ourMetadata, err := saml.OwnMetadata(o)
	if err != nil {
		t.Fatal(err)
	}
	k.AddServiceProvider(t, string(ourMetadata), "peat")
	// The machine may be slow; by itself Keycloak gives a minute.
	const clientID = audience
	k.SetClient(t, clientID, map[string]any{"attributes": map[string]string{"saml.assertion.lifespan": "1800"}})

	verify := func(t *testing.T, response []byte, challenge string) (identity.Claims, error) {
		t.Helper()
		return v.Verify(t.Context(), identity.Proof{SAML: response, Expect: saml.ExpectFor(response, challenge)}, now())
	}
	good := func(t *testing.T, response []byte, challenge string) identity.Claims {
		t.Helper()
		claims, err := verify(t, response, challenge)
		if err != nil {
			t.Fatalf("%v\n%s", err, response)
		}
		if claims.Issuer != k.Entity() || claims.Subject != "carol" || !slices.Contains(claims.Groups, "peat-viewer") || claims.ID == "" || claims.Session == "" {
			t.Errorf("%+v", claims)
		}
		return claims
	}
	unsolicited := func(t *testing.T, user string) []byte {
		t.Helper()
		text, to := k.Browser(t).Assertion(t, "peat", user)
		if to != acs {
			t.Errorf("it is sent to %s", to)
		}
		out, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	answered := func(t *testing.T, challenge string) []byte {
		t.Helper()
		to, err := v.SignIn(t.Context(), saml.RequestID(challenge), "", now())
		if err != nil {
			t.Fatal(err)
		}
		page := k.Browser(t).SignIn(t, to, "carol")
		if page.Status != http.StatusOK {
			t.Fatalf("%d\n%s", page.Status, page.Body)
		}
		_, form := page.Form(t)
		out, err := saml.Decode([]byte(form.Get("SAMLResponse")))
		if err != nil {
			t.Fatalf("%v\n%s", err, page.Body)
		}
		return out
	}

	t.Run("encrypted, as our metadata has it", func(t *testing.T) {
		response := unsolicited(t, "carol")
		if !strings.Contains(string(response), "EncryptedAssertion") {
			t.Errorf("it is not encrypted:\n%s", response)
		}
		good(t, response, "")
		if _, err := verify(t, slices.Concat(response[:len(response)-len("</samlp:Response>")], []byte("<x/></samlp:Response>")), ""); !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("changed, and taken: %v", err)
		}
	})
	t.Run("an answer to a challenge", func(t *testing.T) {
		response := answered(t, "peat_chl_1")
		good(t, response, "peat_chl_1")
		if _, err := verify(t, response, "peat_chl_2"); !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("good for another challenge: %v", err)
		}
	})
	for name, c := range map[string]struct {
		attributes map[string]string
		ok         bool
	}{
		"only the assertion signed":               {map[string]string{"saml.encrypt": "false", "saml.server.signature": "false", "saml.assertion.signature": "true", "saml.signature.algorithm": "RSA_SHA256"}, true},
		"both signed":                             {map[string]string{"saml.encrypt": "false", "saml.server.signature": "true", "saml.assertion.signature": "true", "saml.signature.algorithm": "RSA_SHA256"}, true},
		"only the document signed, as by default": {map[string]string{"saml.encrypt": "false", "saml.server.signature": "true", "saml.assertion.signature": "false", "saml.signature.algorithm": "RSA_SHA256"}, false},
		"with SHA-512":                            {map[string]string{"saml.encrypt": "false", "saml.assertion.signature": "true", "saml.signature.algorithm": "RSA_SHA512"}, true},
		"with SHA-1":                              {map[string]string{"saml.encrypt": "false", "saml.assertion.signature": "true", "saml.signature.algorithm": "RSA_SHA1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			k.SetClient(t, clientID, map[string]any{"attributes": c.attributes})
			response := unsolicited(t, "carol")
			if c.ok {
				good(t, response, "")
			} else if _, err := verify(t, response, ""); !errors.Is(err, fault.Unauthenticated) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("its keys are replaced", func(t *testing.T) {
		k.SetClient(t, clientID, map[string]any{"attributes": map[string]string{"saml.encrypt": "false", "saml.assertion.signature": "true", "saml.signature.algorithm": "RSA_SHA256"}})
		good(t, unsolicited(t, "carol"), "")
		k.RotateKeys(t, false)
		response := unsolicited(t, "carol")
		// The metadata is not asked for more than once in half a minute.
		later := now().Add(35 * time.Second)
		if _, err := v.Verify(t.Context(), identity.Proof{SAML: response}, later); err != nil {
			t.Errorf("%v\n%s", err, response)
		}
	})
}
