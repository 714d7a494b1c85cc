package store

import (
	"context"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Ticket lets a peer open sync sessions with one formation for a while. The
// ticket itself is not kept, only its hash.
type Ticket struct {
	Org       tenant.OrgID
	App       tenant.AppID
	ID        string
	Hash      []byte
	PeerID    string // empty until the first use
	CreatedAt time.Time
	ExpiresAt time.Time
	RevokedAt time.Time // zero: not revoked
}

const ticketColumns = `org_id, app_id, ticket_id, hash, peer_id, created_at, expires_at, revoked_at`

func scanTicket(r row) (Ticket, error) {
	var t Ticket
	var created, expires, revoked int64
	err := r.Scan(&t.Org, &t.App, &t.ID, &t.Hash, &t.PeerID, &created, &expires, &revoked)
	t.CreatedAt, t.ExpiresAt, t.RevokedAt = fromMicros(created), fromMicros(expires), fromMicros(revoked)
	return t, err
}

// CreateTicket adds a ticket; fault.NotFound if there is no such formation.
func (tx *Tx) CreateTicket(ctx context.Context, t Ticket) error {
	_, err := tx.of(t.Org).ExecContext(ctx, `INSERT INTO tickets (`+ticketColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, 0)`,
		t.Org, t.App, t.ID, t.Hash, t.PeerID, micros(t.CreatedAt), micros(t.ExpiresAt))
	if sqldb.IsMissingParent(err) {
		return fault.NotFound.New("no formation %q", tenant.Key{Org: t.Org, App: t.App})
	}
	return err
}

// TicketByHash returns the formation's ticket with this hash, whatever its state.
func (s queries) TicketByHash(ctx context.Context, key tenant.Key, hash []byte) (Ticket, error) {
	t, err := scanTicket(s.of(key.Org).QueryRowContext(ctx, `SELECT `+ticketColumns+` FROM tickets
		WHERE org_id = $1 AND app_id = $2 AND hash = $3`, key.Org, key.App, hash))
	return t, one(err, "no such ticket")
}

// Tickets returns up to limit of a formation's tickets whose id comes after the given one.
func (s queries) Tickets(ctx context.Context, key tenant.Key, after string, limit int) ([]Ticket, error) {
	rows, err := s.of(key.Org).QueryContext(ctx, `SELECT `+ticketColumns+` FROM tickets
		WHERE org_id = $1 AND app_id = $2 AND ticket_id > $3 ORDER BY ticket_id LIMIT $4`, key.Org, key.App, after, limit)
	list, err := collect(rows, err, scanTicket)
	if err == nil && len(list) == 0 {
		_, err = s.Formation(ctx, key)
	}
	return list, err
}

// BindTicket ties a ticket to the first peer that uses it and returns the peer it
// is tied to, which may be another one that came first.
func (s *Store) BindTicket(ctx context.Context, key tenant.Key, id, peer string) (string, error) {
	var bound string
	err := s.InTx(ctx, func(tx *Tx) error {
		if _, err := tx.of(key.Org).ExecContext(ctx, `UPDATE tickets SET peer_id = $4
			WHERE org_id = $1 AND app_id = $2 AND ticket_id = $3 AND peer_id = ''`, key.Org, key.App, id, peer); err != nil {
			return err
		}
		err := tx.of(key.Org).QueryRowContext(ctx, `SELECT peer_id FROM tickets WHERE org_id = $1 AND app_id = $2 AND ticket_id = $3`,
			key.Org, key.App, id).Scan(&bound)
		return one(err, "no such ticket")
	})
	return bound, err
}

// RevokeTicket ends a ticket. Revoking it again changes nothing.
func (tx *Tx) RevokeTicket(ctx context.Context, key tenant.Key, id string, now time.Time) error {
	res, err := tx.of(key.Org).ExecContext(ctx, `UPDATE tickets SET revoked_at = CASE WHEN revoked_at = 0 THEN $4 ELSE revoked_at END
		WHERE org_id = $1 AND app_id = $2 AND ticket_id = $3`, key.Org, key.App, id, micros(now))
	return affected(res, err, fault.NotFound, "no such ticket")
}

// DeleteExpiredTickets removes tickets that nobody can use since the given time.
func (tx *Tx) DeleteExpiredTickets(ctx context.Context, before time.Time) error {
	_, err := tx.everywhere("the sweep removes what nobody can use any more").ExecContext(ctx, `DELETE FROM tickets WHERE expires_at < $1`, micros(before))
	return err
}
