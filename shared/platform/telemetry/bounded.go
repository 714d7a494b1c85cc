package telemetry

import (
	"sync"
	"unicode/utf8"
)

// other is the value of a label for all that have none of their own.
const other = "other"

// maxLabelBytes is more than any route has.
const maxLabelBytes = 200

// bounded lets a label have the first max values that it is given. Every new
// value costs memory here and in Prometheus for good, so a mistake in a caller
// must not become an outage.
type bounded struct {
	max int

	mu   sync.Mutex
	seen map[string]bool
}

func (b *bounded) value(s string) string {
	if s == "" || len(s) > maxLabelBytes || !utf8.ValidString(s) {
		return other // the client library panics over what is not UTF-8
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[s] {
		return s
	}
	if len(b.seen) >= b.max {
		return other
	}
	if b.seen == nil {
		b.seen = make(map[string]bool)
	}
	b.seen[s] = true
	return s
}
