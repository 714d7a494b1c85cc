package web

import (
	"bytes"
	"encoding/json"
)

// MergePatch changes an object as a patch says (RFC 7396): null removes a member,
// objects are merged, everything else replaces. It reports false if the patch is no
// object. A target that is none is taken for an empty one.
func MergePatch(target, patch json.RawMessage) (json.RawMessage, bool) {
	var into, from map[string]json.RawMessage
	if json.Unmarshal(patch, &from) != nil || from == nil {
		return nil, false
	}
	if json.Unmarshal(target, &into) != nil || into == nil {
		into = map[string]json.RawMessage{}
	}
	for name, value := range from {
		switch trimmed := bytes.TrimSpace(value); {
		case string(trimmed) == "null":
			delete(into, name)
		case len(trimmed) > 0 && trimmed[0] == '{':
			inside, ok := MergePatch(into[name], value)
			if !ok {
				return nil, false
			}
			into[name] = inside
		default:
			into[name] = value
		}
	}
	out, err := json.Marshal(into)
	return out, err == nil
}
