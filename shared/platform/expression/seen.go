package expression

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

const (
	maxSeen     = 10  // values that are shown of a part
	maxSeenText = 256 // bytes of one
	maxSeenList = 50  // elements of a list
)

// Seen is a value that a part looked at.
type Seen struct {
	Name  string // as it is written in the part
	Value string // as JSON, cut
}

// saw lists the values behind the paths that begin with a variable.
func (t *Tree) saw(details *cel.EvalDetails) []Seen {
	var out []Seen
	if details == nil || details.State() == nil {
		return nil
	}
	var look func(e ast.NavigableExpr)
	look = func(e ast.NavigableExpr) {
		if len(out) == maxSeen {
			return
		}
		if t.language.isPath(e) {
			name, err := write(e, t.checked.NativeRep().SourceInfo())
			value, found := details.State().Value(e.ID())
			known := slices.ContainsFunc(out, func(s Seen) bool { return s.Name == name })
			if err != nil || !found || known || types.IsUnknownOrError(value) {
				return
			}
			if text, ok := show(value); ok {
				out = append(out, Seen{name, text})
			}
			return
		}
		for _, c := range e.Children() {
			look(c)
		}
	}
	look(ast.NavigateAST(t.checked.NativeRep()))
	return out
}

// isPath reports whether e is a variable, or what fields and literal keys lead to
// from one.
func (l *Language) isPath(e ast.Expr) bool {
	switch e.Kind() {
	case ast.IdentKind:
		return slices.ContainsFunc(l.from.Variables, func(v Variable) bool { return v.Name == e.AsIdent() })
	case ast.SelectKind:
		return !e.AsSelect().IsTestOnly() && l.isPath(e.AsSelect().Operand())
	case ast.CallKind:
		call := e.AsCall()
		return call.FunctionName() == operators.Index && l.isPath(call.Args()[0]) && call.Args()[1].Kind() == ast.LiteralKind
	}
	return false
}

// show writes a value as JSON; ok is false for an object as a whole.
func show(v ref.Val) (text string, ok bool) {
	if _, whole := v.(Object); whole {
		return "", false
	}
	b, err := json.Marshal(plain(v, 0))
	if err != nil {
		return "", false
	}
	text = string(b)
	if len(text) > maxSeenText {
		text = strings.ToValidUTF8(text[:maxSeenText], "") + "…"
	}
	return text, true
}

// plain is v in Go's own types, as far as it will be shown.
func plain(v ref.Val, depth int) any {
	if depth > 5 {
		return "…"
	}
	switch v := v.(type) {
	case types.Bool, types.Int, types.Uint, types.Double, types.String:
		return v.Value()
	case types.Null:
		return nil
	case types.Timestamp:
		return v.Time.UTC().Format(time.RFC3339)
	case types.Duration:
		return v.Duration.String()
	case traits.Lister:
		out := []any{}
		for it := v.Iterator(); it.HasNext() == types.True && len(out) < maxSeenList; {
			out = append(out, plain(it.Next(), depth+1))
		}
		return out
	case traits.Mapper:
		out := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True && len(out) < maxSeenList; {
			k := it.Next()
			if key, ok := k.Value().(string); ok {
				out[key] = plain(v.Get(k), depth+1)
			}
		}
		return out
	}
	return v.Type().TypeName()
}
