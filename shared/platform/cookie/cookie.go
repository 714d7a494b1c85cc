// Package cookie keeps values with a browser that the browser can neither read nor
// change. A value is sealed for one purpose, so that what was given out as one thing
// cannot be brought back as another.
//
//	cookie.go  setting, reading, removing; values longer than one cookie
//	key.go     the keys, and what is done with them
//
// That a value is ours says nothing about its age: whoever seals one puts into it
// until when it counts.
package cookie

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits. Browsers keep about 4096 bytes of one cookie, its name and attributes
// included, and proxies take lines of 8 KiB.
const (
	maxPart  = 3600
	maxParts = 2
)

// MaxValue is how long a value may be, in bytes before sealing.
const MaxValue = maxPart*maxParts*3/4 - overhead - 2

// Cookie is one cookie by name. Values of different names do not open as each other.
type Cookie struct {
	Name string
	// Path is where it is sent: below it, and nowhere else. Empty is everywhere, and
	// then no neighbouring domain can set it ("__Host-").
	Path string
}

// Errors of reading.
var (
	ErrNone   = errors.New("there is no such cookie")
	ErrOpaque = errors.New("the cookie is not ours, or not intact")
	ErrLong   = errors.New("the value does not fit into cookies")
)

// prefixed is the name as browsers see it. They take a name with such a prefix only
// from a secure origin, and "__Host-" only from this very host.
func (c Cookie) prefixed(part int) string {
	name := "__Host-" + c.Name
	if c.Path != "" {
		name = "__Secure-" + c.Name
	}
	if part > 0 {
		name += "-" + strconv.Itoa(part)
	}
	return name
}

func (c Cookie) path() string {
	if c.Path == "" {
		return "/"
	}
	return c.Path
}

// Set seals a value and gives it to the browser, for so long at most.
func (c Cookie) Set(w http.ResponseWriter, r *http.Request, k Key, value []byte, life time.Duration) error {
	if len(value) > MaxValue {
		return ErrLong
	}
	text := k.Seal(c.Name, value)
	for part := range maxParts {
		piece := text[:min(maxPart, len(text))]
		text = text[len(piece):]
		if piece != "" {
			c.put(w, part, piece, int(life.Seconds()))
		} else if _, err := r.Cookie(c.prefixed(part)); err == nil {
			c.put(w, part, "", -1) // of a longer value before
		}
	}
	return nil
}

// Clear takes the cookie from the browser.
func (c Cookie) Clear(w http.ResponseWriter, r *http.Request) {
	for part := range maxParts {
		if _, err := r.Cookie(c.prefixed(part)); err == nil {
			c.put(w, part, "", -1)
		}
	}
}

func (c Cookie) put(w http.ResponseWriter, part int, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: c.prefixed(part), Value: value, Path: c.path(), MaxAge: age,
		HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	})
}

// Sent tells whether the browser sent it, whatever is in it.
func (c Cookie) Sent(r *http.Request) bool {
	return len(r.CookiesNamed(c.prefixed(0))) > 0
}

// Value returns what the browser was given: ErrNone, or ErrOpaque for what we did
// not seal.
func (c Cookie) Value(r *http.Request, k Key) ([]byte, error) {
	if !c.Sent(r) {
		return nil, ErrNone
	}
	var text strings.Builder
	for part := range maxParts {
		sent := r.CookiesNamed(c.prefixed(part))
		if len(sent) > 1 || len(sent) == 1 && len(sent[0].Value) > maxPart {
			return nil, ErrOpaque // somebody else has set one of the same name
		}
		if len(sent) == 1 {
			text.WriteString(sent[0].Value)
		}
	}
	return k.Open(c.Name, text.String())
}
