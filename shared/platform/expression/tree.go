package expression

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/parser"
)

// MaxParts is how many parts a tree may have that are not put together of others.
const MaxParts = 100

// Tree is an expression that is divided at its && and ||, so that it can be seen which
// part was false. It comes to what the expression as a whole comes to.
type Tree struct {
	Text     string
	Operator string // && or ||; empty for a part that is not divided
	Of       []*Tree

	language *Language
	checked  *cel.Ast
	leaf     *Expression
}

// Divide makes an expression ready as a tree. What Compile refuses it refuses, and
// an expression of more than MaxParts parts.
func (l *Language) Divide(text string) (*Tree, error) {
	checked, err := l.check(text)
	if err != nil {
		return nil, err
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("must be true or false, and is %s", out)
	}
	leaves := 0
	tree, err := l.divide(checked.NativeRep().Expr(), checked.NativeRep().SourceInfo(), &leaves)
	if leaves > MaxParts {
		return nil, fmt.Errorf("has more than %d parts; use lists", MaxParts)
	}
	if err == nil {
		return tree, nil
	}
	// A part may not be writable by itself, for example because it is longer when it is
	// written out. The whole will do.
	whole := &Tree{Text: strings.TrimSpace(text), language: l, checked: checked}
	whole.leaf, err = l.program(checked, cel.OptOptimize)
	return whole, err
}

func (l *Language) divide(e ast.Expr, info *ast.SourceInfo, leaves *int) (*Tree, error) {
	if e.Kind() == ast.CallKind {
		switch name := e.AsCall().FunctionName(); name {
		case operators.LogicalAnd, operators.LogicalOr:
			t := &Tree{Operator: "&&"}
			if name == operators.LogicalOr {
				t.Operator = "||"
			}
			for _, arg := range e.AsCall().Args() {
				part, err := l.divide(arg, info, leaves)
				if err != nil {
					return nil, err
				}
				if part.Operator == t.Operator { // the parser balances long chains
					t.Of = append(t.Of, part.Of...)
				} else {
					t.Of = append(t.Of, part)
				}
			}
			text, err := write(e, info)
			t.Text = text
			return t, err
		}
	}
	if *leaves++; *leaves > MaxParts {
		return nil, errors.New("too many parts")
	}
	text, err := write(e, info)
	if err != nil {
		return nil, err
	}
	t := &Tree{Text: text, language: l}
	if t.checked, err = l.check(text); err != nil {
		return nil, err
	}
	t.leaf, err = l.program(t.checked, cel.OptOptimize)
	return t, err
}

// write writes an expression in one line.
func write(e ast.Expr, info *ast.SourceInfo) (string, error) {
	return parser.Unparse(e, info, parser.WrapOnColumn(math.MaxInt32))
}

// Result is what a part came to.
type Result int

// The results.
const (
	Skipped Result = iota // nothing depended on it
	True
	False
	Failed
)

// Outcome is what a tree came to on one input.
type Outcome struct {
	*Tree
	Result Result
	Err    error  // of what failed; its text may quote the input
	Saw    []Seen // only from Explain
	Of     []Outcome
}

// Budget is how much evaluations may cost yet, together. What would go beyond fails
// with ErrCost, after one step too many at most.
type Budget struct{ Left uint64 }

func (b *Budget) spend(details *cel.EvalDetails) {
	cost := details.ActualCost()
	if cost == nil || *cost >= b.Left {
		b.Left = 0
		return
	}
	b.Left -= *cost
}

// Judge evaluates what is needed for the result.
func (t *Tree) Judge(in cel.Activation, b *Budget) Outcome { return t.judge(in, b, false) }

// Explain evaluates every part, and says what each looked at.
func (t *Tree) Explain(in cel.Activation, b *Budget) Outcome { return t.judge(in, b, true) }

func (t *Tree) judge(in cel.Activation, b *Budget, all bool) Outcome {
	if t.Operator == "" {
		return t.judgeLeaf(in, b, all)
	}
	// As CEL has it: one false makes && false, whatever else fails.
	decisive, otherwise := False, True
	if t.Operator == "||" {
		decisive, otherwise = True, False
	}
	out := Outcome{Tree: t, Result: otherwise, Of: make([]Outcome, len(t.Of))}
	for i, part := range t.Of {
		if out.Result == decisive && !all {
			out.Of[i] = Outcome{Tree: part}
			continue
		}
		o := part.judge(in, b, all)
		out.Of[i] = o
		switch {
		case o.Result == decisive:
			out.Result, out.Err = decisive, nil
		case o.Result == Failed && out.Result != decisive && out.Err == nil:
			out.Result, out.Err = Failed, o.Err
		}
	}
	return out
}

func (t *Tree) judgeLeaf(in cel.Activation, b *Budget, all bool) Outcome {
	out := Outcome{Tree: t, Result: Failed, Err: ErrCost}
	if b.Left == 0 {
		return out
	}
	leaf := t.leaf
	if all {
		var err error
		if leaf, err = t.language.program(t.checked, cel.OptTrackState); err != nil {
			out.Err = err
			return out
		}
	}
	verdict, details, err := leaf.judge(in)
	b.spend(details)
	if all {
		out.Saw = t.saw(details)
	}
	switch {
	case err != nil:
		out.Err = err
	case verdict:
		out.Result, out.Err = True, nil
	default:
		out.Result, out.Err = False, nil
	}
	return out
}

// Why says which part made the outcome what it is, in the expression's own words and
// none of the input's. It is empty for what is true.
func (o Outcome) Why() string {
	switch {
	case o.Result == True || o.Result == Skipped:
		return ""
	case o.Operator == "||" && o.Result == False:
		return "none of " + Short(o.Text) + " is true"
	case o.Operator != "":
		for _, part := range o.Of {
			if part.Result == o.Result {
				return part.Why()
			}
		}
		return ""
	case o.Result == False:
		return Short(o.Text) + " is false"
	case errors.Is(o.Err, ErrCost):
		return Short(o.Text) + " costs too much"
	}
	return Short(o.Text) + " cannot be evaluated"
}
