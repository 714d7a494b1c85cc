package filter

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
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
	ordinary   = 64  // what any length is taken for in an estimate
	maxMessage = 200 // bytes of an error's text
)

// ErrCost is returned by Match for an event on which the expression costs more
// than MaxCost, or whose message or patches are too long to be looked at.
var ErrCost = errors.New("filter: the expression costs too much on this event")

// building are the functions of the strings extension whose result can be far
// longer than what they are given.
var building = map[string]string{
	"replace": "replace", "join": "join", "format": "format", "strings.quote": "strings.quote",
}

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
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		if first.Location.Line() < 1 {
			return nil, errors.New(short(first.Message))
		}
		return nil, fmt.Errorf("%d:%d: %s", first.Location.Line(), first.Location.Column()+1, short(first.Message))
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
		case building[name] != "":
			refuse(e, name+" cannot be used here: a filter looks at an event and builds nothing")
		case name == "matches" && call.Args()[len(call.Args())-1].Kind() != ast.LiteralKind:
			refuse(e, "matches takes a regular expression in quotes here")
		case name == operators.Add && !isNumeric(checked.GetType(e.ID())) && !collects(call):
			refuse(e, "+ is for numbers and times here: a filter looks at an event and builds nothing")
		}
	}))
	return found
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

// ordinaryEvent answers what the estimate asks: how long is this?
type ordinaryEvent struct{}

func (ordinaryEvent) EstimateSize(cost.AstNode) *cost.SizeEstimate {
	return &cost.SizeEstimate{Min: 0, Max: ordinary}
}

func (ordinaryEvent) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// meter charges for what CEL takes to be of constant cost and is not: comparing
// lists goes into their elements, and most functions read all of a string.
type meter struct{}

func (meter) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	bytes := 0
	switch function {
	case "matches":
		return nil // CEL's own charge: both lengths, multiplied
	case operators.Equals, operators.NotEquals, operators.In:
		for _, a := range args {
			bytes += weight(a)
		}
	default:
		for _, a := range args {
			if s, ok := a.(types.String); ok {
				bytes += len(s)
			}
		}
	}
	charge := uint64(1 + bytes/10)
	return &charge
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
