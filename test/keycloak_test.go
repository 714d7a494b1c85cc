package test

import (
	"bytes"
	"crypto/ed25519"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// outpost is a gateway, a real Keycloak beside it, and devices with peat enroll.
type outpost struct {
	t       *testing.T
	k       *testenv.KeycloakServer
	g       *gateway
	cards   *testenv.Authority // whose client certificates acme takes
	public  string             // the gateway's address with TLS
	dir     string
	authKey ed25519.PublicKey
	mesh    string
}

func newOutpost(t *testing.T) *outpost {
	t.Helper()
	f := &outpost{t: t, k: testenv.Keycloak(t), cards: testenv.NewAuthority(t), dir: testenv.Dir(t)}
	// The address must be known before the gateway starts. It is from below those that
	// the system gives to outgoing connections.
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+mathrand.IntN(12000))))
	for err != nil {
		listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+mathrand.IntN(12000))))
	}
	address := listener.Addr().String()
	_ = listener.Close()
	f.public = "https://" + address
	certificate, key := f.k.Authority.Issue(t, "gateway", "127.0.0.1")
	f.g = startGateway(t, options{env: []string{
		"PEAT_PUBLIC_URL=" + f.public, "PEAT_TLS_LISTEN=" + address, "PEAT_TLS_CLIENT_AUTH=request",
		"PEAT_TLS_CERT_FILE=" + f.write("gateway.crt", certificate), "PEAT_TLS_KEY_FILE=" + f.write("gateway.key", key),
		"PEAT_IDENTITY_ALLOW=127.0.0.0/8",
	}})
	f.write("ca.crt", f.k.Authority.PEM)
	var formation struct {
		Mesh      string `json:"mesh_id"`
		Authority string `json:"authority_public_key"`
	}
	f.g.do("GET", f.g.formation("acme", "logistics"), nil, &formation, 200)
	f.mesh = formation.Mesh
	if f.authKey, err = hex.DecodeString(formation.Authority); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *outpost) write(name string, content []byte) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// provider makes an identity provider of acme's.
func (f *outpost) provider(kind string, config map[string]any) (id string) {
	f.t.Helper()
	var out struct {
		ID string `json:"provider_id"`
	}
	f.g.do("POST", "/orgs/acme/identity-providers", map[string]any{"kind": kind, "label": kind, "config": config}, &out, 201)
	return out.ID
}

// enroll runs peat enroll for a node, to its end.
func (f *outpost) enroll(t *testing.T, node string, args ...string) (code int, said string) {
	t.Helper()
	cmd := f.enrollment(t, node, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (f *outpost) enrollment(t *testing.T, node string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), peat(t), append([]string{
		"enroll", "--gateway", f.public, "--ca", filepath.Join(f.dir, "ca.crt"), "--org", "acme", "--app", "logistics",
		"--mesh-id", f.mesh, "--authority", hex.EncodeToString(f.authKey), "--node-id", node, "--dir", f.folder(node),
	}, args...)...)
}

func (f *outpost) folder(node string) string { return filepath.Join(f.dir, "nodes", node) }

// member fails unless a node has what makes it one: a certificate that the mesh's own
// verifier takes, of a tier, and the formation's credentials, all for its owner alone.
func (f *outpost) member(t *testing.T, node string, tier cert.Tier) {
	t.Helper()
	read := func(name string) []byte {
		t.Helper()
		path := filepath.Join(f.folder(node), name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
		return content
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(read("node.key"))))
	if err != nil || len(seed) != ed25519.SeedSize {
		t.Fatalf("the key: %v", err)
	}
	c, err := cert.DecodeExact(read("certificate"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := cert.NewTrust(cert.Policy{MeshID: f.mesh, Authorities: []ed25519.PublicKey{f.authKey}, Depth: 1, Limit: 1})
	if err == nil {
		err = trust.Add(time.Now(), c)
	}
	if err != nil {
		t.Errorf("the mesh does not take it: %v", err)
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if !public.Equal(ed25519.PublicKey(c.Subject[:])) || c.NodeID != node || c.Tier != tier {
		t.Errorf("the certificate is of %x, node %q, tier %v", c.Subject, c.NodeID, c.Tier)
	}
	shared, err := genesis.DecodeCredentials(read("credentials"))
	if err != nil || shared.MeshID != f.mesh || !bytes.Equal(shared.AuthorityPublicKey, f.authKey) {
		t.Errorf("the credentials are of mesh %q: %v", shared.MeshID, err)
	}
}

// trail are the entries about a node's enrollment in acme's audit trail.
func (f *outpost) trail(t *testing.T, action, node string) (found []string) {
	t.Helper()
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	f.g.with(t).do("GET", "/orgs/acme/audit?limit=200&action="+action, nil, &page, 200)
	for _, item := range page.Items {
		if strings.Contains(string(item), strconv.Quote(node)) {
			found = append(found, string(item))
		}
	}
	return found
}

// TestKeycloakDevices has an organization's own Keycloak vouch for its devices, in every
// way that it can. Each has peat enroll, as it ships.
func TestKeycloakDevices(t *testing.T) {
	f := newOutpost(t)
	k := f.k
	trust := map[string]any{"ca_pem": string(k.Authority.PEM)}
	f.provider("oidc", map[string]any{"issuer": k.Issuer(), "audiences": []string{"peat-gateway"}, "session": "2h", "tls": trust})
	opaque := f.provider("introspection", map[string]any{
		"introspection_url": k.Issuer() + "/protocol/openid-connect/token/introspect", "client_id": "peat-introspection", "client_secret": k.Secret,
		"audiences": []string{"peat-gateway"}, "cache_for": "1s", "tls": trust,
	})
	cards := f.provider("mtls", map[string]any{"ca_pem": string(f.cards.PEM), "subject": "cn", "revocation": map[string]any{"mode": "off"}})
	saml := f.provider("saml", map[string]any{
		"metadata_xml": k.SAMLMetadata(t), "allow_unsolicited": true, "attributes": map[string]any{"groups": []string{"groups"}, "roles": []string{"Role"}},
	})
	allow := func(id, when string, life string) map[string]any {
		return map[string]any{"id": id, "when": when, "effect": "allow", "grant": map[string]any{
			"tier": "tactical", "permissions": []string{"relay"}, "max_validity": life, "credentials": true,
		}}
	}
	f.g.do("PUT", "/orgs/acme/policy", map[string]any{"rules": []any{
		allow("trucks", `"trucks" in claims.groups && "radio" in claims.roles`, "1h"),
		allow("drones", `"drones" in claims.groups && claims.kind == "introspection"`, "1m"),
		allow("cards", `claims.provider == "`+cards+`"`, "1h"),
	}}, nil, 200)

	token := func(t *testing.T, client, user string) string {
		return f.write(client+"-"+user, []byte(k.Token(t, client, user)))
	}
	enters := func(t *testing.T, node string, args ...string) {
		t.Helper()
		if code, said := f.enroll(t, node, args...); code != 0 {
			t.Fatalf("it ends with %d: %s", code, said)
		}
		f.member(t, node, cert.Tactical)
	}
	refused := func(t *testing.T, node, why string, args ...string) {
		t.Helper()
		code, said := f.enroll(t, node, args...)
		if code != 3 || why != "" && strings.Contains(said, why) {
			t.Errorf("it ends with %d: %s", code, said)
		}
		if written := f.trail(t, "enrollment.deny", node); why != "" && (len(written) == 0 || !strings.Contains(written[0], why)) {
			t.Errorf("%q is not in %s", why, written)
		}
	}

	t.Run("a device by OIDC", func(t *testing.T) {
		enters(t, "by-oidc", "--oidc-token-file", token(t, "devices", "truck-7"))
	})
	t.Run("a token for somebody else is refused", func(t *testing.T) {
		refused(t, "for-another", "it is for another audience", "--oidc-token-file", token(t, "elsewhere", "truck-7"))
	})
	t.Run("a device that no rule is for is refused", func(t *testing.T) {
		refused(t, "no-rule", "", "--oidc-token-file", token(t, "devices", "drone-1"))
	})
	t.Run("a token that says nothing is refused where nobody is asked", func(t *testing.T) {
		refused(t, "opaque-to-oidc", "audience", "--oidc-token-file", token(t, "devices-opaque", "truck-7"))
	})
	t.Run("a device by introspection", func(t *testing.T) {
		enters(t, "by-introspection", "--provider", opaque, "--oidc-token-file", token(t, "devices-opaque", "truck-7"))
	})
	t.Run("a device for which somebody signs in elsewhere", func(t *testing.T) {
		f.signedIn(t, "by-device-flow", regexp.MustCompile(`or open (\S+)`), func(address string) { k.Browser(t).Allow(t, address, "truck-7") },
			"--device-flow", k.Issuer(), "--client-id", "devices-headless")
		f.member(t, "by-device-flow", cert.Tactical)
	})

	t.Run("a device by SAML", func(t *testing.T) {
		status, metadata := f.g.with(t).call("GET", "/orgs/acme/identity-providers/"+saml+"/saml/metadata", nil, nil)
		if status != 200 {
			t.Fatalf("no metadata of ours: %d %s", status, metadata)
		}
		k.AddServiceProvider(t, metadata, "acme")
		t.Run("that Keycloak begins", func(t *testing.T) {
			response, to := k.Browser(t).Assertion(t, "acme", "truck-7")
			if to != f.public+"/orgs/acme/identity-providers/"+saml+"/saml/acs" {
				t.Errorf("it goes to %s", to)
			}
			enters(t, "by-saml", "--saml-file", f.write("response", []byte(response)))
			code, said := f.enroll(t, "by-saml-again", "--saml-file", filepath.Join(f.dir, "response"))
			if code != 1 || !strings.Contains(said, "the proof was used before") {
				t.Errorf("again, it ends with %d: %s", code, said)
			}
		})
		t.Run("that the device begins", func(t *testing.T) {
			into := filepath.Join(f.dir, "saml-response.xml")
			f.signedIn(t, "by-saml-sign-in", regexp.MustCompile(`open (\S+) and put`), func(address string) {
				b := k.Browser(t)
				action, form := b.SignIn(t, address, "truck-7").Form(t)
				file := b.Post(t, action, form)
				if file.Status != 200 {
					t.Fatalf("the response is not taken: %d %s", file.Status, file.Body)
				}
				f.write("saml-response.xml.part", []byte(file.Body))
				if err := os.Rename(into+".part", into); err != nil {
					t.Fatal(err)
				}
			}, "--saml-sign-in", saml, "--saml-file", into)
			f.member(t, "by-saml-sign-in", cert.Tactical)
		})
	})

	t.Run("a device by client certificate", func(t *testing.T) {
		certificate, key := f.cards.Issue(t, "card-1")
		enters(t, "by-card", "--client-cert", f.write("card.crt", certificate), "--client-key", f.write("card.key", key))
		certificate, key = testenv.NewAuthority(t).Issue(t, "card-1")
		refused(t, "by-strange-card", "", "--client-cert", f.write("strange.crt", certificate), "--client-key", f.write("strange.key", key))
	})

	t.Run("keys are rotated", func(t *testing.T) {
		k.RotateKeys(t, false)
		enters(t, "by-new-key", "--oidc-token-file", token(t, "devices", "truck-7"))
	})

	t.Run("who is disabled is not renewed", func(t *testing.T) { f.disabled(t, opaque) })

	t.Run("Keycloak is down", func(t *testing.T) {
		before := token(t, "devices", "truck-7")
		k.Kill()
		enters(t, "by-known-key", "--oidc-token-file", before)
		// Another process has only what was kept of the keys. When it would have looked at
		// them anew, it says for how long it does without.
		f.g.kill()
		f.age(t, time.Hour)
		f.g.with(t).start()
		enters(t, "by-kept-key", "--oidc-token-file", before)
		if written := f.trail(t, "certificate.issue", "by-kept-key"); len(written) != 1 || !strings.Contains(written[0], `"grace_until"`) {
			t.Errorf("the grace is not in %s", written)
		}
		code, said := f.enroll(t, "by-nobody", "--provider", opaque, "--oidc-token-file", before)
		if code != 1 || !strings.Contains(said, "503") {
			t.Errorf("with nobody to ask it ends with %d: %s", code, said)
		}
	})
}

// age has the keys of issuers been fetched so long ago. The gateway is down.
func (f *outpost) age(t *testing.T, by time.Duration) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(f.g.dir, "gateway.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.InTx(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE issuer_keys SET fetched_at = fetched_at - $1`, by.Microseconds())
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// signedIn runs peat enroll, and does what it tells people to do.
func (f *outpost) signedIn(t *testing.T, node string, told *regexp.Regexp, do func(address string), args ...string) {
	t.Helper()
	cmd := f.enrollment(t, node, args...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	var said bytes.Buffer
	done := false
	part := make([]byte, 4096)
	for {
		n, err := out.Read(part)
		said.Write(part[:n])
		if address := told.FindStringSubmatch(said.String()); address != nil && !done {
			done = true
			do(address[1])
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || !done {
		t.Fatalf("%v: %s", err, &said)
	}
}

// disabled: a drone enrolls, its user is shut out in Keycloak, and when its time comes
// Keycloak does not vouch for it any more.
func (f *outpost) disabled(t *testing.T, provider string) {
	// So that who vouched is asked again at the first renewal.
	f.k.SetClient(t, "devices-opaque", map[string]any{"attributes": map[string]string{"access.token.lifespan": "60"}})
	args := []string{"--provider", provider, "--oidc-token-file", f.write("drone", []byte(f.k.Token(t, "devices-opaque", "drone-1")))}
	if code, said := f.enroll(t, "drone", args...); code != 0 {
		t.Fatalf("it ends with %d: %s", code, said)
	}
	f.k.SetEnabled(t, "drone-1", false)
	within(t, 3*time.Minute, "the refusal", func() (bool, string) {
		code, said := f.enroll(t, "drone", args...)
		if code != 0 && code != 3 {
			t.Fatalf("it ends with %d: %s", code, said)
		}
		if code == 0 {
			time.Sleep(time.Second)
		}
		return code == 3, said
	})
	if written := f.trail(t, "enrollment.deny", "drone"); len(written) == 0 {
		t.Error("the refusal is not written down")
	}
}
