package identitytest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// knows tells whether a request is made by the client that may introspect, in either
// of the ways of RFC 6749, 2.3.1.
func (i *Issuer) knows(r *http.Request) bool {
	id, secret, basic := r.BasicAuth()
	if !basic {
		return r.PostForm.Get("client_id") == ClientID && r.PostForm.Get("client_secret") == ClientSecret
	}
	id, idErr := url.QueryUnescape(id)
	secret, secretErr := url.QueryUnescape(secret)
	return idErr == nil && secretErr == nil && id == ClientID && secret == ClientSecret && r.PostForm.Get("client_secret") == ""
}

// ClaimAttacks are claims that no verifier of the issuer's tokens takes, whoever says
// that they are good. The verifier must be one for Audience and for the party
// device-client.
func (i *Issuer) ClaimAttacks() map[string]map[string]any {
	now := i.Now()
	return map[string]map[string]any{
		"another issuer":                      {"iss": "https://evil.example"},
		"an issuer with something after it":   {"iss": i.URL + "/"},
		"another audience":                    {"aud": "https://other.example"},
		"no audience":                         {"aud": nil},
		"an audience that only begins alike":  {"aud": Audience + ".evil.example"},
		"an audience in another case":         {"aud": strings.ToUpper(Audience)},
		"an audience that is a number":        {"aud": 7},
		"an audience list with null":          {"aud": []any{nil, Audience}},
		"given to another party":              {"azp": "phone-app"},
		"given to nobody known":               {"azp": nil},
		"another party, named differently":    {"azp": nil, "client_id": "phone-app"},
		"expired":                             {"exp": now.Add(-time.Hour).Unix()},
		"expired beyond the skew":             {"exp": now.Add(-30 * time.Second).Unix()},
		"an end that is a text":               {"exp": "tomorrow"},
		"an end beyond all time":              {"exp": 1e300},
		"an end before all time":              {"exp": -1},
		"not valid yet":                       {"nbf": now.Add(time.Minute).Unix()},
		"issued in the future":                {"iat": now.Add(time.Minute).Unix()},
		"no subject":                          {"sub": nil},
		"an empty subject":                    {"sub": ""},
		"a subject that is a list":            {"sub": []string{"device-7"}},
		"a subject with control characters":   {"sub": "device-7\x00admin"},
		"a subject without end":               {"sub": strings.Repeat("x", 600)},
		"a log-out token":                     {"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}},
		"bound to a key that is not shown":    {"cnf": map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
		"groups that are elsewhere":           {"groups": nil, "_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://evil.example"}}},
		"groups that are no texts":            {"groups": []any{1, 2}},
		"a group that is null":                {"groups": []any{"/ops", nil}},
		"a subject that nobody has":           {"sub": nil, "SUB": "admin"},
		"an issuer that is only read loosely": {"iss": nil, "ISS": i.URL},
	}
}

// TokenAttacks are tokens that no verifier of the issuer's takes, by the signature.
func (i *Issuer) TokenAttacks(t testing.TB) map[string]identity.Proof {
	t.Helper()
	own, stranger := i.Key(), NewKey(t, i.Key().ID, "RS256")
	claims := i.Claims(nil)
	header := func(changes map[string]any) map[string]any {
		out := map[string]any{"alg": own.Algorithm, "kid": own.ID, "typ": "JWT"}
		maps.Copy(out, changes)
		maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
		return out
	}
	der, err := x509.MarshalPKIXPublicKey(own.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := own.Token(claims)
	parts := strings.Split(good, ".")
	other := strings.Split(own.Token(i.Claims(map[string]any{"sub": "admin"})), ".")
	edge := NewKey(t, "edge", "ES256")

	tokens := map[string]string{
		"alg none":                         Compact(header(map[string]any{"alg": "none"}), claims, unsigned),
		"alg None":                         Compact(header(map[string]any{"alg": "None"}), claims, unsigned),
		"alg none, with a signature":       Compact(header(map[string]any{"alg": "none"}), claims, own.Sign),
		"no alg":                           Compact(header(map[string]any{"alg": nil}), claims, own.Sign),
		"no signature":                     parts[0] + "." + parts[1] + ".",
		"HS256 with the public key as PEM": Compact(header(map[string]any{"alg": "HS256"}), claims, withHMAC(public)),
		"HS256 with the public key as PEM, trimmed": Compact(header(map[string]any{"alg": "HS256"}), claims, withHMAC(bytes.TrimSpace(public))),
		"HS256 with the public key as DER":          Compact(header(map[string]any{"alg": "HS256"}), claims, withHMAC(der)),
		"HS256 with the key's name":                 Compact(header(map[string]any{"alg": "HS256"}), claims, withHMAC([]byte(own.ID))),
		"HS256 with nothing":                        Compact(header(map[string]any{"alg": "HS256"}), claims, withHMAC(nil)),
		"an algorithm for another kind of key":      Compact(header(map[string]any{"alg": "ES256"}), claims, edge.Sign),
		"an algorithm that the key is not for":      Compact(header(map[string]any{"alg": "PS256"}), claims, Key{own.ID, "PS256", own.private}.Sign),
		"a stranger's key of the same name":         stranger.Token(claims),
		"a key of no name, signed by a stranger":    Compact(header(map[string]any{"kid": nil}), claims, stranger.Sign),
		"a key that is not published":               NewKey(t, "unpublished", "RS256").Token(claims),
		"a name that is a path":                     Compact(header(map[string]any{"kid": "../../../../dev/null"}), claims, withHMAC(nil)),
		"a name that is SQL":                        Compact(header(map[string]any{"kid": "x' UNION SELECT 'secret"}), claims, stranger.Sign),
		"a name that is an address":                 Compact(header(map[string]any{"kid": "https://evil.example/key"}), claims, stranger.Sign),
		"a name without end":                        Compact(header(map[string]any{"kid": strings.Repeat("k", 4000)}), claims, own.Sign),
		"a name that is a list":                     Compact(header(map[string]any{"kid": []string{own.ID}}), claims, own.Sign),
		"it brings its key with it (jwk)":           Compact(header(map[string]any{"jwk": stranger.JWK()}), claims, stranger.Sign),
		"it brings its key and no name":             Compact(header(map[string]any{"kid": nil, "jwk": stranger.JWK()}), claims, stranger.Sign),
		"it says where its key is (jku)":            Compact(header(map[string]any{"jku": "https://evil.example/keys"}), claims, stranger.Sign),
		"it says where its certificate is (x5u)":    Compact(header(map[string]any{"x5u": "https://evil.example/cert"}), claims, stranger.Sign),
		"it brings a certificate (x5c)":             Compact(header(map[string]any{"x5c": []string{"MIIB"}}), claims, stranger.Sign),
		"a header that must be understood":          Compact(header(map[string]any{"crit": []string{"exp"}, "exp": 1}), claims, own.Sign),
		"a payload that is not encoded (b64)":       Compact(header(map[string]any{"crit": []string{"b64"}, "b64": false}), claims, own.Sign),
		"a header that says alg twice":              Compact(`{"alg":"RS256","alg":"none","kid":"`+own.ID+`"}`, claims, own.Sign),
		"a type that is another's":                  Compact(header(map[string]any{"typ": "logout+jwt"}), claims, own.Sign),
		"a proof of possession":                     Compact(header(map[string]any{"typ": "dpop+jwt"}), claims, own.Sign),
		"claims of another token":                   parts[0] + "." + other[1] + "." + parts[2],
		"a signature of another token":              parts[0] + "." + parts[1] + "." + other[2],
		"a signature cut short":                     good[:len(good)-8],
		"one part too many":                         good + "." + parts[2],
		"one part too few":                          parts[0] + "." + parts[1],
		"spaces around it":                          " " + good + "\n",
		"signed JSON in place of a token":           `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
		"an encrypted token":                        strings.Repeat(b64([]byte("xxxx"))+".", 4) + "eHh4eA",
		"a token without end":                       good + strings.Repeat("A", identity.MaxTokenBytes),
		"claims that are a list":                    Compact(header(nil), `[]`, own.Sign),
		"claims that are null":                      Compact(header(nil), `null`, own.Sign),
		"claims that are no JSON":                   Compact(header(nil), `{"sub":`, own.Sign),
		"claims with a subject twice":               Compact(header(nil), strings.Replace(string(text(claims)), `{`, `{"sub":"admin",`, 1), own.Sign),
		"claims with a subject in two cases":        Compact(header(nil), strings.Replace(string(text(claims)), `{`, `{"Sub":"admin",`, 1), own.Sign),
		"claims without end, one inside another":    Compact(header(nil), strings.Repeat(`{"a":`, 1500)+`1`+strings.Repeat(`}`, 1500), own.Sign),
		"claims that are not UTF-8":                 Compact(header(nil), "{\"sub\":\"\xff\"}", own.Sign),
	}
	for name, changes := range i.ClaimAttacks() {
		tokens[name] = own.Token(i.Claims(changes))
	}
	tokens["no end"] = own.Token(i.Claims(map[string]any{"exp": nil}))
	tokens["no issuer"] = own.Token(i.Claims(map[string]any{"iss": nil}))
	out := map[string]identity.Proof{}
	for name, token := range tokens {
		out[name] = identity.Proof{Token: token}
	}
	out["a nonce that was asked for and is not there"] = identity.Proof{Token: good, Expect: identity.Expect{Nonce: "n-1"}}
	out["the nonce of another login"] = identity.Proof{Token: own.Token(i.Claims(map[string]any{"nonce": "n-2"})), Expect: identity.Expect{Nonce: "n-1"}}
	out["another audience than the one expected now"] = identity.Proof{Token: good, Expect: identity.Expect{Audiences: []string{"peat-login"}}}
	return out
}

// Outages are the ways in which a provider may be of no help, by the path that is
// broken. No token is good while one lasts and no key is known, and none is bad.
func Outages(i *Issuer) map[string]map[string]http.HandlerFunc {
	large := `{"keys":[` + strings.Repeat(`{"kty":"RSA","kid":"x"},`, 20_000)
	point := func(changes map[string]any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { Answer(w, i.Document(changes)) }
	}
	both := func(how http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{Discovery: how, Keys: how}
	}
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	return map[string]map[string]http.HandlerFunc{
		"huge": both(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(large))
		}),
		"huge, and does not say so": both(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
					return
				}
			}
		}),
		"too many keys":              {Keys: say(`{"keys":[` + strings.Repeat(`{},`, 200) + `{}]}`)},
		"no keys":                    {Keys: say(`{"keys":[]}`)},
		"no list of keys":            {Keys: say(`{}`)},
		"a symmetric key":            {Keys: say(`{"keys":[{"kty":"oct","kid":"first","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}`)},
		"a weak key":                 {Keys: say(`{"keys":[{"kty":"RSA","kid":"first","n":"` + b64(bytes.Repeat([]byte{0xff}, 128)) + `","e":"AQAB"}]}`)},
		"an enormous key":            {Keys: say(`{"keys":[{"kty":"RSA","kid":"first","n":"` + b64(bytes.Repeat([]byte{0xff}, 4096)) + `","e":"AQAB"}]}`)},
		"no JSON":                    both(say(`<html>`)),
		"gone":                       both(http.NotFound),
		"failing":                    both(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }),
		"keys that are elsewhere":    {Keys: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, i.URL+"/other", http.StatusFound) }},
		"discovery of another":       {Discovery: point(map[string]any{"issuer": "https://evil.example"})},
		"discovery that is sent on":  {Discovery: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, i.URL+"/other", http.StatusFound) }},
		"keys at no address":         {Discovery: point(map[string]any{"jwks_uri": ""})},
		"keys in a file":             {Discovery: point(map[string]any{"jwks_uri": "file:///etc/passwd"})},
		"keys in the cloud's secret": {Discovery: point(map[string]any{"jwks_uri": "http://169.254.169.254/latest/meta-data/"})},
		"keys at a neighbour's":      {Discovery: point(map[string]any{"jwks_uri": "https://10.0.0.1/keys"})},
		"keys at a number":           {Discovery: point(map[string]any{"jwks_uri": "https://2130706433/keys"})},
		"keys without encryption":    {Discovery: point(map[string]any{"jwks_uri": "http://127.0.0.1:1/keys"})},
		"keys with a password":       {Discovery: point(map[string]any{"jwks_uri": "https://user:pass@127.0.0.1/keys"})},
	}
}
