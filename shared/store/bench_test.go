package store_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// BenchmarkChangesAfter reads a log as delivery does, 256 changes at a time.
func BenchmarkChangesAfter(b *testing.B) {
	s, err := store.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "x.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const size = 20 * 256
	var log []change.Settled
	for n := range size {
		h := change.Hash{byte(n), byte(n >> 8)}
		c := change.Change{Hash: h, Deps: []change.Hash{h}, Raw: make([]byte, 130), Patches: make([]byte, 200), Actor: "0123456789abcdef0123456789abcdef", ActorSeq: 1}
		log = append(log, change.Settled{Change: c, Document: fmt.Sprintf("unit:%05d", n), Seq: 1, Prev: &h, ReceivedAt: now, Origin: change.Sync})
	}
	key := tenant.Key{Org: "acme", App: "logistics"}
	if err := s.InTx(b.Context(), func(tx *store.Tx) error {
		if err := tx.CreateOrg(b.Context(), tenant.Org{ID: "acme", DisplayName: "x"}); err != nil {
			return err
		}
		if err := tx.CreateFormation(b.Context(), tenant.Formation{Org: "acme", App: "logistics", State: tenant.Active, AuthorityPublicKey: []byte{1}}); err != nil {
			return err
		}
		_, err := tx.AppendChanges(b.Context(), key, log)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		got, err := s.ChangesAfter(b.Context(), key, uint64(n%20)*256, 256, 8<<20)
		if err != nil || len(got) != 256 {
			b.Fatal(len(got), err)
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*256), "ns/change")
}
