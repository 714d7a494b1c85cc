package expression

import (
	"reflect"

	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// ordinaryInput answers what the estimate asks: how long is this?
type ordinaryInput struct{}

func (ordinaryInput) EstimateSize(cost.AstNode) *cost.SizeEstimate {
	return &cost.SizeEstimate{Min: 0, Max: ordinary}
}

func (ordinaryInput) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
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

// weight is about how many bytes a comparison of v would look at.
func weight(v any) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case string:
		return len(v)
	case types.Bytes:
		return len(v)
	case Object:
		return weight(v.Target)
	case []ref.Val:
		sum := 8
		for _, e := range v {
			sum += weight(e)
		}
		return sum
	case []string:
		sum := 8
		for _, e := range v {
			sum += weight(e)
		}
		return sum
	case []any:
		sum := 8
		for _, e := range v {
			sum += weight(e)
		}
		return sum
	case map[string]any:
		sum := 8
		for k, e := range v {
			sum += len(k) + weight(e)
		}
		return sum
	case map[ref.Val]ref.Val:
		sum := 8
		for k, e := range v {
			sum += weight(k) + weight(e)
		}
		return sum
	case ref.Val:
		if inner := v.Value(); reflect.TypeOf(inner) != reflect.TypeOf(v) {
			return weight(inner)
		}
	}
	return 8
}
