package driver

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// DecodeConfig reads a configuration strictly: an option that is misspelt must
// not be silently without effect.
func DecodeConfig(in json.RawMessage, into any) error {
	if len(bytes.TrimSpace(in)) == 0 || string(bytes.TrimSpace(in)) == "null" {
		in = json.RawMessage("{}")
	}
	err := web.DecodeJSON(in, into)
	f := fault.Of(err)
	if f == nil {
		return err
	}
	inside := *f
	inside.Message, inside.Fields = "config: "+f.Message, slices.Clone(f.Fields)
	for i := range inside.Fields {
		inside.Fields[i].Pointer = "/config" + inside.Fields[i].Pointer
	}
	return &inside
}

// Prior reads the secrets that were sealed before; there may be none.
func Prior(prior []byte, into any) error {
	if prior == nil {
		return nil
	}
	if json.Unmarshal(prior, into) != nil {
		return errors.New("the sink's secrets cannot be read")
	}
	return nil
}

// Read reads what a driver is made of.
func (o Opening) Read(config, secrets any) error {
	if json.Unmarshal(o.Config, config) != nil || o.Secrets != nil && json.Unmarshal(o.Secrets, secrets) != nil {
		return errors.New("the configuration cannot be read") // and no more: it holds secrets
	}
	return nil
}

// Invalid says what is wrong with a field of a configuration, named as "config/url".
func Invalid(pointer, detail string) error {
	return &fault.Error{
		Kind: fault.Invalid, Message: pointer + " " + detail,
		Fields: []fault.Field{{Pointer: "/" + pointer, Detail: detail}},
	}
}

// IsPlain reports whether c may stand in any broker's name for a thing: letters,
// digits, '-' and '_'.
func IsPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// TestApp stands where a formation's name would, for events that are of none. No
// formation can have this name.
const TestApp = "_test"

// AuditApp and AuditDocument stand for a formation and a document in events of the
// organization's audit trail, which is one sequence. No formation can have this name.
const (
	AuditApp      = "_audit"
	AuditDocument = "audit"
)
