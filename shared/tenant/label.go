package tenant

import "github.com/defenseunicorns/peat-gateway/shared/platform/fault"

// MaxLabelBytes is the longest label, in bytes.
const MaxLabelBytes = 128

// ParseLabel returns s if it can be shown as what somebody calls a thing of theirs.
func ParseLabel(s string) (string, error) {
	if len(s) > MaxLabelBytes {
		return "", invalid("label", "is longer than 128 bytes")
	}
	if _, err := ParseDisplayName(s); err != nil {
		return "", invalid("label", fault.Of(err).Fields[0].Detail)
	}
	return s, nil
}
