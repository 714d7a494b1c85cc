package documents

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
)

// consumerRequest makes a consumer, or changes what it is sent.
type consumerRequest struct {
	Start  string       `json:"start,omitempty"`
	Format string       `json:"format,omitempty"`
	Filter *filter.Spec `json:"filter,omitempty"`
}

// ackRequest says how far a consumer has come.
type ackRequest struct {
	Cursor string `json:"cursor"`
	Rewind bool   `json:"rewind,omitempty"` // it may be back
}

type consumerWire struct {
	Name      string          `json:"name"`
	Format    delivery.Format `json:"format"`
	Filter    *filter.Spec    `json:"filter,omitempty"`
	Cursor    string          `json:"cursor"`
	Position  uint64          `json:"position"`
	Lag       lagWire         `json:"lag"`
	CreatedAt time.Time       `json:"created_at"`
	SeenAt    *time.Time      `json:"seen_at"`
}

type lagWire struct {
	Events  uint64  `json:"events"`
	Seconds float64 `json:"seconds"`
	Bytes   uint64  `json:"bytes"`
}

func wireConsumer(c delivery.Consumer, log *reader, lag delivery.Lag) consumerWire {
	out := consumerWire{Name: c.Name, Format: c.Format, Cursor: log.cursor(c.Position), Position: c.Position,
		Lag: lagWire(lag), CreatedAt: c.CreatedAt}
	if !c.Filter.IsZero() {
		out.Filter = &c.Filter
	}
	if !c.SeenAt.IsZero() {
		out.SeenAt = &c.SeenAt
	}
	return out
}
