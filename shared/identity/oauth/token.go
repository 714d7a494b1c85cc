package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Tokens is what a provider gives. None of it has been checked.
type Tokens struct {
	Access  env.Secret
	ID      env.Secret // not set if it gave none
	Refresh env.Secret // likewise
	Life    time.Duration
}

// Refusal is a provider's no, by its code in RFC 6749 or 8628. Its description is the
// provider's own words, and is not repeated.
type Refusal struct{ Code string }

func (r *Refusal) Error() string { return fmt.Sprintf("the identity provider refuses: %s", r.Code) }

// Codes that callers tell apart.
const (
	AuthorizationPending = "authorization_pending"
	SlowDown             = "slow_down"
	ExpiredToken         = "expired_token"
	AccessDenied         = "access_denied"
)

// Ask sends a grant to the token endpoint: a *Refusal, or fault.Unavailable if the
// provider did not answer as one.
func (c *Client) Ask(ctx context.Context, m Metadata, form url.Values) (Tokens, error) {
	var out struct {
		Access  string  `json:"access_token"`
		ID      string  `json:"id_token"`
		Refresh string  `json:"refresh_token"`
		Type    string  `json:"token_type"`
		Life    float64 `json:"expires_in"`
	}
	if err := c.Post(ctx, m, m.Token, form, &out); err != nil {
		return Tokens{}, err
	}
	if out.Access == "" || !strings.EqualFold(out.Type, "bearer") {
		return Tokens{}, fault.Unavailable.Wrap(errors.New("no bearer token in the answer"), "the identity provider gives an answer that is none")
	}
	t := Tokens{Access: env.NewSecret(out.Access), ID: env.NewSecret(out.ID), Refresh: env.NewSecret(out.Refresh)}
	const longest = 365 * 24 * 3600
	t.Life = time.Duration(min(max(out.Life, 0), longest) * float64(time.Second))
	return t, nil
}

// Post sends a form to an endpoint of the provider, as the client that we are, and
// reads the answer into out.
func (c *Client) Post(ctx context.Context, m Metadata, endpoint string, form url.Values, out any) error {
	if endpoint == "" {
		return fault.Unavailable.Wrap(errors.New("it is not in the discovery document"), "the identity provider has no such endpoint")
	}
	basic := c.Secret.IsSet() && (len(m.AuthMethods) == 0 || slices.Contains(m.AuthMethods, "client_secret_basic"))
	form.Set("client_id", c.ID)
	if c.Secret.IsSet() && !basic {
		form.Set("client_secret", c.Secret.Reveal())
	}
	r, err := http.NewRequest(http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return plain(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if basic { // each encoded first, as RFC 6749 has it
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret.Reveal()))
	}
	status, body, err := c.do(ctx, r)
	if err != nil {
		return fault.Unavailable.Wrap(err, "the identity provider cannot be reached")
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(body, out); err != nil {
			// The decoder's words could be those of the answer.
			return fault.Unavailable.Wrap(errors.New("it is not JSON of the right form"), "the identity provider gives an answer that is none")
		}
		return nil
	}
	return refusal(status, body)
}

// refusal reads how a provider says no.
func refusal(status int, body []byte) error {
	var no struct {
		Code string `json:"error"`
	}
	if err := json.Unmarshal(body, &no); err != nil || !isCode(no.Code) || status >= 500 {
		return fault.Unavailable.Wrap(fmt.Errorf("status %d", status), "the identity provider gives an answer that is none")
	}
	return &Refusal{no.Code}
}

// isCode tells a code from what somebody would like to see in a log.
func isCode(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}
