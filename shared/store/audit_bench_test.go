package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// BenchmarkAppendAudit appends entries, each durable by itself, to a trail that has
// few and to one that has many, and says by how much the second takes longer.
// AUDIT_ROWS is what "many" is.
func BenchmarkAppendAudit(b *testing.B) {
	many := 100_000
	if text := os.Getenv("AUDIT_ROWS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		many = n
	}
	for engine, url := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": testenv.Postgres,
	} {
		b.Run(engine, func(b *testing.B) {
			few, lots := filled(b, url(b), 1000), filled(b, url(b), many)
			b.ResetTimer()
			// By turns, so that whatever else the machine does is felt by both.
			var tookFew, tookLots []time.Duration
			for n := 0; b.Loop(); n++ {
				if n%2 == 0 {
					tookFew = append(tookFew, appendOne(b, few))
				}
				tookLots = append(tookLots, appendOne(b, lots))
				if n%2 == 1 {
					tookFew = append(tookFew, appendOne(b, few))
				}
			}
			b.ReportMetric(float64(median(tookFew)), "ns/append-few")
			b.ReportMetric(float64(median(tookLots)), "ns/append-many")
			b.ReportMetric(float64(median(tookLots))/float64(median(tookFew)), "many/few")
		})
	}
}

// BenchmarkLinkAudit links a thousand entries at a time.
func BenchmarkLinkAudit(b *testing.B) {
	for engine, url := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": testenv.Postgres,
	} {
		b.Run(engine, func(b *testing.B) {
			s, err := store.Open(b.Context(), url(b))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			const size = 1000
			n := 0
			for b.Loop() {
				b.StopTimer()
				appendMany(b, s, size)
				b.StartTimer()
				for {
					linked, err := s.LinkAudit(b.Context(), "acme", time.Time{})
					if err != nil {
						b.Fatal(err)
					}
					if linked == 0 {
						break
					}
					n += linked
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
		})
	}
}

// filled is a store whose trail has n linked entries.
func filled(b *testing.B, url string, n int) *store.Store {
	b.Helper()
	s, err := store.Open(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	for left := n; left > 0; left -= 10_000 {
		appendMany(b, s, min(left, 10_000))
		for {
			linked, err := s.LinkAudit(b.Context(), "acme", time.Time{})
			if err != nil {
				b.Fatal(err)
			}
			if linked == 0 {
				break
			}
		}
	}
	return s
}

func appendMany(b *testing.B, s *store.Store, n int) {
	b.Helper()
	if err := s.InTx(b.Context(), func(tx *store.Tx) error {
		for i := range n {
			if err := tx.AppendAudit(b.Context(), anAct(i)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}

func anAct(i int) store.Audit {
	return store.Audit{Org: "acme", At: time.Now(), Actor: "ann", Action: "certificate.issue", Target: fmt.Sprintf("logistics/%d", i), RequestID: "r",
		Detail: map[string]any{"serial": "198ca4329f", "tier": "enterprise", "expires_at": now}}
}

func appendOne(b *testing.B, s *store.Store) time.Duration {
	b.Helper()
	began := time.Now()
	if err := s.InTx(b.Context(), func(tx *store.Tx) error { return tx.AppendAudit(b.Context(), anAct(0)) }); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}
