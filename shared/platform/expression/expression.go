// Package expression judges by expressions in CEL (the Common Expression Language)
// that anybody may write: bounded in length, in cost and in what they can build. What
// an expression sees is declared by who uses it.
//
//	expression.go  a language and its expressions
//	looks.go       what may not be said in it
//	cost.go        what a step is charged with
//	object.go      values whose fields are computed when they are asked for
//	tree.go        an expression that is divided, to see which part was false
//
// # What it may cost
//
// An expression looks at its input and cannot build anything larger: no macro map,
// no + but for numbers and times, no replace, join or format. This bounds memory,
// which CEL's cost, charged after each step, does not. Loops nest twice at most,
// regular expressions are literals of bounded size, and a cost that is estimated
// for an ordinary input, and counted for each, does the rest.
package expression

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"
)

// Limits of an expression. A unit of cost is about a step of the evaluation, or
// ten bytes looked at.
const (
	MaxBytes = 4096
	MaxCost  = 100_000 // for one input, and estimated for an ordinary one

	maxNodes   = 1000 // after macros are expanded
	maxDepth   = 50
	maxLoops   = 2   // within each other
	maxRegex   = 256 // instructions of a compiled regular expression
	maxSought  = 256 // bytes that indexOf looks for
	ordinary   = 64  // what any length is taken for in an estimate
	maxMessage = 200 // bytes of an error's text
)

// ErrCost means that an expression costs more than MaxCost on this input.
var ErrCost = errors.New("the expression costs too much")

// Setup is what the expressions of one purpose see.
type Setup struct {
	Variables []Variable
	Types     []*Type
	More      []cel.EnvOption // functions beside those on text
	// Says ends the refusal of what builds values: "a filter looks at an event and
	// builds nothing". Ordinary is what the estimate of the cost is for: "an event with
	// 64 patches".
	Says, Ordinary string
}

// Variable is a name that expressions know.
type Variable struct {
	Name string
	Type *cel.Type
}

// Language is what expressions are written in. Making one takes a millisecond.
type Language struct {
	env  *cel.Env
	from Setup
}

// New returns the language of a purpose.
func New(s Setup) (*Language, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	options := []cel.EnvOption{
		cel.CustomTypeProvider(provider{registry, s.Types}),
		cel.CustomTypeAdapter(registry),
		cel.ClearMacros(),
		cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.FilterMacro),
		ext.Strings(ext.StringsVersion(5)),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableHiddenAccumulatorName(true), // or an expression could reach into a loop's workings
		cel.ParserExpressionSizeLimit(MaxBytes),
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
	}
	for _, v := range s.Variables {
		options = append(options, cel.Variable(v.Name, v.Type))
	}
	env, err := cel.NewEnv(append(options, s.More...)...)
	return &Language{env, s}, err
}

// Expression is true or false of an input. It may be used by several goroutines at
// once.
type Expression struct{ program cel.Program }

// Compile makes an expression ready, or says in words that follow its name what is
// wrong with it.
func (l *Language) Compile(text string) (*Expression, error) {
	checked, err := l.check(text)
	if err != nil {
		return nil, err
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("must be true or false, and is %s", out)
	}
	return l.program(checked, cel.OptOptimize)
}

// check reads an expression and holds it to the limits.
func (l *Language) check(text string) (*cel.Ast, error) {
	switch {
	case len(text) > MaxBytes:
		return nil, fmt.Errorf("is longer than %d bytes", MaxBytes)
	case !utf8.ValidString(text):
		return nil, errors.New("is not UTF-8")
	}
	// Not env.Compile, nor issues.Err: they show the source again with every error,
	// and there may be a hundred.
	parsed, issues := l.env.Parse(text)
	if err := first(issues); err != nil {
		return nil, err
	}
	checked, issues := l.env.Check(parsed)
	if err := first(issues); err != nil {
		return nil, err
	}
	if err := l.looksOnly(checked.NativeRep()); err != nil {
		return nil, err
	}
	estimate, err := l.env.EstimateCost(checked, ordinaryInput{})
	if err != nil {
		return nil, errors.New(Short(err.Error()))
	}
	if estimate.Max > MaxCost {
		return nil, fmt.Errorf("may cost more than %d steps on %s; nest fewer loops", MaxCost, l.from.Ordinary)
	}
	return checked, nil
}

func (l *Language) program(checked *cel.Ast, how cel.EvalOption) (*Expression, error) {
	program, err := l.env.Program(checked, cel.EvalOptions(how), cel.CostTracking(meter{}), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, errors.New(Short(err.Error()))
	}
	return &Expression{program}, nil
}

// first returns the first of the issues, with its line and column if it has a place.
func first(issues *cel.Issues) error {
	all := issues.Errors()
	if len(all) == 0 {
		return nil
	}
	at, text := all[0].Location, Short(all[0].Message)
	if at.Line() < 1 {
		return errors.New(text)
	}
	return fmt.Errorf("%d:%d: %s", at.Line(), at.Column()+1, text)
}

// Judge evaluates the expression on an input, which resolves the variables. With an
// error there is no verdict: ErrCost, or one whose text may quote the input.
func (e *Expression) Judge(in cel.Activation) (bool, error) {
	verdict, _, err := e.judge(in)
	return verdict, err
}

// judge is Judge with what was evaluated.
func (e *Expression) judge(in cel.Activation) (bool, *cel.EvalDetails, error) {
	out, details, err := e.program.Eval(in)
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled):
		return false, details, ErrCost
	case err != nil:
		return false, details, errors.New(Short(err.Error()))
	}
	verdict, ok := out.Value().(bool)
	if !ok {
		return false, details, fmt.Errorf("the expression gives a %s", out.Type().TypeName())
	}
	return verdict, details, nil
}

// Short makes one line of an error's text, cut.
func Short(text string) string {
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
