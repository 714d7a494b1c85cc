// Package env reads settings from the environment, says all that is wrong with
// them at once, and remembers what it was asked for, so that the documentation
// of the settings can be written from the code that reads them.
//
// It knows no setting by name. The one place that does is the composition root.
package env

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reader reads settings through a lookup such as os.LookupEnv. What cannot be
// read counts as unset and is reported by Err, so that the caller can go on and
// find what else is wrong. A Reader is for one goroutine.
//
// A variable that is empty is taken as unset: that is what a template writes for
// a value it does not have.
type Reader struct {
	lookup   func(string) (string, bool)
	settings []Setting
	problems []Problem
}

// Setting is one variable, for the documentation.
type Setting struct {
	Name    string
	Type    string // string, int, bool, duration, durations, bytes, url or secret
	Default string // as one would write it; empty is none
	Doc     string
	Secret  bool
}

// New returns a Reader.
func New(lookup func(string) (string, bool)) *Reader { return &Reader{lookup: lookup} }

// String reads text as it is.
func (r *Reader) String(name, def, doc string) string {
	if s, ok := r.read(Setting{Name: name, Type: "string", Default: def, Doc: doc}); ok {
		return s
	}
	return def
}

// Int reads a whole number.
func (r *Reader) Int(name string, def int, doc string) int {
	return parsed(r, Setting{Name: name, Type: "int", Default: strconv.Itoa(def), Doc: doc}, def,
		"must be a whole number", strconv.Atoi)
}

// Bool reads true or false.
func (r *Reader) Bool(name string, def bool, doc string) bool {
	return parsed(r, Setting{Name: name, Type: "bool", Default: strconv.FormatBool(def), Doc: doc}, def,
		"must be true or false", strconv.ParseBool)
}

// Duration reads a time span such as 90s or 1h30m, which is not negative.
func (r *Reader) Duration(name string, def time.Duration, doc string) time.Duration {
	return parsed(r, Setting{Name: name, Type: "duration", Default: formatDuration(def), Doc: doc}, def,
		"must be a time span such as 90s or 1h30m", parseDuration)
}

// Durations reads time spans with commas between them.
func (r *Reader) Durations(name string, def []time.Duration, doc string) []time.Duration {
	words := make([]string, len(def))
	for i, d := range def {
		words[i] = formatDuration(d)
	}
	s := Setting{Name: name, Type: "durations", Default: strings.Join(words, ","), Doc: doc}
	return parsed(r, s, slices.Clone(def), "must be time spans such as 1s,5s,1m", func(s string) ([]time.Duration, error) {
		var all []time.Duration
		for word := range strings.SplitSeq(s, ",") {
			d, err := parseDuration(strings.TrimSpace(word))
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
		return all, nil
	})
}

// Bytes reads a size such as 4096, 512KiB or 64MiB.
func (r *Reader) Bytes(name string, def int64, doc string) int64 {
	return parsed(r, Setting{Name: name, Type: "bytes", Default: formatBytes(def), Doc: doc}, def,
		"must be a size such as 4096, 512KiB, 64MiB or 1GiB", parseBytes)
}

// URL reads an absolute URL of one of the schemes, or of any if there are none
// given. It returns nil if the variable and def are empty. Its value is not
// quoted in an error, as it may hold a password.
func (r *Reader) URL(name, def, doc string, schemes ...string) *url.URL {
	want := "must be a URL with a scheme and a host"
	if len(schemes) > 0 {
		want = "must be a URL that begins with " + strings.Join(schemes, ":// or ") + "://"
	}
	text, ok := r.read(Setting{Name: name, Type: "url", Default: def, Doc: doc})
	if !ok {
		text = def
	}
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || len(schemes) > 0 && !slices.Contains(schemes, u.Scheme) {
		r.Wrong(name, want)
		return nil
	}
	return u
}

// Secret reads text that must not be seen.
func (r *Reader) Secret(name, doc string) Secret {
	text, ok := r.read(Setting{Name: name, Type: "secret", Doc: doc, Secret: true})
	if !ok {
		return Secret{}
	}
	return NewSecret(text)
}

// Require reports the variables that are unset, for those without which the
// program cannot go on.
func (r *Reader) Require(names ...string) {
	for _, name := range names {
		if s, ok := r.lookup(name); !ok || s == "" {
			r.Wrong(name, "must be set")
		}
	}
}

// Wrong reports what only the caller can know to be wrong with a variable. The
// detail follows its name in a sentence and must not quote a secret.
func (r *Reader) Wrong(name, detail string) {
	if p := (Problem{Name: name, Detail: detail}); !slices.Contains(r.problems, p) {
		r.problems = append(r.problems, p)
	}
}

// Documented returns every setting that was asked for, in the order of asking.
func (r *Reader) Documented() []Setting { return slices.Clone(r.settings) }

// Err returns all that is wrong as an *Error, or nil.
func (r *Reader) Err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return &Error{Problems: slices.Clone(r.problems)}
}

// Error is all that is wrong with the settings.
type Error struct {
	Problems []Problem
}

// Problem is one thing that is wrong with one variable.
type Problem struct {
	Name   string
	Detail string
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Name + " " + p.Detail
	}
	return "settings: " + strings.Join(lines, "; ")
}

// read returns what a variable is set to and remembers that it was asked for. A
// variable may be read in two places; the first is the one documented.
func (r *Reader) read(s Setting) (string, bool) {
	if !slices.ContainsFunc(r.settings, func(known Setting) bool { return known.Name == s.Name }) {
		r.settings = append(r.settings, s)
	}
	text, ok := r.lookup(s.Name)
	return text, ok && text != ""
}

func parsed[T any](r *Reader, s Setting, def T, want string, parse func(string) (T, error)) T {
	text, ok := r.read(s)
	if !ok {
		return def
	}
	v, err := parse(strings.TrimSpace(text))
	if err != nil {
		r.Wrong(s.Name, fmt.Sprintf("%s, is %s", want, quote(text)))
		return def
	}
	return v
}

// quote keeps a file that ended up in a variable out of the log.
func quote(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%d bytes of something else", len(s))
	}
	return strconv.Quote(s)
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return d, err
}

// formatDuration is Duration.String without the zeros of 1h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// units are from large to small, as formatBytes takes the first that divides.
var units = [...]struct {
	name string // Kubernetes leaves out the B
	size int64
}{{"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}}

func parseBytes(s string) (int64, error) {
	s = strings.TrimSuffix(s, "B")
	size := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n < 0 || n > math.MaxInt64/size) {
		err = errors.New("out of range")
	}
	return n * size, err
}

func formatBytes(n int64) string {
	for _, u := range units {
		if n != 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name + "B"
		}
	}
	return strconv.FormatInt(n, 10)
}
