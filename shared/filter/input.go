package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Limits of what an expression may look at. Beyond them there is no verdict.
const (
	MaxPatchesBytes = 256 << 10
	MaxMessageBytes = 64 << 10
)

// input is one event, as CEL asks for it: nothing is converted unasked.
type input struct {
	key     tenant.Key
	c       *change.Settled
	patches ref.Val // once asked for
	tooLong bool    // something was asked for that is over its limit
}

// Parent makes input a cel.Activation.
func (*input) Parent() cel.Activation { return nil }

// ResolveName finds a variable.
func (in *input) ResolveName(name string) (any, bool) {
	switch name {
	case "event":
		return object{eventType, in}, true
	case "time":
		return types.Timestamp{Time: in.c.ReceivedAt.UTC()}, true
	case "patches":
		if in.patches == nil {
			in.patches = in.decodePatches()
		}
		return in.patches, true
	}
	return nil, false
}

var errTooLong = errors.New("too long to be looked at")

func (in *input) decodePatches() ref.Val {
	if len(in.c.Patches) == 0 {
		return types.NewRefValList(types.DefaultTypeAdapter, nil)
	}
	if len(in.c.Patches) > MaxPatchesBytes {
		in.tooLong = true
		return types.WrapErr(errTooLong)
	}
	var list []map[string]any
	d := json.NewDecoder(bytes.NewReader(in.c.Patches))
	d.UseNumber() // positions and counters may be beyond a float64's exact integers
	if err := d.Decode(&list); err != nil {
		return types.WrapErr(fmt.Errorf("patches cannot be read: %w", err))
	}
	out := make([]ref.Val, len(list))
	for i, p := range list {
		for k, v := range p {
			p[k] = numbers(v)
		}
		out[i] = object{patchType, p}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

// numbers returns v with its numbers as int64, or else as uint64 or float64.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if whole, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return whole
		}
		if whole, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return whole
		}
		float, _ := v.Float64() // infinite if too large, which compares as it should
		return float
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

// objectType is a type of CEL with fields that are computed when they are asked for.
type objectType struct {
	*types.Type
	fields map[string]field
}

type field struct {
	*types.Type
	get func(target any) (any, error)
	set func(target any) bool // for has(); nil is always
}

// ofEvent makes a field of event.
func ofEvent(t *types.Type, get func(*input) any) field {
	return field{t, func(target any) (any, error) { return get(target.(*input)), nil }, nil}
}

// ofPatch makes a field of a patch, with what it is if the patch has none.
func ofPatch(name string, t *types.Type, none any) field {
	return field{
		t,
		func(target any) (any, error) {
			if v, ok := target.(map[string]any)[name]; ok {
				return v, nil
			}
			return none, nil
		},
		func(target any) bool { _, ok := target.(map[string]any)[name]; return ok },
	}
}

// eventType has the fields of event.DocumentData under their names there, but not
// what a sink's own settings change (prev, patches, change).
var eventType = &objectType{Type: cel.ObjectType("peat.Event"), fields: map[string]field{
	"org_id":         ofEvent(cel.StringType, func(in *input) any { return types.String(in.key.Org) }),
	"app_id":         ofEvent(cel.StringType, func(in *input) any { return types.String(in.key.App) }),
	"document_id":    ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Document) }),
	"change_hash":    ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Hash.String()) }),
	"deps":           ofEvent(cel.ListType(cel.StringType), deps),
	"actor_id":       ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Actor) }),
	"actor_seq":      ofEvent(cel.IntType, func(in *input) any { return whole(in.c.ActorSeq) }),
	"start_op":       ofEvent(cel.IntType, func(in *input) any { return whole(in.c.StartOp) }),
	"timestamp_ms":   ofEvent(cel.IntType, func(in *input) any { return types.Int(in.c.TimestampMS()) }),
	"message":        {Type: cel.StringType, get: message},
	"seq":            ofEvent(cel.IntType, func(in *input) any { return whole(in.c.Seq) }),
	"concurrent":     ofEvent(cel.BoolType, func(in *input) any { return types.Bool(in.c.Concurrent) }),
	"position":       ofEvent(cel.IntType, func(in *input) any { return whole(in.c.Position) }),
	"received_at_ms": ofEvent(cel.IntType, func(in *input) any { return types.Int(in.c.ReceivedAt.UnixMilli()) }),
	"origin":         ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Origin) }),
}}

// patchType has what any patch may have; see PATCHES.md of platform/automerge.
var patchType = &objectType{Type: cel.ObjectType("peat.Patch"), fields: map[string]field{
	"action":    ofPatch("action", cel.StringType, ""),
	"path":      ofPatch("path", cel.ListType(cel.DynType), []any{}),
	"value":     ofPatch("value", cel.DynType, types.NullValue),
	"values":    ofPatch("values", cel.ListType(cel.DynType), []any{}),
	"conflict":  ofPatch("conflict", cel.BoolType, false),
	"conflicts": ofPatch("conflicts", cel.ListType(cel.DynType), []any{}),
	"length":    ofPatch("length", cel.IntType, int64(1)),
	"marks":     ofPatch("marks", cel.DynType, types.NullValue),
}}

func deps(in *input) any {
	out := make([]string, len(in.c.Deps))
	for i, h := range in.c.Deps {
		out[i] = h.String()
	}
	return types.NewStringList(types.DefaultTypeAdapter, out)
}

func message(target any) (any, error) {
	in := target.(*input)
	if len(in.c.Message) > MaxMessageBytes {
		in.tooLong = true
		return nil, errTooLong
	}
	return types.String(in.c.Message), nil
}

// whole makes a number of CEL's usual kind, which literals have, of one that an
// author may have chosen beyond it.
func whole(n uint64) types.Int { return types.Int(min(n, math.MaxInt64)) }

// object is a value of an objectType.
type object struct {
	kind   *objectType
	target any // *input or a decoded patch
}

func (o object) Type() ref.Type { return o.kind.Type }
func (o object) Value() any     { return o.target }

func (o object) Equal(other ref.Val) ref.Val {
	p, ok := other.(object)
	return types.Bool(ok && o.kind == p.kind && reflect.DeepEqual(o.target, p.target))
}

func (o object) ConvertToNative(want reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s cannot become %s", o.kind.TypeName(), want)
}

func (o object) ConvertToType(want ref.Type) ref.Val {
	if want == types.TypeType {
		return o.kind.Type
	}
	return types.NewErr("%s cannot become %s", o.kind.TypeName(), want.TypeName())
}

// Get reads a field where the checker did not know the type.
func (o object) Get(name ref.Val) ref.Val {
	key, _ := name.(types.String)
	f, ok := o.kind.fields[string(key)]
	if !ok {
		return types.NewErr("no field %q", string(key))
	}
	v, err := f.get(o.target)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

// provider knows the types of an event beside CEL's own.
type provider struct{ *types.Registry }

func (provider) find(name string) *objectType {
	for _, t := range []*objectType{eventType, patchType} {
		if t.TypeName() == name {
			return t
		}
	}
	return nil
}

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if t := p.find(name); t != nil {
		return types.NewTypeTypeWithParam(t.Type), true
	}
	return p.Registry.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	t := p.find(name)
	if t == nil {
		return p.Registry.FindStructFieldNames(name)
	}
	var names []string
	for n := range t.fields {
		names = append(names, n)
	}
	return names, true
}

func (p provider) FindStructFieldType(name, of string) (*types.FieldType, bool) {
	t := p.find(name)
	if t == nil {
		return p.Registry.FindStructFieldType(name, of)
	}
	f, ok := t.fields[of]
	if !ok {
		return nil, false
	}
	isSet := f.set
	if isSet == nil {
		isSet = func(any) bool { return true }
	}
	return &types.FieldType{Type: f.Type, IsSet: isSet, GetFrom: f.get}, true
}
