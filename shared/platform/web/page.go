package web

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Limits of a page.
const (
	DefaultLimit = 50
	MaxLimit     = 200
)

// maxCursor bounds a cursor's text; keys are far shorter.
const maxCursor = 2048

// cursorVersion lets a later release tell its cursors from these.
const cursorVersion = "1"

// Page is the part of a list that a caller wants: up to Limit items whose key
// comes after After. Ask the store for one more than Limit, and give all of
// it to NewList.
type Page struct {
	Limit int
	After string
}

// ParsePage reads limit and cursor from the query.
func ParsePage(r *http.Request) (Page, error) {
	q := r.URL.Query()
	p := Page{Limit: DefaultLimit}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > MaxLimit {
			return Page{}, fault.Malformed.New("limit must be a number between 1 and %d", MaxLimit)
		}
		p.Limit = n
	}
	if s := q.Get("cursor"); s != "" {
		after, err := DecodeCursor(s)
		if err != nil {
			return Page{}, err
		}
		p.After = after
	}
	return p, nil
}

// EncodeCursor makes the text that stands for "after this key". What is in it is
// nobody's business but DecodeCursor's.
func EncodeCursor(after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorVersion + after))
}

// DecodeCursor is the reverse of EncodeCursor. The key may still be any text at
// all: callers compare with it and never trust it.
func DecodeCursor(s string) (string, error) {
	refused := fault.Malformed.New("cursor is not one that this API gave out")
	if len(s) > maxCursor || strings.ContainsAny(s, "\r\n") { // which base64 would skip
		return "", refused
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return "", refused
	}
	after, ok := strings.CutPrefix(string(b), cursorVersion)
	// Postgres takes neither bad UTF-8 nor NUL as text.
	if !ok || after == "" || !utf8.ValidString(after) || strings.Contains(after, "\x00") {
		return "", refused
	}
	return after, nil
}

// List is one page of items and where the next one begins; null at the end.
type List[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// NewList makes a page of what the store returned for Limit+1.
func NewList[T any](found []T, p Page, key func(T) string) List[T] {
	l := List[T]{Items: found}
	if len(found) > p.Limit {
		l.Items = found[:p.Limit]
		next := EncodeCursor(key(l.Items[p.Limit-1]))
		l.Next = &next
	}
	if l.Items == nil {
		l.Items = []T{} // [] and not null
	}
	return l
}

// MapList turns a page of things into a page of their JSON forms.
func MapList[T, U any](l List[T], f func(T) U) List[U] {
	out := List[U]{Items: make([]U, len(l.Items)), Next: l.Next}
	for i, v := range l.Items {
		out.Items[i] = f(v)
	}
	return out
}
