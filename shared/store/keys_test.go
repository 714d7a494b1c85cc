package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"database/sql"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// TestNothingSealedIsForgotten reads the schema: a column with "sealed" in its name
// that re-wrapping does not know would keep its key for ever.
func TestNothingSealedIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	run(t, "sqlite:"+path, func(*testing.T, *store.Store) {})
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(column, "sealed") {
			got = append(got, table+"."+column)
		}
	}
	var want []string
	for _, table := range store.SealedTables() {
		want = append(want, table+".sealed")
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || rows.Err() != nil {
		t.Errorf("the tables that are re-wrapped, and those of the schema: %s %v", diff, rows.Err())
	}
}

func addSealed(t *testing.T, s *store.Store, org tenant.OrgID, apps ...string) {
	t.Helper()
	addOrg(t, s, org)
	for _, app := range apps {
		k := tenant.Key{Org: org, App: tenant.AppID(app)}
		addFormation(t, s, k)
		inTx(t, s, func(tx *store.Tx) error { return tx.PutGenesis(t.Context(), k, []byte("genesis of "+k.String())) })
	}
}

func testSealed(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addSealed(t, s, "acme", "a", "b", "c")
	addSealed(t, s, "rival", "a")
	inTx(t, s, func(tx *store.Tx) error {
		sink := delivery.Sink{ID: "s2", Org: "acme", Kind: delivery.File, Formations: []string{"*"}, Config: []byte(`{}`), Format: delivery.Both, State: delivery.Active, CreatedAt: store.Precise(now)}
		if err := tx.CreateSink(ctx, sink); err != nil { // which has no secrets
			return err
		}
		return tx.ReplaceSigningKey(ctx, delivery.SigningKey{Org: "acme", ID: "k1", Public: []byte("p"), Sealed: []byte("key"), CreatedAt: store.Precise(now)}, now)
	})
	addSink(t, s, "s1", delivery.Start{}, "*")
	list := func(after envelope.Record) (out []string) {
		t.Helper()
		page, err := s.SealedAfter(ctx, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range page {
			out = append(out, fmt.Sprintf("%s/%s/%s/%s=%s", one.Record.Org, one.Record.App, one.Record.Kind, one.Record.ID, one.Blob))
			if blob, err := s.Sealed(ctx, one.Record); err != nil || string(blob) != string(one.Blob) {
				t.Errorf("alone it is %q, %v", blob, err)
			}
		}
		return out
	}
	for _, tc := range []struct {
		after envelope.Record
		want  []string
	}{
		{envelope.Record{Org: "acme", Kind: keyring.Genesis}, []string{"acme/a/genesis/=genesis of acme/a", "acme/b/genesis/=genesis of acme/b"}},
		{envelope.Record{Org: "acme", App: "b", Kind: keyring.Genesis}, []string{"acme/c/genesis/=genesis of acme/c"}},
		{envelope.Record{Org: "acme", Kind: keyring.Sink}, []string{"acme//sink/s1=s"}},
		{envelope.Record{Org: "acme", Kind: keyring.Sink, ID: "s1"}, nil},
		{envelope.Record{Org: "acme", Kind: keyring.SigningKey}, []string{"acme//signing-key/k1=key"}},
		{envelope.Record{Org: "rival", Kind: keyring.Sink}, nil},
	} {
		if diff := cmp.Diff(tc.want, list(tc.after)); diff != "" {
			t.Errorf("after %+v: %s", tc.after, diff)
		}
	}
	if _, err := s.SealedAfter(ctx, envelope.Record{Org: "acme", Kind: "certificate"}, 1); err == nil {
		t.Error("a kind that is not sealed")
	}
	rec := keyring.OfGenesis(tenant.Key{Org: "acme", App: "a"})
	reseal := func(was, now string) error {
		return s.InTx(ctx, func(tx *store.Tx) error { return tx.Reseal(ctx, rec, []byte(was), []byte(now)) })
	}
	wantFault(t, reseal("another", "new"), fault.Stale)
	if err := reseal("genesis of acme/a", "new"); err != nil {
		t.Error(err)
	}
	wantFault(t, reseal("genesis of acme/a", "newer"), fault.Stale)
	for app, want := range map[string]string{"a": "new", "b": "genesis of acme/b"} {
		if blob, err := s.Genesis(ctx, tenant.Key{Org: "acme", App: tenant.AppID(app)}); err != nil || string(blob) != want {
			t.Errorf("%s: %q, %v", app, blob, err)
		}
	}
	if blob, err := s.Genesis(ctx, tenant.Key{Org: "rival", App: "a"}); err != nil || string(blob) != "genesis of rival/a" {
		t.Errorf("the other organization's: %q, %v", blob, err)
	}
	_, err := s.Sealed(ctx, keyring.OfSink("acme", "s2"))
	wantFault(t, err, fault.NotFound)
}

func testOrgKeys(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	set := func(org tenant.OrgID, id string) error {
		return s.InTx(ctx, func(tx *store.Tx) error { return tx.SetOrgKey(ctx, org, id, now) })
	}
	for _, id := range []string{"vault:a/b", "vault:a/c", "vault:a/c", "", ""} {
		if err := set("acme", id); err != nil {
			t.Fatal(err)
		}
		since := store.Precise(now)
		if id == "" {
			since = time.Time{}
		}
		if got, at, err := s.OrgKey(ctx, "acme"); err != nil || got != id || !at.Equal(since) {
			t.Errorf("%q since %s, %v; want %q", got, at, err, id)
		}
		if got, _, err := s.OrgKey(ctx, "rival"); err != nil || got != "" {
			t.Errorf("the other's: %q, %v", got, err)
		}
	}
	wantFault(t, set("nobody", "vault:a/b"), fault.NotFound)
	if err := set("rival", "vault:a/b"); err != nil {
		t.Fatal(err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.DeleteOrg(ctx, "rival") })
	addOrg(t, s, "rival")
	if got, _, err := s.OrgKey(ctx, "rival"); err != nil || got != "" {
		t.Errorf("a name that is used again inherits %q, %v", got, err)
	}
}

func testShut(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addSealed(t, s, "acme", "a", "b", "c", "d")
	addSealed(t, s, "rival", "b")
	mark := func(app string, at time.Time) {
		t.Helper()
		inTx(t, s, func(tx *store.Tx) error {
			return tx.MarkShut(ctx, tenant.Key{Org: "acme", App: tenant.AppID(app)}, at)
		})
	}
	for _, app := range []string{"a", "b", "d"} {
		mark(app, now)
	}
	mark("d", time.Time{})
	got, err := s.Shut(ctx, "acme", "b", "d")
	if diff := cmp.Diff(map[tenant.AppID]bool{"b": true}, got); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	if got, err := s.Shut(ctx, "rival", "a", "z"); err != nil || len(got) != 0 {
		t.Errorf("the other's: %v, %v", got, err)
	}
	for app, want := range map[tenant.AppID]bool{"a": true, "c": false} {
		key := tenant.Key{Org: "acme", App: app}
		root, err := s.Root(ctx, key)
		if diff := cmp.Diff(keyring.Root{Record: keyring.OfGenesis(key), Sealed: []byte("genesis of " + key.String()), PublicKey: []byte{1, 2, 3}, Shut: want}, root); diff != "" || err != nil {
			t.Errorf("%s %v", diff, err)
		}
	}
	_, err = s.Root(ctx, tenant.Key{Org: "rival", App: "a"})
	wantFault(t, err, fault.NotFound)
}

func testRewrapRuns(t *testing.T, s *store.Store) {
	ctx := t.Context()
	_, err := s.Rewrap(ctx, "")
	wantFault(t, err, fault.NotFound)
	r := keyring.Run{ID: "r1", At: keyring.OfSink("acme", "s"), Counts: keyring.Counts{Resealed: 1, Already: 2, Gone: 3, Failed: 4}, StartedAt: store.Precise(now), SavedAt: store.Precise(now)}
	save := func() {
		t.Helper()
		inTx(t, s, func(tx *store.Tx) error { return tx.SaveRewrap(ctx, r) })
	}
	save()
	r.At, r.Counts.Resealed, r.SavedAt = keyring.OfGenesis(key), 7, store.Precise(now.Add(time.Second))
	save()
	got, err := s.Rewrap(ctx, "")
	if diff := cmp.Diff(r, got); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	_, err = s.Rewrap(ctx, "acme")
	wantFault(t, err, fault.NotFound)
	r.EndedAt = now
	save()
	if _, err = s.Rewrap(ctx, ""); !errors.Is(err, fault.NotFound) {
		t.Errorf("a run that ended: %v", err)
	}
}
