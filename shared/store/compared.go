package store

import (
	"context"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Compared is how the last comparison of a sink with a formation's log came out.
type Compared struct {
	Key    tenant.Key
	Sink   string
	At     time.Time // zero: there was none yet
	Found  uint64    // things that are wrong
	Result string    // JSON
}

// SaveCompared records how a comparison came out. If the cursor is gone meanwhile
// there is nothing to record.
func (tx *Tx) SaveCompared(ctx context.Context, c Compared) error {
	_, err := tx.of(c.Key.Org).ExecContext(ctx, `UPDATE cursors SET compared_at = $4, found = $5, compared = $6
		WHERE org_id = $1 AND sink_id = $2 AND app_id = $3`, c.Key.Org, c.Sink, c.Key.App, micros(c.At), c.Found, c.Result)
	return err
}

const comparedColumns = `c.org_id, c.app_id, c.sink_id, c.compared_at, c.found, c.compared`

func scanCompared(r row) (Compared, error) {
	var c Compared
	var at int64
	err := r.Scan(&c.Key.Org, &c.Key.App, &c.Sink, &at, &c.Found, &c.Result)
	c.At = fromMicros(at)
	return c, err
}

// Compared returns how a sink's last comparisons came out, by formation.
func (s queries) Compared(ctx context.Context, org tenant.OrgID, sink string) ([]Compared, error) {
	rows, err := s.of(org).QueryContext(ctx, `SELECT `+comparedColumns+` FROM cursors c
		WHERE c.org_id = $1 AND c.sink_id = $2 AND c.compared_at > 0 ORDER BY c.app_id`, org, sink)
	return collect(rows, err, scanCompared)
}

// ComparisonsDue lists up to limit sinks and formations that were last compared
// before a time, of all organizations, the longest ago first.
func (s queries) ComparisonsDue(ctx context.Context, before time.Time, limit int) ([]Compared, error) {
	rows, err := s.everywhere("the sweep looks for what is due, whosever it is").QueryContext(ctx, `SELECT `+comparedColumns+` FROM cursors c
		WHERE c.compared_at < $1 AND c.position > c.start_position
		ORDER BY c.compared_at, c.org_id, c.sink_id, c.app_id LIMIT $2`, micros(before), limit)
	return collect(rows, err, scanCompared)
}

// Incomplete counts, by kind of sink, the sinks and formations whose last
// comparison found something wrong.
func (s queries) Incomplete(ctx context.Context) (map[delivery.Kind]int, error) {
	out := map[delivery.Kind]int{}
	rows, err := s.everywhere("a metric of the whole gateway").QueryContext(ctx, `SELECT s.kind, count(*) FROM cursors c
		JOIN sinks s ON s.org_id = c.org_id AND s.sink_id = c.sink_id WHERE c.found > 0 GROUP BY s.kind`)
	_, err = collect(rows, err, func(r row) (struct{}, error) {
		var kind delivery.Kind
		var n int
		err := r.Scan(&kind, &n)
		out[kind] = n
		return struct{}{}, err
	})
	return out, err
}
