package tokenclaims

import (
	"encoding/json"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// path is where in a token a claim is. A text is the name of a claim, dots and all, if
// the token has one of that name; else names with dots between them, each inside the
// one before: "realm_access.roles". One that begins with "/" is a JSON pointer
// (RFC 6901).
type path struct {
	text  string
	steps []string
}

const maxSteps = 8

func parsePath(pointer, text string) (path, error) {
	if text == "" || len(text) > 256 || strings.ContainsFunc(text, isControl) {
		return path{}, identity.Invalid(pointer, "must be the path of a claim, one to 256 printable bytes")
	}
	p := path{text: text}
	if rest, ok := strings.CutPrefix(text, "/"); ok {
		for step := range strings.SplitSeq(rest, "/") {
			p.steps = append(p.steps, strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~"))
		}
		p.text = "" // never a name by itself
	} else {
		p.steps = strings.Split(text, ".")
	}
	if len(p.steps) > maxSteps {
		return path{}, identity.Invalid(pointer, "goes deeper than 8 claims")
	}
	return p, nil
}

// in returns what is there, nil if nothing is.
func (p path) in(s Set) json.RawMessage {
	if v, ok := s[p.text]; ok && p.text != "" {
		return v
	}
	var v json.RawMessage
	for i, step := range p.steps {
		if i > 0 {
			s = nil
			if json.Unmarshal(v, &s) != nil {
				return nil
			}
		}
		var ok bool
		if v, ok = s[step]; !ok {
			return nil
		}
	}
	return v
}

// top is the claim that the path begins at.
func (p path) top(s Set) string {
	if _, ok := s[p.text]; ok && p.text != "" {
		return p.text
	}
	return p.steps[0]
}
