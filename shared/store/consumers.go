package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const consumerColumns = `org_id, app_id, name, position, format, filter, created_at, seen_at`

func scanConsumer(r row) (delivery.Consumer, error) {
	var c delivery.Consumer
	var filter string
	var created, seen int64
	err := r.Scan(&c.Org, &c.App, &c.Name, &c.Position, &c.Format, &filter, &created, &seen)
	c.CreatedAt, c.SeenAt = fromMicros(created), fromMicros(seen)
	if err == nil && filter != "" {
		err = json.Unmarshal([]byte(filter), &c.Filter)
	}
	return c, err
}

// consumerFilter is how a consumer's filter is kept: empty if there is none.
func consumerFilter(c delivery.Consumer) (string, error) {
	if c.Filter.IsZero() {
		return "", nil
	}
	b, err := json.Marshal(c.Filter)
	return string(b), err
}

// Consumer returns a formation's consumer. In a transaction it also keeps others
// from changing or deleting it, and its formation, until the end.
func (s queries) Consumer(ctx context.Context, key tenant.Key, name string) (delivery.Consumer, error) {
	c, err := scanConsumer(s.of(key.Org).QueryRowContext(ctx, `SELECT `+consumerColumns+` FROM consumers
		WHERE org_id = $1 AND app_id = $2 AND name = $3`+s.forUpdate, key.Org, key.App, name))
	return c, one(err, "no consumer %q", name)
}

// Consumers returns up to limit of a formation's consumers whose name comes after
// the given one; fault.NotFound if there is no such formation.
func (s queries) Consumers(ctx context.Context, key tenant.Key, after string, limit int) ([]delivery.Consumer, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+consumerColumns+` FROM consumers
		WHERE org_id = $1 AND app_id = $2 AND name > $3 ORDER BY name LIMIT $4`, key.Org, key.App, after, limit)
	list, err := collect(rows, err, scanConsumer)
	if err == nil && len(list) == 0 {
		_, err = s.Formation(ctx, key)
	}
	return list, err
}

// CountConsumers is how many consumers a formation has.
func (s queries) CountConsumers(ctx context.Context, key tenant.Key) (int, error) {
	var n int
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT count(*) FROM consumers WHERE org_id = $1 AND app_id = $2`, key.Org, key.App).Scan(&n)
	return n, err
}

// CreateConsumer adds a consumer; fault.Conflict if its name is taken,
// fault.NotFound if there is no such formation.
func (tx *Tx) CreateConsumer(ctx context.Context, c delivery.Consumer) error {
	filter, err := consumerFilter(c)
	if err != nil {
		return err
	}
	_, err = tx.of(c.Org).ExecContext(ctx, `INSERT INTO consumers (`+consumerColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		c.Org, c.App, c.Name, c.Position, c.Format, filter, micros(c.CreatedAt), micros(c.SeenAt))
	switch {
	case sqldb.IsDuplicate(err):
		return fault.Conflict.New("consumer %q exists already", c.Name)
	case sqldb.IsMissingParent(err):
		return fault.NotFound.New("no formation %q", tenant.Key{Org: c.Org, App: c.App})
	}
	return err
}

// UpdateConsumer replaces a consumer's position, format, filter and when it was seen.
func (tx *Tx) UpdateConsumer(ctx context.Context, c delivery.Consumer) error {
	filter, err := consumerFilter(c)
	if err != nil {
		return err
	}
	res, err := tx.of(c.Org).ExecContext(ctx, `UPDATE consumers SET position = $4, format = $5, filter = $6, seen_at = $7
		WHERE org_id = $1 AND app_id = $2 AND name = $3`, c.Org, c.App, c.Name, c.Position, c.Format, filter, micros(c.SeenAt))
	return affected(res, err, fault.NotFound, "no consumer %q", c.Name)
}

// SeeConsumer records that a consumer asked for something. It touches nothing
// else, so that it cannot undo what happens at the same moment.
func (tx *Tx) SeeConsumer(ctx context.Context, key tenant.Key, name string, now time.Time) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `UPDATE consumers SET seen_at = $4
		WHERE org_id = $1 AND app_id = $2 AND name = $3`, key.Org, key.App, name, micros(now))
	return affected(res, err, fault.NotFound, "no consumer %q", name)
}

// DeleteConsumer forgets a consumer.
func (tx *Tx) DeleteConsumer(ctx context.Context, key tenant.Key, name string) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `DELETE FROM consumers WHERE org_id = $1 AND app_id = $2 AND name = $3`, key.Org, key.App, name)
	return affected(res, err, fault.NotFound, "no consumer %q", name)
}

// LagAfter is how far somebody who has read a formation's log up to a position is
// behind its end.
func (s queries) LagAfter(ctx context.Context, key tenant.Key, position uint64, now time.Time) (delivery.Lag, error) {
	var end uint64
	var next int64
	err := s.of(key.Org).QueryRowContext(ctx, `SELECT f.position, COALESCE((SELECT x.received_at FROM changes x
			WHERE x.org_id = f.org_id AND x.app_id = f.app_id AND x.position = $3), 0)
		FROM formations f WHERE f.org_id = $1 AND f.app_id = $2 AND f.state <> 'destroyed'`, key.Org, key.App, position+1).Scan(&end, &next)
	if err != nil || end <= position {
		return delivery.Lag{}, one(err, "no formation %q", key)
	}
	return delivery.Lag{Events: end - position, Seconds: max(0, now.Sub(fromMicros(next)).Seconds())}, nil
}
