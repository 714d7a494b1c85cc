package filter

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a filter's globs.
const (
	MaxDocuments = 50  // globs of one filter
	MaxGlobBytes = 256 // of one glob
)

// glob is a pattern for whole document ids.
type glob struct {
	exclude bool
	prefix  string // before the first wildcard; most ids are told apart by it alone
	steps   []step // from the first wildcard on
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

func parseGlob(text string) (glob, error) {
	pattern, exclude := strings.CutPrefix(text, "!")
	switch {
	case len(text) > MaxGlobBytes:
		return glob{}, fmt.Errorf("is longer than %d bytes", MaxGlobBytes)
	case pattern == "":
		return glob{}, errors.New("is empty")
	case !utf8.ValidString(pattern):
		return glob{}, errors.New("is not UTF-8")
	}
	// Read as themselves they would disappoint whoever expects a class, silently.
	if i := strings.IndexAny(pattern, `[]{}\`); i >= 0 {
		return glob{}, fmt.Errorf("holds %q, which means nothing here; ? stands for any one character", pattern[i])
	}
	g := glob{exclude: exclude}
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

// match follows all ways to read the id at once, so its time is at most the
// product of both lengths, whatever the pattern.
func (g glob) match(id string) bool {
	rest, ok := strings.CutPrefix(id, g.prefix)
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
func (g glob) enter(p *places, at uint16) {
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
	list [MaxGlobBytes + 1]uint16
	n    int
	bits [MaxGlobBytes/64 + 1]uint64
}

func (p *places) has(at uint16) bool { return p.bits[at/64]&(1<<(at%64)) != 0 }

func (p *places) clear() { p.n, p.bits = 0, [len(p.bits)]uint64{} }
