package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
)

// Enqueue keeps an event to be published once the transaction has committed, in
// the trace of ctx: that of who publishes it is another.
func (tx *Tx) Enqueue(ctx context.Context, e cloudevents.Event) error {
	text, err := bus.InTrace(ctx, e).MarshalJSON()
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	// The event's own id may be deterministic, and so come twice; the row's may not.
	_, err = tx.unowned().ExecContext(ctx, `INSERT INTO outbox (outbox_id, event, created_at) VALUES ($1, $2, $3)`,
		newID(time.Now()), string(text), micros(e.Time()))
	return err
}

// Outboxed is an event that waits to be published.
type Outboxed struct {
	ID    string
	Event cloudevents.Event
}

// Outbox returns the oldest events that wait, up to limit.
func (s queries) Outbox(ctx context.Context, limit int) ([]Outboxed, error) {
	rows, err := s.everywhere("the relay publishes the events of all").QueryContext(ctx, `SELECT outbox_id, event FROM outbox ORDER BY outbox_id LIMIT $1`, limit)
	return collect(rows, err, func(r row) (Outboxed, error) {
		var o Outboxed
		var text string
		if err := r.Scan(&o.ID, &text); err != nil {
			return Outboxed{}, err
		}
		return o, json.Unmarshal([]byte(text), &o.Event)
	})
}

// Published removes events from the outbox. Doing it twice is harmless: two
// processes may have published the same event.
func (tx *Tx) Published(ctx context.Context, ids ...string) error {
	for rest := ids; len(rest) > 0; {
		size := sizeFor(len(rest)) // few sizes, so that there are few statements
		places, args := make([]string, size), make([]any, size)
		for i, id := range rest[:size] {
			places[i], args[i] = fmt.Sprintf(`$%d`, i+1), id
		}
		if _, err := tx.everywhere("the relay publishes the events of all").ExecContext(ctx,
			`DELETE FROM outbox WHERE outbox_id IN (`+strings.Join(places, `, `)+`)`, args...); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

// newID is a key that sorts by time.
func newID(at time.Time) string {
	return ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy()).String()
}
