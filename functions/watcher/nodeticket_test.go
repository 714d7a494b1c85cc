package watcher

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// member is a node with a certificate, as the ledger has it.
type member struct {
	private ed25519.PrivateKey
	serial  string
}

// certified gives a node a certificate that is good for so long.
func (b *bench) certified(seed byte, life time.Duration) member {
	b.t.Helper()
	m := member{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)), strings.Repeat(hex.EncodeToString([]byte{seed}), 32)}
	public, now := m.private.Public().(ed25519.PublicKey), store.Precise(time.Now())
	b.tx(func(tx *store.Tx) error {
		if err := tx.AddCertificate(b.t.Context(), authority.Certificate{
			Key: key, Number: uint64(seed), Serial: m.serial, Subject: public, NodeID: "node", IssuedAt: now, ExpiresAt: now.Add(life), RenewAfter: now.Add(life),
			Authority: authority.GenesisID, Encoded: []byte{1}, By: "x", Rule: "x",
		}); err != nil {
			return err
		}
		return tx.BindNode(b.t.Context(), key, authority.Node{ID: "node", Subject: public, Until: now.Add(life), ProvedAt: now.Add(-time.Minute)})
	})
	return m
}

// asks is the node's request, with the possession changed before it is signed.
func (m member) asks(change func(*authority.Possession)) map[string]any {
	p := authority.Possession{
		Purpose: authority.ForTicket, Key: key, MeshID: "AAAAAAAA", NodeID: "node", Subject: m.private.Public().(ed25519.PublicKey), Serial: m.serial,
		At: time.Now().Truncate(time.Millisecond),
	}
	if change != nil {
		change(&p)
	}
	return map[string]any{"serial": m.serial, "proof": map[string]any{
		"timestamp_ms": p.At.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(m.private, p.Message())),
	}}
}

// node posts a node's request as nobody.
func (b *bench) node(body map[string]any) (int, string) {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	answer, err := http.Post(b.server.URL+"/orgs/acme/formations/logistics/sync-tickets/node", "application/json", bytes.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	out, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, string(out)
}

// TestANodeGetsItsOwnTicket: with a good certificate and its key, once for a proof, and
// for no longer than the certificate is good.
func TestANodeGetsItsOwnTicket(t *testing.T) {
	b := setup(t, Settings{})
	m := b.certified(1, 30*time.Minute)
	body := m.asks(nil)
	status, text := b.node(body)
	var out issuedTicket
	if err := json.Unmarshal([]byte(text), &out); err != nil || status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	if left := time.Until(out.ExpiresAt); left > 30*time.Minute || !strings.HasPrefix(out.Ticket, ticketPrefix) || !strings.Contains(out.URL, out.Ticket) {
		t.Errorf("%+v", out)
	}
	if kept, err := b.store.TicketByHash(t.Context(), key, hashTicket(out.Ticket)); err != nil || kept.ID != out.ID {
		t.Errorf("%+v %v", kept, err)
	}
	if status, text := b.node(body); status != 409 {
		t.Errorf("the same again: %d %s", status, text)
	}
	trail, err := b.store.AuditTrail(t.Context(), key.Org, 10)
	if err != nil || len(trail) != 1 || trail[0].Actor != "node:node" || trail[0].Action != "ticket.create" {
		t.Errorf("%+v %v", trail, err)
	}
}

func TestWhoGetsNoTicket(t *testing.T) {
	with := func(name string, value any) func(*bench, member) map[string]any {
		return func(_ *bench, m member) map[string]any {
			body := m.asks(nil)
			body[name] = value
			return body
		}
	}
	for name, tc := range map[string]struct {
		body   func(*bench, member) map[string]any
		status int
	}{
		"no certificate":    {with("serial", ""), 401},
		"one of nobody":     {with("serial", strings.Repeat("ab", 32)), 401},
		"what is no serial": {with("serial", "a\x00"), 401},
		"no proof":          {with("proof", map[string]any{"timestamp_ms": 0, "signature": ""}), 422},
		"another's key": {func(_ *bench, m member) map[string]any {
			m.private = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
			return m.asks(nil)
		}, 422},
		"a proof for renewal": {func(_ *bench, m member) map[string]any {
			return m.asks(func(p *authority.Possession) { p.Purpose = authority.ForRenewal })
		}, 422},
		"for elsewhere": {func(_ *bench, m member) map[string]any {
			return m.asks(func(p *authority.Possession) { p.Key.Org = "rival" })
		}, 422},
		"of long ago": {func(_ *bench, m member) map[string]any {
			return m.asks(func(p *authority.Possession) { p.At = p.At.Add(-6 * time.Minute) })
		}, 422},
		"older than another": {func(_ *bench, m member) map[string]any {
			return m.asks(func(p *authority.Possession) { p.At = p.At.Add(-2 * time.Minute) })
		}, 409},
		"too long":       {with("ttl_seconds", 100_000), 422},
		"an expired one": {func(b *bench, _ member) map[string]any { return b.certified(2, -time.Second).asks(nil) }, 403},
		"a revoked one": {func(b *bench, m member) map[string]any {
			b.tx(func(tx *store.Tx) error {
				_, err := tx.RevokeKey(t.Context(), key, "node", m.private.Public().(ed25519.PublicKey), time.Now(), "x", "device_lost")
				return err
			})
			return m.asks(nil)
		}, 403},
		"a suspended formation": {func(b *bench, m member) map[string]any { b.move(tenant.Suspended); return m.asks(nil) }, 409},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, Settings{})
			m := b.certified(1, time.Hour)
			if status, text := b.node(tc.body(b, m)); status != tc.status {
				t.Errorf("%d, want %d: %s", status, tc.status, text)
			}
			if list, err := b.store.Tickets(t.Context(), key, "", 10); err != nil || len(list) != 0 {
				t.Errorf("%+v %v", list, err)
			}
		})
	}
}
