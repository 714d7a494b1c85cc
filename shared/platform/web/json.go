package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// ReadJSON reads the request's body into v, a pointer, and refuses what a careful
// reader would stumble over: another content type, bad UTF-8, a second value, a
// key that comes twice (all malformed or unsupported); a field that is not known,
// a value of the wrong type (invalid, each named by its JSON pointer).
//
// A field that is absent keeps its zero value. That is the one way to leave it
// out: null is refused, save where v takes any JSON at all.
func ReadJSON(r *http.Request, v any) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return unreadable(err)
	}
	return DecodeJSON(body, v)
}

// unreadable is why a body could not be read.
func unreadable(err error) error {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return fault.TooLarge.New("the body is longer than %d bytes", long.Limit)
	}
	return fault.Malformed.Wrap(err, "the body could not be read")
}

// ReadOptionalJSON is ReadJSON for a body that may be left out: v stays as it is then.
func ReadOptionalJSON(r *http.Request, v any) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	return ReadJSON(r, v)
}

// DecodeJSON reads one JSON value into v as strictly as ReadJSON does.
func DecodeJSON(body []byte, v any) error {
	if !utf8.Valid(body) {
		return fault.Malformed.New("the body is not valid UTF-8")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return fault.Malformed.New("the body is empty")
	}
	tree, err := parse(body)
	if err != nil {
		return err
	}
	if wrong := check(tree, v); len(wrong) > 0 {
		f := wrong[0]
		where := "the body"
		if f.Pointer != "" {
			where = strings.TrimPrefix(f.Pointer, "/")
		}
		return &fault.Error{Kind: fault.Invalid, Message: where + " " + f.Detail, Fields: wrong}
	}
	if err := json.Unmarshal(body, v); err != nil {
		return unmarshalFault(err)
	}
	return nil
}

// unmarshalFault names what check leaves to encoding/json: ranges of numbers, and
// types that read themselves.
func unmarshalFault(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		field := fault.Field{Pointer: "/" + strings.ReplaceAll(wrongType.Field, ".", "/"), Detail: "is out of range"}
		return &fault.Error{Kind: fault.Invalid, Message: wrongType.Field + " is out of range", Cause: err, Fields: []fault.Field{field}}
	}
	if f := fault.Of(err); f != nil {
		return err
	}
	return fault.Invalid.Wrap(err, "the body holds a value that cannot be used")
}

func wantJSON(r *http.Request) error {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	ok := err == nil && (media == "application/json" || media == "application/merge-patch+json" && r.Method == http.MethodPatch)
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		ok = false
	}
	if !ok {
		return fault.UnsupportedMedia.New("the content type must be application/json")
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return fault.UnsupportedMedia.New("encoded bodies are not read here")
	}
	return nil
}

// WriteJSON answers with v. Nothing is written if v cannot be encoded.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client may be gone; there is nobody to tell
	return nil
}

// NoContent answers 204.
func NoContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Path reads a path value by its parser. A name that could not be anything's name
// is the name of nothing: not found, like any other that does not exist.
func Path[T any](r *http.Request, name string, parse func(string) (T, error)) (T, error) {
	v, err := parse(r.PathValue(name))
	if err != nil {
		var none T
		return none, fault.NotFound.Wrap(err, "there is nothing at this path")
	}
	return v, nil
}
