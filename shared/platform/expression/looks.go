package expression

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// building are the functions of the strings extension whose result can be far
// longer than what they are given.
var building = []string{"replace", "join", "format", "strings.quote"}

// looksOnly refuses what builds values: their size would not be bounded by the
// input's, and a step is charged only when it has been done.
func (l *Language) looksOnly(checked *ast.AST) error {
	var found error
	refuse := func(e ast.Expr, detail string) {
		if found == nil {
			at := checked.SourceInfo().GetStartLocation(e.ID())
			found = fmt.Errorf("%d:%d: %s", at.Line(), at.Column()+1, detail)
		}
	}
	ast.PreOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.StructKind {
			refuse(e, "objects cannot be made here")
		}
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		switch name := call.FunctionName(); {
		case slices.Contains(building, name):
			refuse(e, name+" cannot be used here: "+l.from.Says)
		case name == "matches" && !quoted(call.Args()[len(call.Args())-1], MaxBytes):
			refuse(e, "matches takes a regular expression in quotes here")
		case (name == "indexOf" || name == "lastIndexOf") && !quoted(call.Args()[0], maxSought):
			refuse(e, fmt.Sprintf("%s takes at most %d bytes in quotes here", name, maxSought))
		case name == operators.Add && !isNumeric(checked.GetType(e.ID())) && !collects(call):
			refuse(e, "+ is for numbers and times here: "+l.from.Says)
		}
	}))
	return found
}

// quoted reports whether e is text of at most so many bytes, known now. Some
// functions take the product of two lengths in one step, and of that one may not
// be the event's.
func quoted(e ast.Expr, most int) bool {
	if e.Kind() != ast.LiteralKind {
		return false
	}
	text, ok := e.AsLiteral().(types.String)
	return ok && len(text) <= most
}

func isNumeric(t *types.Type) bool {
	switch t.Kind() {
	case types.IntKind, types.UintKind, types.DoubleKind, types.TimestampKind, types.DurationKind:
		return true
	}
	return false
}

// collects reports whether this is how the macro filter gathers its result.
func collects(call ast.CallExpr) bool {
	first := call.Args()[0]
	return first.Kind() == ast.IdentKind && first.AsIdent() == "@result"
}
