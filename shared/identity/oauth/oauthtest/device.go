package oauthtest

import (
	"crypto/rand"
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// device is one that waits for somebody to let it in.
type device struct {
	user    string
	answers []string // to its questions, in order; the last repeats; empty is yes
}

// Answers is what devices that ask from now on hear, in order: codes of RFC 8628,
// "" for a token. The last repeats.
func (p *Provider) Answers(codes ...string) {
	p.With(func() { p.devices[""] = &device{answers: codes} })
}

func (p *Provider) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isClient(r) {
		p.answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	d := &device{user: rand.Text()[:8], answers: []string{oauth.AuthorizationPending}}
	if next := p.devices[""]; next != nil {
		d.answers = next.answers
	}
	id := rand.Text()
	p.devices[id] = d
	p.answer(w, http.StatusOK, map[string]any{
		"device_code": id, "user_code": d.user, "verification_uri": p.URL + "/activate",
		"verification_uri_complete": p.URL + "/activate?user_code=" + d.user, "expires_in": 600, "interval": 5,
	})
}

func (p *Provider) poll(w http.ResponseWriter, r *http.Request) {
	d := p.devices[r.PostFormValue("device_code")]
	if d == nil || r.PostFormValue("device_code") == "" {
		p.refuse(w, "invalid_grant")
		return
	}
	answer := d.answers[0]
	if len(d.answers) > 1 {
		d.answers = d.answers[1:]
	}
	if answer != "" {
		p.refuse(w, answer)
		return
	}
	p.give(w, p.Person, "")
}
