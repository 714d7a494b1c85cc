package login

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// FlowLife is how long somebody may take to log in.
const FlowLife = 10 * time.Minute

// Flow is a login that was begun. It goes with the browser, sealed: a new one takes
// the place of the one before.
type Flow struct {
	State    string
	Nonce    string
	Verifier string // of RFC 7636
	Place    string // where to go then
	Until    time.Time
}

type flowWire struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Place    string `json:"p"`
	Until    int64  `json:"u"`
}

// Encode writes a flow, to be sealed.
func (f Flow) Encode() []byte {
	text, _ := json.Marshal(flowWire{f.State, f.Nonce, f.Verifier, f.Place, f.Until.Unix()}) // texts and a number
	return text
}

// DecodeFlow reads what Encode wrote.
func DecodeFlow(text []byte) (Flow, error) {
	var w flowWire
	if err := json.Unmarshal(text, &w); err != nil || w.State == "" || w.Nonce == "" || w.Verifier == "" {
		return Flow{}, errNotBegun
	}
	place, err := ParsePlace(w.Place)
	if err != nil {
		return Flow{}, errNotBegun
	}
	return Flow{w.State, w.Nonce, w.Verifier, place, time.Unix(w.Until, 0).UTC()}, nil
}

// maxPlace is how long a place may be: it goes with the browser.
const maxPlace = 1024

// ParsePlace reads where on the gateway somebody would like to go after the login: a
// path, with a query or a fragment. Empty is the front page. Nothing leads elsewhere,
// in whatever way browsers read it, nor back to logging in.
func ParsePlace(text string) (string, error) {
	if text == "" {
		return "/", nil
	}
	refused := fault.Invalid.New("return must be a path on this gateway")
	if len(text) > maxPlace || text[0] != '/' || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '\\' || r > '~' }) {
		return "", refused
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || strings.HasPrefix(text, "//") {
		return "", refused
	}
	// What is written otherwise is read in many ways.
	if strings.Contains(u.Path, "//") || strings.Contains(u.Path, `\`) || strings.Contains(u.Path, "/..") || strings.HasPrefix(u.Path+"/", "/auth/") {
		return "", refused
	}
	return text, nil
}

// Address is a place as a whole address of the gateway, which is all that a browser
// is ever sent to.
func (l *Login) Address(place string) string {
	return l.Public.Scheme + "://" + l.Public.Host + strings.TrimSuffix(l.Public.EscapedPath(), "/") + place
}
