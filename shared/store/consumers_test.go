package store_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// consumerContract is what the store promises of consumers, on every engine.
var consumerContract = map[string]func(*testing.T, *store.Store){
	"a consumer's life":                   testConsumer,
	"consumers are listed by name":        testConsumerPages,
	"a consumer goes with its formation":  testConsumerOfDestroyed,
	"how far behind":                      testLagAfter,
	"one that moves is not moved twice":   testConsumerLock,
	"consumers of others are not visible": testConsumerIsolation,
}

func TestConsumers(t *testing.T) {
	for name, test := range consumerContract {
		t.Run("sqlite/"+name, func(t *testing.T) {
			t.Parallel()
			run(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"), test)
		})
		t.Run("postgres/"+name, func(t *testing.T) {
			t.Parallel()
			run(t, testenv.Postgres(t), test)
		})
	}
}

func addConsumer(t *testing.T, s *store.Store, k tenant.Key, name string) delivery.Consumer {
	t.Helper()
	c := delivery.Consumer{Org: k.Org, App: k.App, Name: name, Position: 2, Format: delivery.Both,
		Filter: filter.Spec{Documents: []string{"tracks:*"}, Where: "event.seq > 1"}, CreatedAt: store.Precise(now)}
	inTx(t, s, func(tx *store.Tx) error { return tx.CreateConsumer(t.Context(), c) })
	return c
}

func testConsumer(t *testing.T, s *store.Store) {
	ctx := t.Context()
	c := delivery.Consumer{Org: key.Org, App: key.App, Name: "billing"}
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateConsumer(ctx, c) }), fault.NotFound)
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	c = addConsumer(t, s, key, "billing")
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.CreateConsumer(ctx, c) }), fault.Conflict)
	got, err := s.Consumer(ctx, key, "billing")
	if diff := cmp.Diff(c, got); err != nil || diff != "" {
		t.Errorf("Consumer: %v\n%s", err, diff)
	}
	c.Position, c.Format, c.Filter, c.SeenAt = 1<<62, delivery.Raw, filter.Spec{}, store.Precise(now.Add(time.Hour))
	inTx(t, s, func(tx *store.Tx) error { return tx.UpdateConsumer(ctx, c) })
	c.SeenAt = store.Precise(now.Add(2 * time.Hour))
	inTx(t, s, func(tx *store.Tx) error { return tx.SeeConsumer(ctx, key, "billing", c.SeenAt) })
	got, err = s.Consumer(ctx, key, "billing")
	if diff := cmp.Diff(c, got); err != nil || diff != "" {
		t.Errorf("Consumer after its changes: %v\n%s", err, diff)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteConsumer(ctx, key, "billing") })
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.UpdateConsumer(ctx, c) }), fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.SeeConsumer(ctx, key, "billing", now) }), fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteConsumer(ctx, key, "billing") }), fault.NotFound)
	_, err = s.Consumer(ctx, key, "billing")
	wantFault(t, err, fault.NotFound)
}

func testConsumerPages(t *testing.T, s *store.Store) {
	ctx := t.Context()
	_, err := s.Consumers(ctx, key, "", 10)
	wantFault(t, err, fault.NotFound)
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	if list, err := s.Consumers(ctx, key, "", 10); err != nil || len(list) != 0 {
		t.Errorf("Consumers of none: %v %v", list, err)
	}
	for _, name := range []string{"b", "c", "a"} {
		addConsumer(t, s, key, name)
	}
	list, err := s.Consumers(ctx, key, "a", 1)
	if err != nil || len(list) != 1 || list[0].Name != "b" {
		t.Errorf("Consumers after a: %v %v", list, err)
	}
	if n, err := s.CountConsumers(ctx, key); n != 3 || err != nil {
		t.Errorf("CountConsumers = %d %v", n, err)
	}
}

func testConsumerOfDestroyed(t *testing.T, s *store.Store) {
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addConsumer(t, s, key, "billing")
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(t.Context(), key) })
	addFormation(t, s, key)
	_, err := s.Consumer(t.Context(), key, "billing")
	wantFault(t, err, fault.NotFound)
}

func testLagAfter(t *testing.T, s *store.Store) {
	_, err := s.LagAfter(t.Context(), key, 0, now)
	wantFault(t, err, fault.NotFound)
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	appendAll(t, s, key, chain("d", 1, 3))
	for position, want := range map[uint64]delivery.Lag{
		0: {Events: 3, Seconds: 2}, 2: {Events: 1, Seconds: 2}, 3: {}, 9: {},
	} {
		got, err := s.LagAfter(t.Context(), key, position, store.Precise(now).Add(2*time.Second))
		if err != nil || got != want {
			t.Errorf("LagAfter %d = %+v %v, want %+v", position, got, err, want)
		}
	}
}

// testConsumerLock: read and write in one transaction are one step to everybody
// else, so that of many moves the furthest stays.
func testConsumerLock(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	addConsumer(t, s, key, "billing")
	var wg sync.WaitGroup
	for i := range uint64(20) {
		wg.Go(func() {
			if err := s.InTx(ctx, func(tx *store.Tx) error {
				c, err := tx.Consumer(ctx, key, "billing")
				if err != nil || c.Position >= 100-i {
					return err
				}
				c.Position = 100 - i
				return tx.UpdateConsumer(ctx, c)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if c, err := s.Consumer(ctx, key, "billing"); err != nil || c.Position != 100 {
		t.Errorf("at %d after all moves, want 100: %v", c.Position, err)
	}
}

func testConsumerIsolation(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	addFormation(t, s, key)
	theirs := tenant.Key{Org: "rival", App: key.App}
	addFormation(t, s, theirs)
	mine := addConsumer(t, s, key, "billing")
	_, err := s.Consumer(ctx, theirs, "billing")
	wantFault(t, err, fault.NotFound)
	if list, err := s.Consumers(ctx, theirs, "", 10); err != nil || len(list) != 0 {
		t.Errorf("another's consumers: %v %v", list, err)
	}
	foreign := mine
	foreign.Org = "rival"
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.UpdateConsumer(ctx, foreign) }), fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.SeeConsumer(ctx, theirs, "billing", now) }), fault.NotFound)
	wantFault(t, s.InTx(ctx, func(tx *store.Tx) error { return tx.DeleteConsumer(ctx, theirs, "billing") }), fault.NotFound)
	got, err := s.Consumer(ctx, key, "billing")
	if diff := cmp.Diff(mine, got); err != nil || diff != "" {
		t.Errorf("mine afterwards: %v\n%s", err, diff)
	}
}
