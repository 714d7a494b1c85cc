package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// KeycloakServer is an identity provider with the realm of test/keycloak, which a
// test can take away and bring back: addresses, users and keys are the same after a
// restart. All users have one password, and all clients that have a secret one
// secret, made anew for each server.
type KeycloakServer struct {
	URL       string // https; its certificate is Authority's
	Plain     string // http, the same; a token names the one that it was asked for at
	ByName    string // https, with localhost for a host; SAML is spoken here
	Realm     string // the name of the realm
	Password  string
	Secret    string
	Authority *Authority

	dir, program  string // dir is the test's, program the one that all share
	admin         string // the password of the administrator of all realms
	https, http   string // host and port
	health        string
	client        *http.Client
	adminToken    string
	adminTokenEnd time.Time

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
}

// keycloakPatience is how long it may take for anything else.
const keycloakPatience = 3 * time.Minute

// keycloakStart is how long it may take to come up; on a machine of its own it takes
// ten seconds.
const keycloakStart = 10 * time.Minute

// Keycloak starts one that runs until the test ends. It takes many seconds, so the
// tests of a package share one where they can.
func Keycloak(t testing.TB) *KeycloakServer {
	t.Helper()
	k := &KeycloakServer{
		Realm: "peat", Password: rand.Text(), Secret: rand.Text(), admin: rand.Text(), Authority: NewAuthority(t),
		program: keycloakProgram(t), dir: Dir(t),
	}
	k.client = k.Client()
	k.home(t)
	t.Cleanup(k.Kill)
	since := time.Now()
	// A free port can be taken between looking and using, so try a few.
	for range 5 {
		k.choosePorts(t)
		up, said := k.start(t)
		if up {
			t.Logf("keycloak: started in %s", time.Since(since).Round(time.Millisecond))
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("keycloak said:\n%s", k.log())
				}
			})
			return k
		}
		if !strings.Contains(said, "Address already in use") && !strings.Contains(said, "BindException") {
			t.Fatalf("keycloak does not start:\n%s", said)
		}
	}
	t.Fatal("keycloak finds no free ports")
	return nil
}

// Client returns a client that trusts the server, follows no redirect and keeps no
// cookies.
func (k *KeycloakServer) Client() *http.Client {
	return &http.Client{
		Timeout:       keycloakPatience,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: k.Authority.Pool(), MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Issuer is who signs the realm's tokens, as they say themselves.
func (k *KeycloakServer) Issuer() string { return k.URL + "/realms/" + k.Realm }

// Entity is who vouches by SAML. It is Issuer by another name of the machine: an
// organization has one provider of a name, and tests want both.
func (k *KeycloakServer) Entity() string { return k.ByName + "/realms/" + k.Realm }

// keycloakProgram is where scripts/keycloak has put it.
func keycloakProgram(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("an identity provider takes seconds to start")
	}
	lock, err := os.ReadFile(filepath.Join(Root(t), "scripts", "keycloak.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(strings.TrimSpace(string(lock)), "  ")
	version := strings.TrimSuffix(strings.TrimPrefix(name, "keycloak-quarkus-dist-"), ".zip")
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			Missing(t, "keycloak", err.Error())
		}
		cache = filepath.Join(home, ".cache")
	}
	dir := filepath.Join(cache, "peat-gateway", "keycloak-"+version)
	// What was built last is there last.
	if _, err := os.Stat(filepath.Join(dir, "recipe")); err != nil {
		Missing(t, "keycloak", "it is not there yet (scripts/keycloak fetches it)")
	}
	if _, err := exec.LookPath("java"); err != nil {
		Missing(t, "keycloak", "java is not installed (scripts/keycloak installs it)")
	}
	return dir
}

// home makes a Keycloak of the test's own: the program is shared and only read, the
// database and what is imported are in the test's folder.
func (k *KeycloakServer) home(t testing.TB) {
	t.Helper()
	for _, name := range []string{"lib", "providers", "themes", "conf"} {
		if err := os.Symlink(filepath.Join(k.program, name), k.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(k.path("data/import"), 0o700); err != nil {
		t.Fatal(err)
	}
	realm, err := os.ReadFile(filepath.Join(Root(t), "test", "keycloak", "peat-realm.json"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := k.Authority.Issue(t, "keycloak", "127.0.0.1", "localhost")
	for name, text := range map[string][]byte{"data/import/peat-realm.json": realm, "tls.crt": certificate, "tls.key": key} {
		if err := os.WriteFile(k.path(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *KeycloakServer) path(name string) string { return filepath.Join(k.dir, name) }

// choosePorts takes them from below those that the system gives to outgoing
// connections, so that nobody else has them while the server is away.
func (k *KeycloakServer) choosePorts(t testing.TB) {
	t.Helper()
	doors := []*string{&k.https, &k.http, &k.health}
	for tries, n := 0, 0; n < len(doors); tries++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+mathrand.IntN(12000))))
		if err != nil {
			if tries > 1000 {
				t.Fatal(err)
			}
			continue
		}
		defer func() { _ = l.Close() }()
		*doors[n] = l.Addr().String()
		n++
	}
	_, port, _ := net.SplitHostPort(k.https)
	k.URL, k.Plain, k.ByName = "https://"+k.https, "http://"+k.http, "https://localhost:"+port
}

// start reports whether the server came up, and what it said if not.
func (k *KeycloakServer) start(t testing.TB) (up bool, said string) {
	t.Helper()
	log, err := os.Create(k.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	process, ended := exec.Command("java", k.arguments()...), make(chan struct{})
	process.Stdout, process.Stderr = log, log
	process.Env = append(os.Environ(),
		"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD="+k.admin,
		"PEAT_TEST_PASSWORD="+k.Password, "PEAT_TEST_SECRET="+k.Secret)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	release, err := leash(process.Process.Pid, "")
	k.mu.Lock()
	k.process, k.ended = process, ended
	k.mu.Unlock()
	go func() {
		defer close(ended)
		_ = process.Wait()
		if release != nil {
			release()
		}
	}()
	if err != nil {
		k.Kill()
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), keycloakStart)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := until(ctx, k.ready); err != nil {
		k.Kill()
		return false, k.log()
	}
	return true, ""
}

// arguments are those of java. The program is started as its own script does, but
// without the script's process between us and it.
func (k *KeycloakServer) arguments() []string {
	out := []string{
		// Compiling quickly rather than well saves much of the work of starting.
		"-Xms64m", "-Xmx512m", "-XX:MaxMetaspaceSize=256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
		"-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
		"-Dpicocli.disable.closures=true", "-Duser.language=en", "-Duser.country=US", "--enable-native-access=ALL-UNNAMED",
	}
	for _, p := range []string{"java.util", "java.util.concurrent", "java.security", "java.lang"} {
		out = append(out, "--add-opens=java.base/"+p+"=ALL-UNNAMED")
	}
	host, https, _ := net.SplitHostPort(k.https)
	_, http, _ := net.SplitHostPort(k.http)
	_, health, _ := net.SplitHostPort(k.health)
	return append(out,
		"-Dkc.home.dir="+k.dir, "-Djboss.server.config.dir="+k.path("conf"), "-cp", k.path("lib/quarkus-run.jar"),
		"io.quarkus.bootstrap.runner.QuarkusEntryPoint", "start", "--optimized", "--import-realm", "--cache=local",
		"--http-enabled=true", "--hostname-strict=false", "--http-host="+host, "--http-port="+http, "--https-port="+https,
		"--https-certificate-file="+k.path("tls.crt"), "--https-certificate-key-file="+k.path("tls.key"),
		"--log-level=info,io.smallrye.health:error", // which is asked until it is ready
		"--http-management-scheme=http", "--http-management-host="+host, "--http-management-port="+health)
}

func (k *KeycloakServer) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+k.health+"/health/ready", nil)
	if err != nil {
		return err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", resp.Status)
	}
	return nil
}

// Kill ends the server at once, as a crash would. It may be called from any
// goroutine.
func (k *KeycloakServer) Kill() { k.end(os.Kill) }

// Stop lets it say good-bye.
func (k *KeycloakServer) Stop() { k.end(syscall.SIGTERM) }

func (k *KeycloakServer) end(by os.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process == nil {
		return
	}
	_ = k.process.Process.Signal(by)
	select {
	case <-k.ended:
	case <-time.After(time.Minute):
		_ = k.process.Process.Kill()
		<-k.ended
	}
	k.process = nil
}

// Restart starts the server again, on what it had on its disk.
func (k *KeycloakServer) Restart(t testing.TB) {
	t.Helper()
	k.Kill()
	if up, said := k.start(t); !up {
		t.Fatalf("keycloak does not start again:\n%s", said)
	}
}

// log is the end of what the server said.
func (k *KeycloakServer) log() string {
	const most = 16 << 10
	text, err := os.ReadFile(k.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-most):]))
}
