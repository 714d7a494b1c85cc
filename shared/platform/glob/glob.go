// Package glob matches names with patterns that anybody may write: * is any run of
// characters but : and /, ** any run, ? any one character. One that begins with !
// excludes. There are no classes and no escapes.
package glob

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxBytes is how long a glob may be.
const MaxBytes = 256

// Glob is a pattern for whole names.
type Glob struct {
	Exclude bool

	prefix string // before the first wildcard; most names are told apart by it alone
	steps  []step // from the first wildcard on
}

type step struct {
	kind wild
	char rune // of a literal
}

type wild byte

const (
	literal wild = iota
	one          // ?
	run          // *
	all          // **
)

// Parse reads a glob, or says in words that follow its name what is wrong with it.
func Parse(text string) (Glob, error) {
	pattern, exclude := strings.CutPrefix(text, "!")
	switch {
	case len(text) > MaxBytes:
		return Glob{}, fmt.Errorf("is longer than %d bytes", MaxBytes)
	case pattern == "":
		return Glob{}, errors.New("is empty")
	case !utf8.ValidString(pattern):
		return Glob{}, errors.New("is not UTF-8")
	}
	// Read as themselves they would disappoint whoever expects a class, silently.
	if i := strings.IndexAny(pattern, `[]{}\`); i >= 0 {
		return Glob{}, fmt.Errorf("holds %q, which means nothing here; ? stands for any one character", pattern[i])
	}
	g := Glob{Exclude: exclude}
	first := strings.IndexAny(pattern, "*?")
	if first < 0 {
		g.prefix = pattern
		return g, nil
	}
	g.prefix = pattern[:first]
	for rest := pattern[first:]; rest != ""; {
		c, size := utf8.DecodeRuneInString(rest)
		s := step{literal, c}
		switch {
		case strings.HasPrefix(rest, "**"):
			s, size = step{kind: all}, 2
		case c == '*':
			s = step{kind: run}
		case c == '?':
			s = step{kind: one}
		}
		g.steps = append(g.steps, s)
		rest = rest[size:]
	}
	return g, nil
}

// Match reports whether this is the glob's pattern. It follows all ways to read the
// name at once, so its time is at most the product of both lengths, whatever the
// pattern.
func (g Glob) Match(name string) bool {
	rest, ok := strings.CutPrefix(name, g.prefix)
	if !ok {
		return false
	}
	switch {
	case len(g.steps) == 0:
		return rest == ""
	case len(g.steps) == 1 && g.steps[0].kind == all:
		return true
	case len(g.steps) == 1 && g.steps[0].kind == run:
		return !strings.ContainsAny(rest, ":/")
	}
	now, next := new(places), new(places)
	g.enter(now, 0)
	for _, c := range rest {
		next.clear()
		for _, at := range now.list[:now.n] {
			if int(at) == len(g.steps) {
				continue
			}
			switch s := g.steps[at]; s.kind {
			case literal:
				if c == s.char {
					g.enter(next, at+1)
				}
			case one:
				g.enter(next, at+1)
			case run:
				if c != ':' && c != '/' {
					g.enter(next, at)
				}
			case all:
				g.enter(next, at)
			}
		}
		if next.n == 0 {
			return false
		}
		now, next = next, now
	}
	return now.has(uint16(len(g.steps)))
}

// enter notes a place in the pattern, and those behind it that a wildcard for
// nothing leads to.
func (g Glob) enter(p *places, at uint16) {
	for !p.has(at) {
		p.list[p.n] = at
		p.n++
		p.bits[at/64] |= 1 << (at % 64)
		if int(at) == len(g.steps) || g.steps[at].kind < run {
			return
		}
		at++
	}
}

// places is a set of places in a pattern.
type places struct {
	list [MaxBytes + 1]uint16
	n    int
	bits [MaxBytes/64 + 1]uint64
}

func (p *places) has(at uint16) bool { return p.bits[at/64]&(1<<(at%64)) != 0 }

func (p *places) clear() { p.n, p.bits = 0, [len(p.bits)]uint64{} }

// List is globs together.
type List struct{ includes, excludes []Glob }

// Add adds one.
func (l *List) Add(g Glob) {
	if g.Exclude {
		l.excludes = append(l.excludes, g)
	} else {
		l.includes = append(l.includes, g)
	}
}

// Match reports whether a name passes: one glob that includes it, if there are any
// such, and none that excludes it.
func (l List) Match(name string) bool {
	for _, g := range l.excludes {
		if g.Match(name) {
			return false
		}
	}
	for _, g := range l.includes {
		if g.Match(name) {
			return true
		}
	}
	return len(l.includes) == 0
}
