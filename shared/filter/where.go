package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Limits of an expression. A unit of cost is about a step of the evaluation, or
// ten bytes looked at.
const (
	MaxWhereBytes = 4096
	MaxCost       = 100_000 // for one event, and estimated for an ordinary one

	maxNodes   = 1000 // after macros are expanded
	maxDepth   = 50
	maxLoops   = 2   // within each other
	maxRegex   = 256 // instructions of a compiled regular expression
	maxSought  = 256 // bytes that indexOf looks for
	ordinary   = 64  // what any length is taken for in an estimate
	maxMessage = 200 // bytes of an error's text
)

// ErrCost is returned by Match for an event on which the expression costs more
// than MaxCost, or whose message or patches are too long to be looked at.
var ErrCost = errors.New("filter: the expression costs too much on this event")

// building are the functions of the strings extension whose result can be far
// longer than what they are given.
var building = []string{"replace", "join", "format", "strings.quote"}

// environment is made once: it is a constant that takes a millisecond to compute.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	base, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	return cel.NewEnv(
		cel.CustomTypeProvider(provider{base}),
		cel.CustomTypeAdapter(base),
		cel.ClearMacros(),
		cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.FilterMacro),
		ext.Strings(ext.StringsVersion(5)),
		cel.Variable("event", eventType.Type),
		cel.Variable("patches", cel.ListType(patchType.Type)),
		cel.Variable("time", cel.TimestampType),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableHiddenAccumulatorName(true), // or an expression could reach into a loop's workings
		cel.ParserExpressionSizeLimit(MaxWhereBytes),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ExpressionNestingDepthLimit(maxDepth),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(
			cel.ValidateComprehensionNestingLimit(maxLoops),
			cel.ValidateRegexLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateDurationLiterals(),
		),
	)
})

type where struct{ program cel.Program }

func compileWhere(text string) (*where, error) {
	switch {
	case len(text) > MaxWhereBytes:
		return nil, fmt.Errorf("is longer than %d bytes", MaxWhereBytes)
	case !utf8.ValidString(text):
		return nil, errors.New("is not UTF-8")
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	// Not env.Compile, nor issues.Err: they show the source again with every error,
	// and there may be a hundred.
	parsed, issues := env.Parse(text)
	if err := first(issues); err != nil {
		return nil, err
	}
	checked, issues := env.Check(parsed)
	if err := first(issues); err != nil {
		return nil, err
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("must be true or false, and is %s", out)
	}
	if err := looksOnly(checked.NativeRep()); err != nil {
		return nil, err
	}
	estimate, err := env.EstimateCost(checked, ordinaryEvent{})
	if err != nil {
		return nil, errors.New(short(err.Error()))
	}
	if estimate.Max > MaxCost {
		return nil, fmt.Errorf("may cost more than %d steps on an event with %d patches; nest fewer loops", MaxCost, ordinary)
	}
	program, err := env.Program(checked,
		cel.EvalOptions(cel.OptOptimize), cel.CostTracking(meter{}), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, errors.New(short(err.Error()))
	}
	return &where{program}, nil
}

// first returns the first of the issues, with its line and column if it has a place.
func first(issues *cel.Issues) error {
	all := issues.Errors()
	if len(all) == 0 {
		return nil
	}
	at, text := all[0].Location, short(all[0].Message)
	if at.Line() < 1 {
		return errors.New(text)
	}
	return fmt.Errorf("%d:%d: %s", at.Line(), at.Column()+1, text)
}

func (w *where) match(key tenant.Key, c change.Settled) (bool, error) {
	in := &input{key: key, c: &c}
	out, _, err := w.program.Eval(in)
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled), err != nil && in.tooLong:
		return false, ErrCost
	case err != nil:
		return false, fmt.Errorf("filter: %s", short(err.Error()))
	}
	verdict, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("filter: the expression gives a %s", out.Type().TypeName())
	}
	return verdict, nil
}

// looksOnly refuses what builds values: their size would not be bounded by the
// input's, and a step is charged only when it has been done.
func looksOnly(checked *ast.AST) error {
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
			refuse(e, name+" cannot be used here: a filter looks at an event and builds nothing")
		case name == "matches" && !quoted(call.Args()[len(call.Args())-1], MaxWhereBytes):
			refuse(e, "matches takes a regular expression in quotes here")
		case (name == "indexOf" || name == "lastIndexOf") && !quoted(call.Args()[0], maxSought):
			refuse(e, fmt.Sprintf("%s takes at most %d bytes in quotes here", name, maxSought))
		case name == operators.Add && !isNumeric(checked.GetType(e.ID())) && !collects(call):
			refuse(e, "+ is for numbers and times here: a filter looks at an event and builds nothing")
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

// short makes one line of an error's text, cut.
func short(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "…"
}
