package store_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// eachEngine runs a benchmark on a store with one formation, on every engine.
func eachEngine(b *testing.B, run func(*testing.B, *store.Store)) {
	for name, url := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": testenv.Postgres,
	} {
		b.Run(name, func(b *testing.B) {
			s, err := store.Open(b.Context(), url(b))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if err := s.InTx(b.Context(), func(tx *store.Tx) error {
				if err := tx.CreateOrg(b.Context(), tenant.Org{ID: key.Org, DisplayName: "x"}); err != nil {
					return err
				}
				return tx.CreateFormation(b.Context(), tenant.Formation{Org: key.Org, App: key.App, State: tenant.Active, AuthorityPublicKey: []byte{1}})
			}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			run(b, s)
		})
	}
}

// benchLog is changes of as many documents.
func benchLog(size int) []change.Settled {
	var log []change.Settled
	for n := range size {
		h := change.Hash{byte(n), byte(n >> 8)}
		c := change.Change{Hash: h, Deps: []change.Hash{h}, Raw: make([]byte, 130), Patches: make([]byte, 200), Actor: "0123456789abcdef0123456789abcdef", ActorSeq: 1}
		log = append(log, change.Settled{Change: c, Document: fmt.Sprintf("unit:%05d", n), Seq: 1, Prev: &h, ReceivedAt: now, Origin: change.Sync})
	}
	return log
}

// BenchmarkChangesAfter reads a log as delivery does, 256 changes at a time.
func BenchmarkChangesAfter(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *store.Store) {
		if err := s.InTx(b.Context(), func(tx *store.Tx) error {
			_, err := tx.AppendChanges(b.Context(), key, benchLog(20*256))
			return err
		}); err != nil {
			b.Fatal(err)
		}
		n := 0
		for b.Loop() {
			got, err := s.ChangesAfter(b.Context(), key, uint64(n%20)*256, 256, 8<<20)
			if err != nil || len(got) != 256 {
				b.Fatal(len(got), err)
			}
			n++
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*256), "ns/change")
	})
}

// BenchmarkFormation reads one row outside a transaction.
func BenchmarkFormation(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *store.Store) {
		for b.Loop() {
			if _, err := s.Formation(b.Context(), key); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAppend captures as the watcher does: eight changes under a lease.
func BenchmarkAppend(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *store.Store) {
		lease, err := s.TakeLease(b.Context(), "watch", "me", "", now, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		log, seq := benchLog(8), uint64(0)
		for b.Loop() {
			seq++
			for i := range log {
				log[i].Seq = seq
			}
			if err := s.InTx(b.Context(), func(tx *store.Tx) error {
				if err := tx.Guard(b.Context(), lease); err != nil {
					return err
				}
				_, err := tx.AppendChanges(b.Context(), key, log)
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSaveCursor records a delivery of eight documents.
func BenchmarkSaveCursor(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *store.Store) {
		sink := delivery.Sink{Org: key.Org, ID: "snk_1", Kind: delivery.Stdout, Formations: []string{"*"}, Config: []byte(`{}`), State: delivery.Active}
		if err := s.InTx(b.Context(), func(tx *store.Tx) error { return tx.CreateSink(b.Context(), sink) }); err != nil {
			b.Fatal(err)
		}
		var receipts []completeness.Receipt
		for i := range 8 {
			receipts = append(receipts, completeness.Receipt{Document: fmt.Sprint("unit:", i), Seq: 1, Count: 1})
		}
		var position uint64
		for b.Loop() {
			position++
			if err := s.InTx(b.Context(), func(tx *store.Tx) error {
				if err := tx.SaveCursor(b.Context(), delivery.Cursor{Org: key.Org, Sink: sink.ID, App: key.App, Position: position}); err != nil {
					return err
				}
				return tx.SaveReceipts(b.Context(), key, sink.ID, receipts)
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
