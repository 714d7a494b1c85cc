// Package tokenclaims reads what a token says, however it came to be believed: by its
// signature, or since its provider was asked. It is what the kinds oidc and
// introspection have in common.
//
//	tokenclaims.go  the claims of a token, and what may be said of them in a configuration
//	judge.go        which claims are accepted
//	path.go         where a claim is
package tokenclaims

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// Set is the claims of a token, each as it was written.
type Set map[string]json.RawMessage

// Decode reads claims. One that comes twice is refused: which of the two was meant
// would be a guess, and another reader may guess differently.
func Decode(payload []byte) (Set, error) {
	var s Set
	if err := web.DecodeJSON(payload, &s); err != nil || s == nil {
		return nil, refuse("its claims cannot be read")
	}
	return s, nil
}

// Rules are the part of a provider's configuration that is about claims.
type Rules struct {
	Audiences  []string `json:"audiences,omitempty"`          // one of them must be the token's
	Parties    []string `json:"authorized_parties,omitempty"` // if any, the token was given to one of them
	ClockSkew  string   `json:"clock_skew,omitempty"`         // default 30s
	MaxAge     string   `json:"max_token_age,omitempty"`      // since the token was issued; default: none
	Session    string   `json:"session,omitempty"`            // how long who shows the token is known; default: as long as the token
	SingleUse  bool     `json:"single_use,omitempty"`         // a token enrolls once
	Claims     Mapping  `json:"claims,omitzero"`
	skew, age  time.Duration
	session    time.Duration
	attributes map[string]path
	subject    path
	groups     path
	roles      path
}

// Mapping says where in a token is what; see path.go.
type Mapping struct {
	Subject    string            `json:"subject,omitempty"`    // default sub
	Groups     string            `json:"groups,omitempty"`     // default groups
	Roles      string            `json:"roles,omitempty"`      // default roles
	Attributes map[string]string `json:"attributes,omitempty"` // by name; default: everything else
}

// Limits of a configuration.
const (
	defaultSkew = 30 * time.Second
	maxSkew     = 5 * time.Minute
	maxSession  = 30 * 24 * time.Hour
	maxList     = 50
	maxText     = 1024
)

// Prepare checks the rules and makes them ready.
func (r *Rules) Prepare() error {
	for name, list := range map[string][]string{"audiences": r.Audiences, "authorized_parties": r.Parties} {
		if len(list) > maxList || slices.ContainsFunc(list, func(s string) bool { return s == "" || len(s) > maxText }) {
			return identity.Invalid("config/"+name, "must be at most 50 texts of one to 1024 bytes")
		}
	}
	var err error
	if r.skew, err = Duration("clock_skew", r.ClockSkew, defaultSkew, 0, maxSkew); err != nil {
		return err
	}
	if r.age, err = Duration("max_token_age", r.MaxAge, 0, time.Second, maxSession); err != nil {
		return err
	}
	if r.session, err = Duration("session", r.Session, 0, time.Minute, maxSession); err != nil {
		return err
	}
	for name, to := range map[string]struct {
		text, usual string
		path        *path
	}{
		"subject": {r.Claims.Subject, "sub", &r.subject},
		"groups":  {r.Claims.Groups, "groups", &r.groups},
		"roles":   {r.Claims.Roles, "roles", &r.roles},
	} {
		if to.text == "" {
			to.text = to.usual
		}
		if *to.path, err = parsePath("config/claims/"+name, to.text); err != nil {
			return err
		}
	}
	if len(r.Claims.Attributes) > maxList {
		return identity.Invalid("config/claims/attributes", "are more than 50")
	}
	r.attributes = nil
	for name, text := range r.Claims.Attributes {
		if name == "" || len(name) > 128 || strings.ContainsFunc(name, isControl) {
			return identity.Invalid("config/claims/attributes", "hold a name that is not one to 128 printable bytes")
		}
		p, err := parsePath("config/claims/attributes", text)
		if err != nil {
			return err
		}
		if r.attributes == nil {
			r.attributes = map[string]path{}
		}
		r.attributes[name] = p
	}
	return nil
}

// Duration reads a length of time of a configuration; an empty one is the usual.
func Duration(field, text string, usual, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return usual, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		return 0, identity.Invalid("config/"+field, fmt.Sprintf("must be a duration like %s, from %s to %s", example(usual, most), least, most))
	}
	return d, nil
}

func example(usual, most time.Duration) time.Duration {
	if usual > 0 {
		return usual
	}
	return min(most, 8*time.Hour)
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }
