package nats

import (
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// EscapeToken makes any text one token of a NATS subject: letters, digits, '-'
// and '_' stay, every other byte becomes '=' and two upper-case hex digits. Two
// different texts never become the same token, and the empty text becomes a
// lone '=' since a token cannot be empty.
func EscapeToken(s string) string {
	if s == "" {
		return "="
	}
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	out.Grow(len(s))
	for i := range len(s) {
		if c := s[i]; driver.IsPlain(c) {
			out.WriteByte(c)
		} else {
			out.Write([]byte{'=', hex[c>>4], hex[c&15]})
		}
	}
	return out.String()
}

// isPrefix reports whether s is one or more plain tokens with dots between them.
func isPrefix(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r > 0x7f || !driver.IsPlain(byte(r)) }) {
			return false
		}
	}
	return true
}

// covers reports whether every subject that matches inner also matches outer.
func covers(outer, inner string) bool {
	o, i := strings.Split(outer, "."), strings.Split(inner, ".")
	for n, token := range o {
		switch {
		case n >= len(i):
			return false
		case token == ">":
			return true
		case i[n] == ">":
			return false
		case token != "*" && token != i[n]:
			return false
		}
	}
	return len(o) == len(i)
}
