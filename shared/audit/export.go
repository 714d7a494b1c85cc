package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// An export is lines of JSON: its contents, then the entries in their order, each
// head after the entry that it signs. A line is written in one way only, so that a
// reader can tell whether a single byte was touched.

// lineType says what a line is.
type lineType string

const (
	contentsLine lineType = "export"
	entryLine    lineType = "entry"
	headLine     lineType = "head"
)

// writeLine writes a value as one line that begins with its type.
func writeLine(w io.Writer, t lineType, v any) error {
	line, err := encodeLine(t, v)
	if err != nil {
		return err
	}
	_, err = w.Write(line)
	return err
}

func encodeLine(t lineType, v any) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"type":%q,`, t)
	mark := b.Len()
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the detail goes out byte by byte as it was hashed
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %s: %w", t, err)
	}
	line := b.Bytes()
	return append(line[:mark], line[mark+1:]...), nil // without the brace that v begins with
}

// WriteContents writes the first line of an export.
func WriteContents(w io.Writer, c Contents) error { return writeLine(w, contentsLine, c) }

// WriteEntry writes the line of an entry.
func WriteEntry(w io.Writer, e Entry) error { return writeLine(w, entryLine, e) }

// WriteHead writes the line of a head.
func WriteHead(w io.Writer, h Head) error { return writeLine(w, headLine, h) }

// maxLine is longer than any line that is written.
const maxLine = 1 << 20

var (
	errLine     = errors.New("is not a line of an export")
	errSpelling = errors.New("is not written as an export writes it")
)

// decodeLine reads one line, without its end, as a Contents, an Entry or a Head.
func decodeLine(line []byte) (any, error) {
	var t struct {
		Type lineType `json:"type"`
	}
	if err := json.Unmarshal(line, &t); err != nil {
		return nil, errLine
	}
	switch t.Type {
	case contentsLine:
		return decodeAs[Contents](t.Type, line)
	case entryLine:
		return decodeAs[Entry](t.Type, line)
	case headLine:
		return decodeAs[Head](t.Type, line)
	}
	return nil, errLine
}

// decodeAs reads a line, which must be byte by byte what would be written.
func decodeAs[T any](t lineType, line []byte) (any, error) {
	var v T
	if err := json.Unmarshal(line, &v); err != nil {
		return nil, errLine
	}
	again, err := encodeLine(t, v)
	if err != nil {
		return nil, errLine
	}
	if !precise(v) {
		return nil, errSpelling
	}
	if !bytes.Equal(again, append(bytes.Clone(line), '\n')) {
		return nil, errSpelling
	}
	return v, nil
}

// precise reports whether the time of a line is one that is kept: what is finer
// than a microsecond, and where the clock stood, is not covered by any hash.
func precise(v any) bool {
	var at time.Time
	switch v := v.(type) {
	case Contents:
		at = v.At
	case Entry:
		at = v.At
	case Head:
		at = v.At
	}
	return at.Location() == time.UTC && at.Nanosecond()%1000 == 0
}
