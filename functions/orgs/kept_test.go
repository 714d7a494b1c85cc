package orgs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/orgs"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var logistics = tenant.Key{Org: "acme", App: "logistics"}

func TestGenesisIsSealedForItsFormation(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	var made struct {
		MeshID    string `json:"mesh_id"`
		Authority string `json:"authority_public_key"`
	}
	body := w.do("POST", "/orgs/acme/formations", `{"app_id":"logistics","enrollment_policy":"open"}`, 201)
	if err := json.Unmarshal(body, &made); err != nil {
		t.Fatal(err)
	}
	sealed, err := w.store.Genesis(t.Context(), logistics)
	if err != nil {
		t.Fatal(err)
	}
	rec := envelope.Record{Org: "acme", App: "logistics", Kind: "genesis"}
	plain, err := envelope.Open(t.Context(), w.keys, rec, sealed)
	if err != nil {
		t.Fatal(err)
	}
	g, err := genesis.Decode(plain)
	if err != nil || g.Name != "logistics" || g.Policy != tenant.Open || g.MeshID() != made.MeshID || g.ExternalAuthority() {
		t.Errorf("%v: %+v", err, g)
	}
	if f, err := w.store.Formation(t.Context(), logistics); err != nil || !bytes.Equal(f.AuthorityPublicKey, g.AuthorityPublicKey()) {
		t.Errorf("%v: the row names another authority", err)
	}
	if bytes.Contains(sealed, g.Seed[:]) || bytes.Contains(sealed, g.AuthoritySecret[:]) {
		t.Error("a key is kept as it is")
	}
	rec.App = "medevac"
	if _, err := envelope.Open(t.Context(), w.keys, rec, sealed); !errors.Is(err, envelope.ErrTampered) {
		t.Errorf("it opens in another row: %v", err)
	}
}

func TestTwoFormationsShareNothing(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	w.org("rival")
	w.formation("acme", "logistics")
	w.formation("rival", "logistics")
	a, err := w.store.Formation(t.Context(), logistics)
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.store.Formation(t.Context(), tenant.Key{Org: "rival", App: "logistics"})
	if err != nil || bytes.Equal(a.AuthorityPublicKey, b.AuthorityPublicKey) || a.MeshID == b.MeshID {
		t.Errorf("%v: one root of trust for two", err)
	}
}

func TestEveryActIsToldAndAudited(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	// The trail is in the order of time, so time must pass.
	w := newWorld(t, func(d *orgs.Deps) {
		d.Now = func() time.Time { at = at.Add(time.Millisecond); return at }
	})
	w.org("acme")
	w.do("PATCH", "/orgs/acme", `{"display_name":"Acme Two"}`, 200)
	w.formation("acme", "logistics")
	w.do("DELETE", "/orgs/acme/formations/logistics", "", 204)
	w.do("DELETE", "/orgs/acme", "", 204)
	// Sorted: of events within one millisecond the outbox promises no order.
	if diff := cmp.Diff([]string{"formation.created", "formation.deleted", "org.created", "org.deleted", "org.updated"}, slices.Sorted(slices.Values(w.events()))); diff != "" {
		t.Error(diff)
	}
	if w.notified != 5 {
		t.Errorf("notified %d times", w.notified)
	}
	if diff := cmp.Diff([]string{"org.create acme", "org.update acme", "formation.create logistics", "formation.delete logistics", "org.delete acme"}, w.actions()); diff != "" {
		t.Error(diff)
	}
}

func TestAFormationMadeAnewInheritsNothing(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.org("acme")
	w.formation("acme", "logistics")
	first, err := w.store.Formation(ctx, logistics)
	if err != nil {
		t.Fatal(err)
	}
	hash := []byte("hash of a ticket, of 32 bytes...")
	err = w.store.InTx(ctx, func(tx *store.Tx) error {
		return tx.CreateTicket(ctx, store.Ticket{Org: "acme", App: "logistics", ID: "t1", Hash: hash, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.do("DELETE", "/orgs/acme/formations/logistics", "", 204)
	if _, err := w.store.Genesis(ctx, logistics); !errors.Is(err, fault.NotFound) {
		t.Errorf("the keys outlive the formation: %v", err)
	}
	w.formation("acme", "logistics")
	second, err := w.store.Formation(ctx, logistics)
	if err != nil || bytes.Equal(first.AuthorityPublicKey, second.AuthorityPublicKey) {
		t.Errorf("%v: the old authority is back", err)
	}
	if _, err := w.store.TicketByHash(ctx, logistics, hash); !errors.Is(err, fault.NotFound) {
		t.Errorf("the old ticket is good again: %v", err)
	}
}

func TestTheLastPlaceIsTakenOnce(t *testing.T) {
	w := newWorld(t, func(d *orgs.Deps) { d.Random, d.Notify = rand.Reader, func() {} })
	w.do("POST", "/orgs", `{"org_id":"acme","display_name":"A","quotas":{"max_formations":3}}`, 201)
	var made, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			switch got := w.call("POST", "/orgs/acme/formations", `{"app_id":"f`+strconv.Itoa(i)+`"}`); got.Code {
			case http.StatusCreated:
				made.Add(1)
			case http.StatusTooManyRequests:
				refused.Add(1)
			default:
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
	all.Wait()
	if made.Load() != 3 || refused.Load() != 5 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
}

func TestNoAnswerHoldsAKey(t *testing.T) {
	w := newWorld(t)
	w.org("acme")
	answers := string(w.do("POST", "/orgs/acme/formations", `{"app_id":"logistics"}`, 201)) +
		string(w.do("GET", "/orgs/acme/formations", "", 200)) + string(w.do("GET", "/orgs/acme/formations/logistics", "", 200))
	for _, word := range []string{"seed", "secret", "genesis", "sealed"} {
		if strings.Contains(answers, word) {
			t.Errorf("%q is in an answer: %s", word, answers)
		}
	}
}
