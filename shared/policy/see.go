package policy

import (
	"encoding/json"
	"errors"
	"math"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
)

// language is made once: it is a constant that takes a millisecond to compute.
var language = sync.OnceValues(func() (*expression.Language, error) {
	return expression.New(expression.Setup{
		Types: []*expression.Type{claimsType, requestType},
		Variables: []expression.Variable{
			{Name: "claims", Type: claimsType.Type},
			{Name: "request", Type: requestType.Type},
			{Name: "now", Type: cel.TimestampType},
		},
		More:     []cel.EnvOption{ext.Network()},
		Says:     "a rule looks at claims and builds nothing",
		Ordinary: "claims with 64 groups",
	})
})

// input is one question, as CEL asks for it.
type input struct {
	claims     *identity.Claims
	request    *Request
	now        time.Time
	attributes ref.Val // once asked for
}

// Parent makes input a cel.Activation.
func (*input) Parent() cel.Activation { return nil }

// ResolveName finds a variable.
func (in *input) ResolveName(name string) (any, bool) {
	switch name {
	case "claims":
		return expression.Object{Kind: claimsType, Target: in}, true
	case "request":
		return expression.Object{Kind: requestType, Target: in}, true
	case "now":
		return types.Timestamp{Time: in.now.UTC()}, true
	}
	return nil, false
}

// text, list and moment make fields; each is there for has() if it is not empty.
func text(get func(*input) string) expression.Field {
	return expression.Field{
		Type: cel.StringType,
		Get:  func(t any) (any, error) { return types.String(get(t.(*input))), nil },
		Set:  func(t any) bool { return get(t.(*input)) != "" },
	}
}

func list(get func(*input) []string) expression.Field {
	return expression.Field{
		Type: cel.ListType(cel.StringType),
		Get:  func(t any) (any, error) { return types.NewStringList(types.DefaultTypeAdapter, get(t.(*input))), nil },
		Set:  func(t any) bool { return len(get(t.(*input))) > 0 },
	}
}

var errNoTime = errors.New("the provider does not say when")

// moment has no value where nobody said one: any that could stand for it would be
// long ago to one rule and long ahead to another.
func moment(get func(*input) time.Time) expression.Field {
	return expression.Field{
		Type: cel.TimestampType,
		Get: func(t any) (any, error) {
			at := get(t.(*input))
			if at.IsZero() {
				return nil, errNoTime
			}
			return types.Timestamp{Time: at.UTC()}, nil
		},
		Set: func(t any) bool { return !get(t.(*input)).IsZero() },
	}
}

// claimsType has the fields of identity.Claims, but not those that name the proof
// and its session.
var claimsType = &expression.Type{Type: cel.ObjectType("peat.Claims"), Fields: map[string]expression.Field{
	"provider": text(func(in *input) string { return in.claims.Provider }),
	"kind":     text(func(in *input) string { return string(in.claims.Kind) }),
	"issuer":   text(func(in *input) string { return in.claims.Issuer }),
	"subject":  text(func(in *input) string { return in.claims.Subject }),
	"groups":   list(func(in *input) []string { return in.claims.Groups }),
	"roles":    list(func(in *input) []string { return in.claims.Roles }),
	"acr":      text(func(in *input) string { return in.claims.ACR }),
	"amr":      list(func(in *input) []string { return in.claims.AMR }),
	"attributes": {
		Type: cel.MapType(cel.StringType, cel.DynType),
		Get: func(t any) (any, error) {
			in := t.(*input)
			if in.attributes == nil {
				in.attributes = types.NewStringInterfaceMap(types.DefaultTypeAdapter, known(in.claims.Attributes))
			}
			return in.attributes, nil
		},
		Set: func(t any) bool { return len(t.(*input).claims.Attributes) > 0 },
	},
	"authenticated_at": moment(func(in *input) time.Time { return in.claims.AuthenticatedAt }),
	"expires_at":       moment(func(in *input) time.Time { return in.claims.ExpiresAt }),
}}

var requestType = &expression.Type{Type: cel.ObjectType("peat.Request"), Fields: map[string]expression.Field{
	"app_id":            text(func(in *input) string { return string(in.request.Key.App) }),
	"enrollment_policy": text(func(in *input) string { return string(in.request.Enrollment) }),
	"node_id":           text(func(in *input) string { return in.request.NodeID }),
	"tier":              text(func(in *input) string { return enrollment.TierName(in.request.Wants.Tier) }),
	"permissions":       list(func(in *input) []string { return enrollment.PermissionNames(in.request.Wants.Permissions) }),
	"address": text(func(in *input) string {
		if !in.request.Address.IsValid() {
			return ""
		}
		return in.request.Address.Unmap().WithZone("").String()
	}),
	"renewal": {Type: cel.BoolType, Get: func(t any) (any, error) { return types.Bool(t.(*input).request.Renewal), nil }},
}}

// known returns attributes as CEL compares them, whoever decoded them, and an error
// in the place of each that was not kept.
func known(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = attribute(v)
	}
	return out
}

func attribute(v any) any {
	if isWithheld(v) {
		return types.NewErr(notKept)
	}
	switch v := v.(type) {
	case map[string]any:
		return known(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = attribute(e)
		}
		return out
	case json.Number:
		return expression.Numbers(v)
	case float64:
		if whole := math.Trunc(v); whole == v && math.Abs(v) < 1<<53 {
			return int64(whole)
		}
	}
	return v
}

const notKept = "what this was is not kept"
