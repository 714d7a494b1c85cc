package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/platform/expression"
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
		return expression.Object{Kind: eventType, Target: in}, true
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
			p[k] = expression.Numbers(v)
		}
		out[i] = expression.Object{Kind: patchType, Target: p}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

// ofEvent makes a field of event.
func ofEvent(t *types.Type, get func(*input) any) expression.Field {
	return expression.Field{Type: t, Get: func(target any) (any, error) { return get(target.(*input)), nil }}
}

// ofPatch makes a field of a patch, with what it is if the patch has none.
func ofPatch(name string, t *types.Type, none any) expression.Field {
	return expression.Field{
		Type: t,
		Get: func(target any) (any, error) {
			if v, ok := target.(map[string]any)[name]; ok {
				return v, nil
			}
			return none, nil
		},
		Set: func(target any) bool { _, ok := target.(map[string]any)[name]; return ok },
	}
}

// eventType has the fields of event.DocumentData under their names there, but not
// what a sink's own settings change (prev, patches, change).
var eventType = &expression.Type{Type: cel.ObjectType("peat.Event"), Fields: map[string]expression.Field{
	"org_id":         ofEvent(cel.StringType, func(in *input) any { return types.String(in.key.Org) }),
	"app_id":         ofEvent(cel.StringType, func(in *input) any { return types.String(in.key.App) }),
	"document_id":    ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Document) }),
	"change_hash":    ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Hash.String()) }),
	"deps":           ofEvent(cel.ListType(cel.StringType), deps),
	"actor_id":       ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Actor) }),
	"actor_seq":      ofEvent(cel.IntType, func(in *input) any { return whole(in.c.ActorSeq) }),
	"start_op":       ofEvent(cel.IntType, func(in *input) any { return whole(in.c.StartOp) }),
	"timestamp_ms":   ofEvent(cel.IntType, func(in *input) any { return types.Int(in.c.TimestampMS()) }),
	"message":        {Type: cel.StringType, Get: message},
	"seq":            ofEvent(cel.IntType, func(in *input) any { return whole(in.c.Seq) }),
	"concurrent":     ofEvent(cel.BoolType, func(in *input) any { return types.Bool(in.c.Concurrent) }),
	"position":       ofEvent(cel.IntType, func(in *input) any { return whole(in.c.Position) }),
	"received_at_ms": ofEvent(cel.IntType, func(in *input) any { return types.Int(in.c.ReceivedAt.UnixMilli()) }),
	"origin":         ofEvent(cel.StringType, func(in *input) any { return types.String(in.c.Origin) }),
}}

// patchType has what any patch may have; see PATCHES.md of platform/automerge.
var patchType = &expression.Type{Type: cel.ObjectType("peat.Patch"), Fields: map[string]expression.Field{
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
