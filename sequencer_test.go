package gateway

import (
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// TestEntriesGetTheirPlace: an act is enough; nobody need ring or sweep.
func TestEntriesGetTheirPlace(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	host, err := NewHost(env.New(func(name string) (string, bool) { return url, name == "PEAT_DATABASE_URL" }), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}()
	st, err := host.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	orgs := []tenant.OrgID{"acme", "rival"}
	for i := range 20 {
		appendAct(t, st, orgs[i%2])
	}
	for _, org := range orgs {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if c, err := st.AuditChain(t.Context(), org); err == nil && c.Seq == 10 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the entries of %s are not linked", org)
			}
		}
	}
}

// TestASequencerThatIsClosed waits for what it is doing, and hears without harm
// what is done afterwards.
func TestASequencerThatIsClosed(t *testing.T) {
	st, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	s := startSequencer(st, func() {}, slog.New(slog.DiscardHandler))
	appendAct(t, st, "acme")
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	appendAct(t, st, "acme")
}

func appendAct(t *testing.T, st *store.Store, org tenant.OrgID) {
	t.Helper()
	if err := st.InTx(t.Context(), func(tx *store.Tx) error {
		return tx.AppendAudit(t.Context(), store.Audit{Org: org, At: time.Now(), Actor: "ann", Action: "a.b", Target: "x"})
	}); err != nil {
		t.Fatal(err)
	}
}
