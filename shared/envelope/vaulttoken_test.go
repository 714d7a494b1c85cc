package envelope_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
)

// TestVaultToken: days pass, in which nobody seals or opens anything, and the token
// is still one. Time is the test's own.
func TestVaultToken(t *testing.T) {
	for name, tc := range map[string]struct {
		life, longest time.Duration
		renewable     bool
		trouble       func(*kmstest.Vault) // before the time passes
		passes        time.Duration
		want          bool // that it still opens
		most          int  // requests in that time
		warns         string
	}{
		"an hour, and again":             {life: time.Hour, renewable: true, passes: 30 * 24 * time.Hour, want: true, most: 5000},
		"a minute, and again":            {life: time.Minute, renewable: true, passes: 24 * time.Hour, want: true, most: 10_000},
		"forever":                        {passes: 30 * 24 * time.Hour, want: true, most: 1000},
		"an hour, and not again":         {life: time.Hour, passes: 2 * time.Hour, want: false, most: 500, warns: "cannot be renewed"},
		"an hour, for a day at the most": {life: time.Hour, longest: 24 * time.Hour, renewable: true, passes: 25 * time.Hour, want: false, most: 500, warns: "end of its longest life"},
		"the server is away for half of it": {
			life: time.Hour, renewable: true, passes: 20 * time.Minute, want: true, most: 500, warns: "tried again",
			trouble: func(v *kmstest.Vault) { v.Always(kmstest.Status(http.StatusServiceUnavailable)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := kmstest.NewVault()
				at := server.Key()
				token := server.Token(tc.life, tc.longest, tc.renewable)
				var log bytes.Buffer
				v, err := envelope.NewVault(envelope.VaultOptions{
					Address: &url.URL{Scheme: "https", Host: "vault"}, Namespace: server.Namespace, Log: slog.New(slog.NewTextHandler(&log, nil)),
					Token: envelope.FixedToken(token), Transport: kmstest.Transport{Server: server},
				})
				if err != nil {
					t.Fatal(err)
				}
				if tc.trouble != nil {
					tc.trouble(server)
				}
				time.Sleep(tc.passes)
				seen := server.Seen()
				server.Always(nil)
				time.Sleep(2 * time.Minute) // in which a trouble that is over is noticed
				_, err = vaultKey(t, v, at).Wrap(t.Context(), genesisOf("acme"), make([]byte, 32))
				if (err == nil) != tc.want {
					t.Errorf("after %v: %v", tc.passes, err)
				}
				if seen == 0 || seen > tc.most {
					t.Errorf("%d requests in %v", seen, tc.passes)
				}
				if err := v.Close(); err != nil { // nobody writes to the log after that
					t.Error(err)
				}
				text := log.String()
				if !strings.Contains(text, tc.warns) || tc.warns == "" && text != "" || strings.Contains(text, token) {
					t.Errorf("the log says:\n%s", text)
				}
			})
		})
	}
}

// TestVaultTokenIsAnother: a new token in the file is looked after, too.
func TestVaultTokenIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := kmstest.NewVault()
		at := server.Key()
		path := filepath.Join(t.TempDir(), "token")
		write := func(token string) {
			if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(server.Token(0, 0, false))
		v, err := envelope.NewVault(envelope.VaultOptions{
			Address: &url.URL{Scheme: "https", Host: "vault"}, Namespace: server.Namespace,
			Token: envelope.TokenFile(path), Transport: kmstest.Transport{Server: server},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		time.Sleep(10 * time.Minute)
		write(server.Token(5*time.Minute, 0, true)) // its end comes before the first one would be asked about again
		time.Sleep(24 * time.Hour)
		if _, err := vaultKey(t, v, at).Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); err != nil {
			t.Error(err)
		}
	})
}
