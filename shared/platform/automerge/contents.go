package automerge

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// JSON returns what the document holds as map[string]any, []any, string, bool,
// nil and json.Number, with values that JSON lacks as in patches. It is meant for
// tests and checks: its cost is that of the whole document.
func (d *Doc) JSON() any { return d.contents(d.root) }

// MarshalJSON writes what JSON returns.
func (d *Doc) MarshalJSON() ([]byte, error) { return json.Marshal(d.JSON()) }

func (d *Doc) contents(o *object) any {
	show := func(s *slot) any {
		w := s.winner()
		if _, ok := w.value().object(); ok {
			return d.contents(d.objects[w.id])
		}
		return plain(w.value())
	}
	switch o.typ {
	case typeText:
		return o.text()
	case typeList:
		out := []any{}
		o.seq.each(func(_ opID, s *slot) { out = append(out, show(s)) })
		return out
	default:
		out := map[string]any{}
		for k, s := range o.keys {
			out[k] = show(s)
		}
		return out
	}
}

// plain is a scalar as encoding/json would read it, numbers in full.
func plain(v value) any {
	switch text := string(appendValue(nil, v)); v.kind {
	case kindNull:
		return nil
	case kindFalse, kindTrue:
		return v.kind == kindTrue
	case kindString:
		return v.str
	case kindUint, kindInt, kindCounter:
		return json.Number(text)
	case kindFloat:
		if text[0] == '{' {
			return map[string]any{"float": text[len(`{"float":"`) : len(text)-len(`"}`)]}
		}
		return json.Number(text)
	case kindTimestamp:
		return map[string]any{"timestamp": json.Number(strconv.FormatInt(int64(v.num), 10))}
	default:
		return map[string]any{"bytes": base64.StdEncoding.EncodeToString([]byte(v.str))}
	}
}

func (o *object) sortedKeys() []string { return slices.Sorted(maps.Keys(o.keys)) }

// text is the text of a text object, with a mark in the place of blocks.
func (o *object) text() string {
	var b strings.Builder
	o.seq.each(func(_ opID, s *slot) { b.WriteString(s.winner().value().text()) })
	return b.String()
}

// each calls f for the visible elements in order. The slot is not kept.
func (s *sequence) each(f func(opID, *slot)) {
	for _, b := range s.blocks {
		for i, id := range b.ids {
			if v := b.values(i); v.winner() != nil {
				f(id, v)
			}
		}
	}
}

// values returns the values of an element for reading.
func (b *block) values(i int) *slot {
	switch e := b.els[i]; {
	case e.slot != nil:
		return e.slot
	case e.char >= 0:
		return &slot{ops: []entry{b.plain(i)}}
	default:
		return &slot{}
	}
}
