package federation_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/policy"
)

// TestATokenInTheLab: a token of a real provider is verified, and the rules are asked
// about what it says. Why another is not good is told to whoever asks.
func TestATokenInTheLab(t *testing.T) {
	w := newIdpWorld(t)
	made := w.ask("POST", ofAcme, w.oidc(), 201)
	evaluate := func(token string, status int) []byte {
		t.Helper()
		return w.do("POST", orgPolicy+"/evaluate", fmt.Sprintf(`{"token":%q,"at":%q,"request":{"app_id":"logistics"},
			"draft":{"rules":[{"id":"ours","providers":[%q],"when":"claims.issuer == %s","effect":"allow"}]}}`,
			token, w.issuer.Now().Format("2006-01-02T15:04:05Z07:00"), made.ID, strings.ReplaceAll(fmt.Sprintf("%q", w.issuer.URL), `"`, `\"`)), status)
	}
	var out struct {
		Decision policy.WrittenDecision
		Claims   policy.WrittenClaims
	}
	token := w.issuer.Token(nil)
	body := evaluate(token, 200)
	if err := json.Unmarshal(body, &out); err != nil || !out.Decision.Allowed || out.Decision.Rule != "ours" || out.Claims.Provider != made.ID || out.Claims.Subject == "" {
		t.Errorf("%s %v", body, err)
	}
	for name, token := range map[string]string{
		"of somebody else":   token[:len(token)-8] + "AAAAAAAA",
		"for somebody else":  w.issuer.Token(map[string]any{"aud": "another"}),
		"of another's":       w.issuer.Token(map[string]any{"iss": "https://elsewhere.example"}),
		"no token":           "x",
		"the longest of all": strings.Repeat("x", 65536),
	} {
		body := string(evaluate(token, 422))
		if !strings.Contains(body, "/token") || strings.Contains(body, token) && len(token) > 1 {
			t.Errorf("%s: %s", name, body)
		}
	}
	if logs := w.logs.String(); strings.Contains(logs, token) {
		t.Errorf("the token is in the log: %s", logs)
	}
	if did, _ := w.actions(); len(did) != 1 {
		t.Errorf("the lab did something: %v", did)
	}
}
