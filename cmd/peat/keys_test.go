package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// kek is a key as text, of one byte repeated.
func kek(n byte) string { return strings.Repeat(hex.EncodeToString([]byte{n}), 32) }

func kekID(t *testing.T, n byte) string {
	t.Helper()
	k, err := envelope.ParseKEK(kek(n))
	if err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

// upstream returns a formation's genesis as peat-gateway 0.1 sealed it.
func upstream(t *testing.T, n byte, app string) (sealed, plain []byte) {
	t.Helper()
	g, err := genesis.FromSeed(app, tenant.Strict, 1_700_000_000_000, genesis.Secret{7})
	if err == nil {
		plain, err = g.Encode()
	}
	if err != nil {
		t.Fatal(err)
	}
	seal := func(key, plain []byte) []byte {
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			t.Fatal(err)
		}
		return aead.Seal(nil, nil, plain, nil)
	}
	dek := bytes.Repeat([]byte{9}, 32)
	wrapped := seal(bytes.Repeat([]byte{n}, 32), dek)
	sealed = binary.LittleEndian.AppendUint16([]byte("PENV\x01"), uint16(len(wrapped)))
	return slices.Concat(sealed, wrapped, seal(dek, plain)), plain
}

// desk runs commands on one database.
type desk struct {
	t     *testing.T
	store *store.Store
}

func newDesk(t *testing.T, orgs ...tenant.OrgID) *desk {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	for _, name := range []string{"PEAT_KEK", "PEAT_KEK_FILE", "PEAT_KEKS", "PEAT_KEK_DIR", "PEAT_KEY", "PEAT_KMS_ALLOW"} {
		t.Setenv(name, "")
	}
	t.Setenv("PEAT_DATABASE_URL", url)
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	for _, org := range orgs {
		if err := st.InTx(t.Context(), func(tx *store.Tx) error {
			return tx.CreateOrg(t.Context(), tenant.Org{ID: org, DisplayName: "x", Quotas: tenant.DefaultQuotas()})
		}); err != nil {
			t.Fatal(err)
		}
	}
	return &desk{t, st}
}

// run runs a command that must end with the code; it returns what was printed.
func (d *desk) run(code int, args ...string) string {
	d.t.Helper()
	var stdout, stderr bytes.Buffer
	err := run(d.t.Context(), append([]string{"keys"}, args...), &stdout, &stderr)
	if got := exitCode(err); got != code {
		d.t.Fatalf("peat keys %v ends with %d, want %d: %v\n%s%s", args, got, code, err, &stdout, &stderr)
	}
	return stdout.String()
}

func (d *desk) says(want, got string) {
	d.t.Helper()
	if !strings.Contains(got, want) {
		d.t.Errorf("%q is not in:\n%s", want, got)
	}
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKeysFromTheOldGatewayToANewKey is what an operator does: bring formations in,
// change the key, and find out what does not open.
func TestKeysFromTheOldGatewayToANewKey(t *testing.T) {
	d := newDesk(t, "acme", "rival")
	dir := t.TempDir()
	for _, path := range []string{"acme/logistics", "acme/medevac", "rival/logistics", ".git/x"} {
		sealed, _ := upstream(t, 1, filepath.Base(path))
		write(t, filepath.Join(dir, path), sealed)
	}
	t.Setenv("PEAT_KEK", kek(1))
	d.says("3 formations would be made, 0 were there, 0 failed", d.run(0, "import", "--dry-run", dir))
	d.says("3 formations made, 0 were there, 0 failed", d.run(0, "import", dir))
	d.says("0 formations made, 3 were there, 0 failed", d.run(0, "import", dir))
	f, err := d.store.Formation(t.Context(), tenant.Key{Org: "acme", App: "logistics"})
	g, _ := genesis.FromSeed("logistics", tenant.Strict, 0, genesis.Secret{7})
	if err != nil || f.MeshID != g.MeshID() || !bytes.Equal(f.AuthorityPublicKey, g.AuthorityPublicKey()) || f.Policy != tenant.Strict {
		t.Errorf("%+v, %v", f, err)
	}
	d.says("0 records are not sealed", d.run(0, "status"))
	d.says("3 records open, 0 do not", d.run(0, "verify"))

	// A new key, and the old one beside it.
	t.Setenv("PEAT_KEK", kek(2))
	d.run(1, "verify")
	d.run(1, "status")
	t.Setenv("PEAT_KEKS", kek(3)+", "+kek(1))
	d.says("3 records open, 0 do not", d.run(0, "verify"))
	var status struct {
		Items []keyring.Holding
		Left  int
	}
	if err := json.Unmarshal([]byte(d.run(1, "status", "--json", "--org", "acme")), &status); err != nil || status.Left != 2 || len(status.Items) != 1 ||
		status.Items[0] != (keyring.Holding{Org: "acme", Kind: "genesis", KeyID: kekID(t, 1), Version: 2, Count: 2}) {
		t.Errorf("%+v, %v", status, err)
	}
	d.says("3 would be sealed anew", d.run(0, "rewrap", "--dry-run"))
	d.says("2 sealed anew, 0 were right, 0 are gone, 0 failed\n0 records are not", d.run(0, "rewrap", "--org", "acme"))
	d.says("1 sealed anew, 2 were right", d.run(0, "rewrap"))
	d.says("0 records are not sealed", d.run(0, "status"))

	// The old key is gone, from where the files of keys are too.
	t.Setenv("PEAT_KEKS", "")
	keyDir := t.TempDir()
	write(t, filepath.Join(keyDir, "third"), []byte(kek(3)+"\n"))
	write(t, filepath.Join(keyDir, "..data"), []byte("what Kubernetes puts there"))
	t.Setenv("PEAT_KEK_DIR", keyDir)
	d.says("3 records open, 0 do not", d.run(0, "verify"))

	// A row is changed by somebody else.
	rec := keyring.OfGenesis(tenant.Key{Org: "acme", App: "medevac"})
	if err := d.store.InTx(t.Context(), func(tx *store.Tx) error {
		was, err := tx.Sealed(t.Context(), rec)
		if err != nil {
			return err
		}
		other, err := tx.Sealed(t.Context(), keyring.OfGenesis(tenant.Key{Org: "acme", App: "logistics"}))
		if err != nil {
			return err
		}
		return tx.Reseal(t.Context(), rec, was, other)
	}); err != nil {
		t.Fatal(err)
	}
	got := d.run(1, "verify")
	d.says(`"acme/medevac" genesis: it does not open: not ours or not intact`, got)
	d.says("2 records open, 1 do not", got)
	var report keyring.VerifyReport
	if err := json.Unmarshal([]byte(d.run(1, "verify", "--json")), &report); err != nil || report.Failed != 1 || report.Failures[0].App != "medevac" {
		t.Errorf("%+v, %v", report, err)
	}
	t.Setenv("PEAT_KEY", kekID(t, 3)) // the key for new things may be any that is there
	got = d.run(1, "rewrap", "--json")
	var rewrap keyring.RewrapReport
	if err := json.Unmarshal([]byte(got), &rewrap); err != nil || rewrap.Counts != (keyring.Counts{Resealed: 2, Failed: 1}) || rewrap.Left != 1 {
		t.Errorf("%s, %v", got, err)
	}
	for n := range byte(4) {
		if n > 0 && strings.Contains(got, kek(n)) {
			t.Error("a key is shown")
		}
	}
}

func TestImportRefuses(t *testing.T) {
	d := newDesk(t, "acme")
	t.Setenv("PEAT_KEK", kek(1))
	sealed, plain := upstream(t, 1, "logistics")
	foreign, _ := upstream(t, 2, "logistics")
	other, _ := upstream(t, 1, "medevac")
	dir := t.TempDir()
	more := slices.Concat(plain, []byte("and more"))
	for name, tc := range map[string]struct {
		content []byte
		args    []string
		code    int
		says    string
	}{
		"another's key":               {foreign, nil, 1, "the genesis is sealed and cannot be opened"},
		"changed":                     {append(slices.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1), nil, 1, "the genesis is sealed and cannot be opened"},
		"cut off":                     {sealed[:50], nil, 1, "the genesis is sealed and cannot be opened"},
		"empty":                       {nil, nil, 1, "it is not sealed"},
		"never sealed":                {plain, nil, 1, "it is not sealed"},
		"never sealed, and something": {more, []string{"--unprotected"}, 1, "a genesis and something else"},
		"no genesis":                  {[]byte("hello"), []string{"--unprotected"}, 1, "no genesis"},
		"a formation's for another":   {other, nil, 1, "a mesh of another name"},
		"too long":                    {make([]byte, 1<<18), nil, 1, "longer than"},
		"no such organization":        {sealed, []string{"--org", "nobody"}, 1, "no organization"},
		"an impossible formation":     {sealed, []string{"--app", "a/b"}, 2, ""},
		"no formation":                {sealed, []string{"--app", ""}, 2, ""},
		"two files":                   {sealed, []string{"x", "y"}, 2, ""},
		"an unknown flag":             {sealed, []string{"--force"}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{t, d.store}
			path := write(t, filepath.Join(dir, "files", strings.ReplaceAll(name, " ", "-")), tc.content)
			args := slices.Concat([]string{"import", "--org", "acme", "--app", "logistics"}, tc.args, []string{path})
			d.says(tc.says, d.run(tc.code, args...))
			if u, err := d.store.Usage(t.Context(), "acme", time.Now()); err != nil || u.Formations != 0 {
				t.Errorf("%+v, %v", u, err)
			}
		})
	}
	d.run(2, "import", filepath.Join(dir, "nothing"))
	d.run(2, "import", filepath.Join(dir)) // a folder of another kind
	d.run(2, "import")
	d.run(2, "unknown")
	d.run(0, "help")
	d.run(0, "rewrap", "--help")
	path := write(t, filepath.Join(dir, "files", "plain"), plain)
	d.says("1 formations made", d.run(0, "import", "--org", "acme", "--app", "logistics", "--unprotected", path))
	d.says("1 records open, 0 do not", d.run(0, "verify"))
	// Another formation of the name is not replaced.
	g, _ := genesis.FromSeed("logistics", tenant.Strict, 0, genesis.Secret{8})
	another, _ := g.Encode()
	path = write(t, filepath.Join(dir, "files", "another"), another)
	d.says("there is another formation of this name", d.run(1, "import", "--org", "acme", "--app", "logistics", "--unprotected", path))
}

func TestKeysNeedTheirSettings(t *testing.T) {
	d := newDesk(t)
	for name, set := range map[string]map[string]string{
		"no key":                {},
		"no such default":       {"PEAT_KEK": kek(1), "PEAT_KEY": "local:0000000000000000"},
		"half a key":            {"PEAT_KEK": kek(1)[:10]},
		"half a further key":    {"PEAT_KEK": kek(1), "PEAT_KEKS": kek(2) + ",12"},
		"no folder":             {"PEAT_KEK": kek(1), "PEAT_KEK_DIR": "/does/not/exist"},
		"an impossible allowed": {"PEAT_KEK": kek(1), "PEAT_KMS_ALLOW": "gcp:x"},
		"no database":           {"PEAT_KEK": kek(1), "PEAT_DATABASE_URL": ""},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range set {
				t.Setenv(k, v)
			}
			(&desk{t, d.store}).run(2, "status")
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("PEAT_KEK", kek(1))
	if err := run(ctx, []string{"keys", "rewrap"}, &bytes.Buffer{}, &bytes.Buffer{}); exitCode(err) != 2 {
		t.Errorf("broken off: %v", err)
	}
}
