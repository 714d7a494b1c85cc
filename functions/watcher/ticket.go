package watcher

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// ticketPrefix lets a scanner find a ticket that was left lying about.
const ticketPrefix = "peat_sync_"

// How long a ticket is good for.
const (
	defaultTicketLife = time.Hour
	maxTicketLife     = 24 * time.Hour
)

type ticketRequest struct {
	PeerID     string `json:"peer_id,omitempty"`
	TTLSeconds int    `json:"ttl_seconds,omitempty"`
}

type issuedTicket struct {
	ID        string    `json:"ticket_id"`
	Ticket    string    `json:"ticket"`
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

type listedTicket struct {
	ID        string     `json:"ticket_id"`
	PeerID    *string    `json:"peer_id"`
	State     string     `json:"state"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// postTicket issues a ticket. It is shown this once; only its hash is kept.
func (f *Function) postTicket(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	in := ticketRequest{}
	if err := web.ReadOptionalJSON(r, &in); err != nil {
		return err
	}
	life, err := in.life()
	if err != nil {
		return err
	}
	text, ticket, err := f.newTicket(key, in.PeerID, life)
	if err != nil {
		return err
	}
	err = f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		formation, err := tx.Formation(r.Context(), key)
		if err != nil {
			return err
		}
		if err := formation.State.MustBe(tenant.Active); err != nil {
			return err
		}
		return f.keepTicket(r.Context(), tx, ticket, f.audit(r, key, "ticket.create", ticket.ID))
	})
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusCreated, issuedTicket{ticket.ID, text, f.syncURL(r, key, text), ticket.ExpiresAt})
}

// life checks a request and returns how long its ticket is to be good for.
func (in ticketRequest) life() (time.Duration, error) {
	switch {
	case in.TTLSeconds < 0 || in.TTLSeconds > int(maxTicketLife/time.Second):
		return 0, invalidField("ttl_seconds", "must be between 1 and 86400")
	case len(in.PeerID) > maxPeerIDBytes || strings.ContainsRune(in.PeerID, 0):
		return 0, invalidField("peer_id", "must have at most 256 bytes and no NUL")
	case in.TTLSeconds == 0:
		return defaultTicketLife, nil
	}
	return time.Duration(in.TTLSeconds) * time.Second, nil
}

// newTicket makes a ticket and its text.
func (f *Function) newTicket(key tenant.Key, peer string, life time.Duration) (string, store.Ticket, error) {
	secret := make([]byte, 32)
	if _, err := io.ReadFull(f.Random, secret); err != nil {
		return "", store.Ticket{}, err
	}
	text := ticketPrefix + base64.RawURLEncoding.EncodeToString(secret)
	now := store.Precise(f.Now())
	return text, store.Ticket{
		Org: key.Org, App: key.App, ID: ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String(),
		Hash: hashTicket(text), PeerID: peer, CreatedAt: now, ExpiresAt: now.Add(life),
	}, nil
}

// keepTicket keeps a ticket with its entry.
func (f *Function) keepTicket(ctx context.Context, tx *store.Tx, t store.Ticket, entry store.Audit) error {
	if err := tx.CreateTicket(ctx, t); err != nil {
		return err
	}
	entry.Detail = map[string]any{"after": map[string]any{"peer_id": t.PeerID, "expires_at": t.ExpiresAt}}
	return tx.AppendAudit(ctx, entry)
}

// syncURL is where a peer connects: what the operator says we are called, or
// what the caller called us.
func (f *Function) syncURL(r *http.Request, key tenant.Key, ticket string) string {
	u := url.URL{Scheme: "ws", Host: r.Host}
	if r.TLS != nil {
		u.Scheme = "wss"
	}
	if public := f.Settings.PublicURL; public != nil {
		u = url.URL{Scheme: strings.Replace(public.Scheme, "http", "ws", 1), Host: public.Host, Path: strings.TrimSuffix(public.Path, "/")}
	}
	u.Path += "/orgs/" + string(key.Org) + "/formations/" + string(key.App) + "/sync"
	u.RawQuery = url.Values{"ticket": {ticket}}.Encode()
	return u.String()
}

func (f *Function) listTickets(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	tickets, err := f.Store.Tickets(r.Context(), key, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	now := f.Now()
	list := web.NewList(tickets, page, func(t store.Ticket) string { return t.ID })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, func(t store.Ticket) listedTicket {
		out := listedTicket{ID: t.ID, State: ticketState(t, now), CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt}
		if t.PeerID != "" {
			out.PeerID = &t.PeerID
		}
		if !t.RevokedAt.IsZero() {
			out.RevokedAt = &t.RevokedAt
		}
		return out
	}))
}

// deleteTicket revokes a ticket; sessions opened with it end.
func (f *Function) deleteTicket(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	id := r.PathValue("ticket")
	now := f.Now()
	err = f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := tx.RevokeTicket(r.Context(), key, id, now); err != nil {
			return err
		}
		entry := f.audit(r, key, "ticket.revoke", id)
		entry.Detail = map[string]any{"after": map[string]any{"revoked_at": now}}
		if err := tx.AppendAudit(r.Context(), entry); err != nil {
			return err
		}
		return tx.Enqueue(r.Context(), event.TicketRevoked(key, id, now))
	})
	if err != nil {
		return err
	}
	// This replica need not wait for its own event.
	f.endSessions(key, "the ticket was revoked", func(s *session) bool { return s.ticket.ID == id })
	f.Notify()
	return web.NoContent(w)
}

// redeem returns the usable ticket of the given text. What is wrong with it is
// told: whoever has the text had the ticket.
func (f *Function) redeem(r *http.Request, key tenant.Key, text string) (store.Ticket, error) {
	if !strings.HasPrefix(text, ticketPrefix) || len(text) > 100 {
		return store.Ticket{}, fault.Unauthenticated.New("a sync ticket is needed")
	}
	t, err := f.Store.TicketByHash(r.Context(), key, hashTicket(text))
	if errors.Is(err, fault.NotFound) {
		return store.Ticket{}, fault.Unauthenticated.New("the ticket is not known")
	}
	if err != nil {
		return store.Ticket{}, err
	}
	if state := ticketState(t, f.Now()); state != "valid" {
		return store.Ticket{}, fault.Unauthenticated.New("the ticket is %s", state)
	}
	return t, nil
}

func ticketState(t store.Ticket, now time.Time) string {
	switch {
	case !t.RevokedAt.IsZero():
		return "revoked"
	case !t.ExpiresAt.After(now):
		return "expired"
	}
	return "valid"
}

// hashTicket is how a ticket is kept. It has 256 random bits, so a plain hash
// cannot be searched.
func hashTicket(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func (f *Function) audit(r *http.Request, key tenant.Key, action, target string) store.Audit {
	return store.Audit{
		Org: key.Org, At: f.Now(), Actor: access.FromContext(r.Context()).Name, Action: action,
		Target: string(key.App) + "/" + target, RequestID: web.RequestID(r.Context()),
	}
}

func invalidField(field, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Message: field + " " + detail, Fields: []fault.Field{{Pointer: "/" + field, Detail: detail}}}
}
