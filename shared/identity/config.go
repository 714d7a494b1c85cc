package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// Sealed stands in a shown configuration for a value that is kept secret. Sent
// back, it means: as it was.
const Sealed = "[sealed]"

// Invalid says what is wrong with a field of a configuration, named as "config/issuer".
func Invalid(pointer, detail string) error {
	return &fault.Error{
		Kind: fault.Invalid, Message: pointer + " " + detail,
		Fields: []fault.Field{{Pointer: "/" + pointer, Detail: detail}},
	}
}

// DecodeConfig reads a configuration strictly: an option that is misspelt must not be
// silently without effect.
func DecodeConfig(in json.RawMessage, into any) error {
	if text := bytes.TrimSpace(in); len(text) == 0 || string(text) == "null" {
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

// Read reads what a verifier is made of.
func (o Opening) Read(config, secrets any) error {
	if json.Unmarshal(o.Provider.Config, config) != nil || o.Secrets != nil && json.Unmarshal(o.Secrets, secrets) != nil {
		return errors.New("the configuration cannot be read") // and no more: it holds secrets
	}
	return nil
}

// Shown is text from a proof as it may stand in a message: printable, and not long.
func Shown(text string) string {
	const most = 100
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return `"` + text + `"`
}
