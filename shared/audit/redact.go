package audit

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// hidden takes the place of what is not written down.
const hidden = "[redacted]"

// maxText is how much of a text is kept.
const maxText = 4 << 10

// maxDetail is how long an entry's detail may be. What is longer is left out as a
// whole, and the entry says so: an act must not fail for what it would say of itself.
const maxDetail = 256 << 10

// secretNames is the last word of a field's name that says that a text in it is a
// secret. Nothing that does this well knows every name; whoever reports an act
// leaves secrets out, and this is the net below.
var secretNames = regexp.MustCompile(`(?i)(^|[_.-])(passwords?|passphrases?|passwd|secrets?|tokens?|credentials?|creds|authorization|cookies?|seeds?|nkey|jwt|assertion|sealed|private_?key|api_?key|kek|dek)$`)

// NamesSecret reports whether a text in a field of this name is a secret, as far as
// the name tells.
func NamesSecret(name string) bool {
	// Most names are short words; the expression costs as much as the rest of an entry.
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return secretNames.MatchString(name)
		}
	}
	name = strings.ToLower(name)
	for _, word := range secretWords {
		before, is := strings.CutSuffix(name, word)
		if is && (before == "" || strings.HasSuffix(before, "_") || strings.HasSuffix(before, ".") || strings.HasSuffix(before, "-")) {
			return true
		}
	}
	return false
}

// secretWords are the words of secretNames, each as it may be written.
var secretWords = []string{
	"password", "passwords", "passphrase", "passphrases", "passwd", "secret", "secrets", "token", "tokens", "credential", "credentials", "creds",
	"authorization", "cookie", "cookies", "seed", "seeds", "nkey", "jwt", "assertion", "sealed", "private_key", "privatekey", "api_key", "apikey", "kek", "dek",
}

// Clean returns the act without secrets and without what a database cannot keep,
// and its detail as the text that is kept and hashed.
func (a Act) Clean() (Act, json.RawMessage, error) {
	if a.Org == "" {
		a.Org = Gateway
	}
	a.Actor, a.Action, a.Target, a.RequestID = plain(a.Actor), plain(a.Action), plain(a.Target), plain(a.RequestID)
	if len(a.Detail) == 0 {
		return a, json.RawMessage(`{}`), nil
	}
	value, ok := basic(a.Detail)
	if !ok {
		var err error
		if value, err = throughJSON(a.Detail); err != nil {
			return a, nil, err
		}
	}
	text, err := json.Marshal(redact("", value))
	if err != nil {
		return a, nil, fmt.Errorf("encode audit detail: %w", err)
	}
	if len(text) > maxDetail {
		text = fmt.Appendf(nil, `{"omitted":"the detail had %d bytes"}`, len(text))
	}
	return a, text, nil
}

// throughJSON returns a value as JSON has it, so that fields of structs are seen under
// the names they are written with.
func throughJSON(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode audit detail: %w", err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, fmt.Errorf("decode audit detail: %w", err)
	}
	return value, nil
}

// basic is throughJSON without the way through JSON, for what most acts tell of; false
// for anything else.
func basic(v any) (any, bool) {
	switch v := v.(type) {
	case nil, bool, int, int64, uint64:
		return v, true
	case string:
		return v, utf8.ValidString(v)
	case time.Time:
		text, err := v.MarshalText()
		return string(text), err == nil
	case []string:
		if v == nil {
			return nil, true
		}
		out := make([]any, len(v))
		for i, s := range v {
			if !utf8.ValidString(s) {
				return nil, false
			}
			out[i] = s
		}
		return out, true
	case map[string]any:
		if v == nil {
			return nil, true
		}
		out := make(map[string]any, len(v))
		for k, inner := range v {
			b, ok := basic(inner)
			if !ok || !utf8.ValidString(k) {
				return nil, false
			}
			out[k] = b
		}
		return out, true
	}
	switch v.(type) {
	case json.Marshaler, encoding.TextMarshaler:
		return nil, false
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.String { // an id
		return r.String(), utf8.ValidString(r.String())
	}
	return nil, false
}

// redact returns a value without secrets; name is that of the field it is in.
func redact(name string, value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, inner := range v {
			out[plain(k)] = redact(k, inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = redact(name, inner)
		}
		return out
	case string:
		if v != "" && NamesSecret(name) {
			return hidden
		}
		return withoutQuery(plain(v))
	}
	return value // numbers, truth and null are no secrets
}

// withoutQuery takes out of a URL what may let somebody in: user and query.
func withoutQuery(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return hidden
	}
	if u.User == nil && u.RawQuery == "" && u.Fragment == "" {
		return s
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	if u.RawQuery != "" {
		u.RawQuery = "redacted"
	}
	u.Fragment = ""
	return u.String()
}

// plain returns a text that every database can keep and every reader of JSON reads
// as it was.
func plain(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}
