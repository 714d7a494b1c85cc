package oauthtest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"

	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
)

// code is what somebody who has logged in brings back.
type code struct {
	nonce, challenge, redirect string
	person                     map[string]any
	used                       bool
}

// authorize logs in whoever is signed in, without asking.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.Get("client_id") != p.ClientID || q.Get("redirect_uri") != p.Redirect {
		http.Error(w, "an unknown client, or not its address", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	if !p.Silent {
		back.Set("iss", p.URL)
	}
	switch {
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		back.Set("error", "invalid_request")
	case p.Person == nil:
		back.Set("error", oauth.AccessDenied)
		back.Set("error_description", "<script>alert(1)</script>")
	default:
		id := rand.Text()
		p.codes[id] = &code{nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), redirect: p.Redirect, person: maps.Clone(p.Person)}
		back.Set("code", id)
	}
	http.Redirect(w, r, p.Redirect+"?"+back.Encode(), http.StatusFound)
}

// token is the token endpoint.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.isClient(r):
		p.answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
	case p.Refuse != "":
		p.refuse(w, p.Refuse)
	case r.PostFormValue("grant_type") == "authorization_code":
		p.redeem(w, r)
	case r.PostFormValue("grant_type") == deviceGrant:
		p.poll(w, r)
	default:
		p.refuse(w, "unsupported_grant_type")
	}
}

// isClient tells whether the request is of the client. One that sends no secret at
// all is a public one, if the client has none.
func (p *Provider) isClient(r *http.Request) bool {
	id, secret, basic := r.BasicAuth()
	if !basic {
		return r.PostFormValue("client_id") == p.ClientID && r.PostFormValue("client_secret") == p.Secret
	}
	id, err := url.QueryUnescape(id)
	if err != nil {
		return false
	}
	secret, err = url.QueryUnescape(secret)
	return err == nil && id == p.ClientID && secret == p.Secret
}

func (p *Provider) redeem(w http.ResponseWriter, r *http.Request) {
	c := p.codes[r.PostFormValue("code")]
	if c == nil || c.used && !p.Reuse || c.redirect != r.PostFormValue("redirect_uri") || oauth.Challenge(r.PostFormValue("code_verifier")) != c.challenge {
		p.refuse(w, "invalid_grant")
		return
	}
	c.used = true
	p.give(w, c.person, c.nonce)
}

// give answers with tokens.
func (p *Provider) give(w http.ResponseWriter, person map[string]any, nonce string) {
	id := p.claims(person)
	if nonce != "" {
		id["nonce"] = nonce
	}
	if p.Audience != "" {
		id["aud"] = p.Audience
	}
	if p.Change != nil {
		p.Change(id)
	}
	p.answer(w, http.StatusOK, map[string]any{
		"access_token": p.Sign(person), "id_token": p.sign(map[string]any{"alg": "ES256", "kid": kid, "typ": "JWT"}, id),
		"token_type": "Bearer", "expires_in": 300,
	})
}

// Codes are those that are not used, oldest or not.
func (p *Provider) Codes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for id, c := range p.codes {
		if !c.used {
			out = append(out, id)
		}
	}
	return out
}
