package web

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// maxDepth bounds nesting; nothing we read comes near it.
const maxDepth = 64

// maxWrong bounds how many wrong parts one answer lists.
const maxWrong = 20

// parse reads exactly one JSON value. encoding/json alone would take the last of
// two equal keys, and another reader of the same bytes the first.
func parse(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		if fault.Of(err) != nil {
			return nil, err
		}
		return nil, fault.Malformed.New("not JSON at byte %d: %s", d.InputOffset(), syntax(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fault.Malformed.New("something follows the JSON value at byte %d", d.InputOffset())
	}
	return v, nil
}

func syntax(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fault.Malformed.New("nested more than %d deep", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := map[string]any{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if !ok {
				return nil, fault.Malformed.New("not JSON at byte %d: a key must be a string", d.InputOffset())
			}
			if _, twice := object[name]; twice {
				return nil, fault.Malformed.New("the key %q comes twice", name)
			}
			if object[name], err = parseValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return object, err
	case json.Delim('['):
		array := []any{}
		for d.More() {
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			array = append(array, v)
		}
		_, err = d.Token()
		return array, err
	}
	return token, nil
}

// check compares a parsed value with the type it is to be read into.
func check(tree any, v any) []fault.Field {
	var c checker
	c.value("", tree, reflect.TypeOf(v).Elem())
	slices.SortFunc(c.wrong, func(a, b fault.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
	return c.wrong[:min(len(c.wrong), maxWrong)]
}

type checker struct{ wrong []fault.Field }

func (c *checker) bad(pointer, format string, args ...any) {
	c.wrong = append(c.wrong, fault.Field{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) value(pointer string, tree any, t reflect.Type) {
	if t.Kind() == reflect.Pointer {
		// encoding/json would take null for "left out", and a patch that says null
		// most likely means to take something away.
		if tree == nil {
			c.bad(pointer, "must not be null")
			return
		}
		c.value(pointer, tree, t.Elem())
		return
	}
	readsItself := reflect.PointerTo(t)
	if readsItself.Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return
	}
	if readsItself.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		if _, ok := tree.(string); !ok {
			c.bad(pointer, "must be a string")
		}
		return
	}
	switch t.Kind() {
	case reflect.Interface:
	case reflect.Struct:
		c.object(pointer, tree, t)
	case reflect.Map:
		object, ok := tree.(map[string]any)
		if !ok {
			c.bad(pointer, "must be an object")
		}
		for name, v := range object {
			c.value(pointer+"/"+escape(name), v, t.Elem())
		}
	case reflect.Slice, reflect.Array:
		array, ok := tree.([]any)
		if !ok {
			c.bad(pointer, "must be a list")
		}
		for i, v := range array {
			c.value(pointer+"/"+strconv.Itoa(i), v, t.Elem())
		}
	case reflect.String:
		if _, ok := tree.(string); !ok {
			c.bad(pointer, "must be a string")
		}
	case reflect.Bool:
		if _, ok := tree.(bool); !ok {
			c.bad(pointer, "must be true or false")
		}
	case reflect.Float32, reflect.Float64:
		if _, ok := tree.(json.Number); !ok {
			c.bad(pointer, "must be a number")
		}
	default:
		c.whole(pointer, tree, t)
	}
}

func (c *checker) whole(pointer string, tree any, t reflect.Type) {
	n, ok := tree.(json.Number)
	if !ok || strings.ContainsAny(n.String(), ".eE") {
		c.bad(pointer, "must be a whole number")
		return
	}
	var err error
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		_, err = strconv.ParseUint(n.String(), 10, t.Bits())
	} else {
		_, err = strconv.ParseInt(n.String(), 10, t.Bits())
	}
	if err != nil {
		c.bad(pointer, "is out of range")
	}
}

func (c *checker) object(pointer string, tree any, t reflect.Type) {
	object, ok := tree.(map[string]any)
	if !ok {
		c.bad(pointer, "must be an object")
		return
	}
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && !f.Anonymous && name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	for name, v := range object {
		at := pointer + "/" + escape(name)
		// encoding/json ignores case; whoever signs or compares bodies does not.
		if known, ok := fields[name]; ok {
			c.value(at, v, known)
		} else {
			c.bad(at, "is not known here")
		}
	}
}

// escape writes a key as a part of a JSON pointer (RFC 6901). It is called for every
// key there is, of which hardly any has something to escape.
func escape(key string) string {
	if !strings.ContainsAny(key, "~/") {
		return key
	}
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}
