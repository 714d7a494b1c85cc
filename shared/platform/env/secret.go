package env

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that must not be seen. It does not print, and its text can be
// had only by Reveal, which is easy to search for.
type Secret struct {
	// A pointer, so that fmt shows at most an address where it does not ask for
	// Format: in unexported fields of other structs.
	text *string
}

// NewSecret returns a Secret.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal returns the text. It is empty if the secret was not set.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet tells whether there is a text.
func (s Secret) IsSet() bool { return s.Reveal() != "" }

const redacted = "[secret]"

// Format hides the secret from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// GoString hides the secret from who calls it rather than fmt.
func (Secret) GoString() string { return redacted }

// String hides the secret from who calls it rather than fmt.
func (Secret) String() string { return redacted }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON hides the secret from JSON.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
