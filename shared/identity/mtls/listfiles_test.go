package mtls_test

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Lists in the operator's folder are used as they are by now; what cannot be read
// leaves what was there before.
func TestListFiles(t *testing.T) {
	root, stranger := mtlstest.NewRoot(t, "root"), mtlstest.NewRoot(t, "stranger")
	card := root.Issue(t, mtlstest.Request{Subject: john})
	dir, outside := t.TempDir(), t.TempDir()
	now := time.Now()
	path := filepath.Join(dir, "dod.crl")
	write := func(text string) {
		t.Helper()
		now = now.Add(11 * time.Second) // each is a new state of the file, and is looked at
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now); err != nil {
			t.Fatal(err)
		}
	}
	in, err := json.Marshal(object{"ca_pem": bundle(root), "subject": "edipi", "revocation": object{"mode": "hard", "crl_files": []string{"dod.crl"}}})
	if err != nil {
		t.Fatal(err)
	}
	settings := identity.Settings{CRLDir: dir, Now: func() time.Time { return now }}
	if _, err := mtls.Parse(in, nil, identity.Settings{Now: time.Now}); err == nil || !strings.Contains(err.Error(), "PEAT_CRL_DIR") {
		t.Errorf("without a folder: %v", err)
	}
	parsed, err := mtls.Parse(in, nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(parsed.Public)
	if err != nil {
		t.Fatal(err)
	}
	v, err := mtls.Open(identity.Opening{Provider: identity.Provider{Config: public}, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	verify := func() error {
		_, err := v.Verify(t.Context(), identity.Proof{Chain: chain(card)}, time.Now())
		return err
	}
	says := func(want string, ok bool) {
		t.Helper()
		report, err := v.Check(t.Context())
		text, _ := json.Marshal(report)
		if err != nil || report.OK != ok || !strings.Contains(string(text), want) {
			t.Errorf("the check says %s, %v; want %q", text, err, want)
		}
	}

	refused(t, verify(), fault.Unauthenticated, "nothing says whether it was revoked")
	says("dod.crl: it is not there", false)
	write(root.List(t))
	if err := verify(); err != nil {
		t.Errorf("with a list: %v", err)
	}
	says("the list of CN=root is valid until", true)
	write("nonsense")
	if err := verify(); err != nil {
		t.Errorf("the list before goes on: %v", err)
	}
	says("dod.crl: it holds a list of revocations that cannot be read", false)
	write(stranger.List(t))
	says("is signed by no authority", false)
	root.Revoke(t, card.Cert)
	block, _ := pem.Decode([]byte(root.List(t)))
	write(string(block.Bytes))
	refused(t, verify(), fault.Unauthenticated, "it was revoked")

	// A link to the outside is not followed, and what stands there is not told.
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte(root.EmptyList(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(11 * time.Second)
	refused(t, verify(), fault.Unauthenticated, "it was revoked")
	says("it is not there, or cannot be opened", false)

	for _, name := range []string{"", "..", "../x", "a/b", ".hidden", "/etc/passwd", "a\x00b", strings.Repeat("a", 200)} {
		in, err := json.Marshal(object{"ca_pem": bundle(root), "subject": "edipi", "revocation": object{"mode": "hard", "crl_files": []string{name}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = mtls.Parse(in, nil, settings)
		if f := fault.Of(err); f == nil || len(f.Fields) == 0 || f.Fields[0].Pointer != "/config/revocation/crl_files/0" {
			t.Errorf("%q: %v", name, err)
		}
	}
}
