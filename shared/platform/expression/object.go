package expression

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Type is a type of CEL with fields that are computed when they are asked for.
type Type struct {
	*types.Type
	Fields map[string]Field
}

// Field is a field of a Type. Target is what the Object is of.
type Field struct {
	*types.Type
	Get func(target any) (any, error)
	Set func(target any) bool // for has(); nil is always
}

// Object is a value of a Type.
type Object struct {
	Kind   *Type
	Target any
}

// Type, Value, Equal, ConvertToNative and ConvertToType make Object a ref.Val.

func (o Object) Type() ref.Type { return o.Kind.Type }
func (o Object) Value() any     { return o.Target }

func (o Object) Equal(other ref.Val) ref.Val {
	p, ok := other.(Object)
	return types.Bool(ok && o.Kind == p.Kind && reflect.DeepEqual(o.Target, p.Target))
}

func (o Object) ConvertToNative(want reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s cannot become %s", o.Kind.TypeName(), want)
}

func (o Object) ConvertToType(want ref.Type) ref.Val {
	if want == types.TypeType {
		return o.Kind.Type
	}
	return types.NewErr("%s cannot become %s", o.Kind.TypeName(), want.TypeName())
}

// Get reads a field where the checker did not know the type.
func (o Object) Get(name ref.Val) ref.Val {
	key, _ := name.(types.String)
	f, ok := o.Kind.Fields[string(key)]
	if !ok {
		return types.NewErr("no field %q", string(key))
	}
	v, err := f.Get(o.Target)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

// provider knows some types beside CEL's own.
type provider struct {
	*types.Registry
	types []*Type
}

func (p provider) find(name string) *Type {
	for _, t := range p.types {
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
	for n := range t.Fields {
		names = append(names, n)
	}
	return names, true
}

func (p provider) FindStructFieldType(name, of string) (*types.FieldType, bool) {
	t := p.find(name)
	if t == nil {
		return p.Registry.FindStructFieldType(name, of)
	}
	f, ok := t.Fields[of]
	if !ok {
		return nil, false
	}
	isSet := f.Set
	if isSet == nil {
		isSet = func(any) bool { return true }
	}
	return &types.FieldType{Type: f.Type, IsSet: isSet, GetFrom: f.Get}, true
}

// Numbers returns v with its numbers as int64, or else as uint64 or float64.
func Numbers(v any) any {
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
			v[i] = Numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = Numbers(v[k])
		}
	}
	return v
}
