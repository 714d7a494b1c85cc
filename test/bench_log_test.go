package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Making a long log by peers would take longer than delivering it. So it is put
// into the store beside a gateway that does not run: changes of the size of real
// ones, which nobody could apply.

// fill writes changes to formations of a gateway that is stopped meanwhile: as
// many to each, spread over documents.
func fill(b *testing.B, g *gateway, env []string, keys []tenant.Key, documents, changes int) {
	b.Helper()
	g.kill()
	st := openStore(b, g, env)
	for _, key := range keys {
		fillOne(b, st, key, documents, changes)
	}
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
	g.start()
}

// openStore opens the store of a gateway.
func openStore(b *testing.B, g *gateway, env []string) *store.Store {
	b.Helper()
	url := "sqlite:" + filepath.Join(g.dir, "gateway.db")
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PEAT_DATABASE_URL="); ok {
			url = v
		}
	}
	st, err := store.Open(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	return st
}

func fillOne(b *testing.B, st *store.Store, key tenant.Key, documents, changes int) {
	rng := rand.New(rand.NewPCG(uint64(changes), 7))
	last := make([]change.Settled, documents)
	batch := make([]change.Settled, 0, 512)
	flush := func() {
		err := st.InTx(b.Context(), func(tx *store.Tx) error {
			_, err := tx.AppendChanges(context.Background(), key, batch)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		batch = batch[:0]
	}
	for n := range changes {
		d := n % documents
		c := change.Change{
			Raw: make([]byte, 130), Actor: fmt.Sprintf("%032x", d), ActorSeq: last[d].Seq + 1, StartOp: 4 * (last[d].Seq + 1), Time: 1_790_000_000, Message: "moved",
			Patches: []byte(`[{"action":"put","path":["unit","position","lat"],"value":48.20817},{"action":"put","path":["unit","position","lon"],"value":16.37382},{"action":"inc","path":["unit","count"],"value":1}]`),
		}
		for i := 0; i < len(c.Raw); i += 8 {
			copy(c.Raw[i:], fmt.Sprintf("%08x", rng.Uint32()))
		}
		for i := range c.Hash {
			c.Hash[i] = byte(rng.Uint32())
		}
		var prev *change.Hash
		if last[d].Seq > 0 {
			h := last[d].Hash
			prev, c.Deps = &h, []change.Hash{h}
		}
		s := change.Follow(c, fmt.Sprintf("unit:%05d", d), last[d].Seq+1, prev)
		s.ReceivedAt, s.Origin = time.Now().UTC(), change.Sync
		last[d] = s
		if batch = append(batch, s); len(batch) == cap(batch) {
			flush()
		}
	}
	flush()
}

// roomy makes an organization that may have as much as a benchmark needs.
func (g *gateway) roomy(org string) {
	g.t.Helper()
	g.do("POST", "/orgs", map[string]any{"org_id": org, "display_name": org, "quotas": map[string]any{
		"max_formations": 100_000, "max_peers_per_formation": 100_000, "max_documents_per_formation": 10_000_000,
		"max_cdc_sinks": 100_000, "max_enrollments_per_hour": 1_000_000_000,
	}}, nil, 201)
}
