package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	gateway "github.com/defenseunicorns/peat-gateway"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

const gatewayToken = "the-admin-token-0123456789abcdef"

// station is a whole gateway with a formation, for nodes to enroll at.
type station struct {
	t    *testing.T
	url  string
	mesh string
}

func newStation(t *testing.T) *station {
	t.Helper()
	for _, name := range []string{"PEAT_ENROLLMENT_TOKEN", "PEAT_OIDC_TOKEN"} {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	t.Cleanup(broker.Close)
	settings := map[string]string{
		"PEAT_DATABASE_URL": "sqlite:" + filepath.Join(dir, "x.db"), "PEAT_KEK_FILE": filepath.Join(dir, "kek"),
		"PEAT_TOKEN_KEY_FILE": filepath.Join(dir, "token-key"), "PEAT_AUDIT_KEY_FILE": filepath.Join(dir, "audit-key"),
		"PEAT_ADMIN_TOKEN": gatewayToken, "K_SINK": broker.URL, "HOSTNAME": "one",
	}
	host, err := gateway.NewHost(env.New(func(name string) (string, bool) { v, ok := settings[name]; return v, ok }), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := host.Open(t.Context(), "orgs", "federation", "enroll")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(serving)
	t.Cleanup(func() {
		server.Close()
		if err := serving.Close(); err != nil {
			t.Error(err)
		}
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &station{t: t, url: server.URL}
	s.do("POST", "/orgs", map[string]any{"org_id": "acme", "display_name": "Acme"}, nil)
	var formation struct {
		Mesh string `json:"mesh_id"`
	}
	s.do("POST", "/orgs/acme/formations", map[string]any{"app_id": "logistics", "enrollment_policy": "controlled"}, &formation)
	s.mesh = formation.Mesh
	return s
}

func (s *station) do(method, path string, in, out any) {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+gatewayToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		s.t.Fatalf("%s %s: status %d: %v: %s", method, path, resp.StatusCode, err, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			s.t.Fatal(err)
		}
	}
}

// token is a new enrollment token.
func (s *station) token(uses int) string {
	s.t.Helper()
	var out struct {
		Token string `json:"token"`
	}
	s.do("POST", "/orgs/acme/formations/logistics/enrollment/tokens", map[string]any{"label": "trucks", "max_uses": uses, "tier": "tactical"}, &out)
	return out.Token
}

// enroll runs peat enroll with the arguments, after those that are always there.
func (s *station) enroll(dir, stdin string, args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	var out, said bytes.Buffer
	err := enroll(s.t.Context(), append([]string{
		"--gateway", s.url, "--org", "acme", "--app", "logistics", "--mesh-id", s.mesh, "--node-id", "truck-7", "--dir", dir,
	}, args...), strings.NewReader(stdin), &out, &said)
	if err != nil {
		fmt.Fprintln(&said, err)
	}
	return exitCode(err), out.String(), said.String()
}

var serialIn = regexp.MustCompile(`^certificate ([0-9a-f]{64}) of node "truck-7", tier "[A-Za-z]+", is good until `)

func TestEnrollByToken(t *testing.T) {
	s := newStation(t)
	for name, tc := range map[string]struct {
		args  []string
		stdin string
		env   string
	}{
		"in a file":             {args: []string{"--token-file", write(t, filepath.Join(t.TempDir(), "token"), []byte(s.token(1)+"\n"))}},
		"on the standard input": {args: []string{"--token-file", "-"}, stdin: s.token(1)},
		"in the environment":    {env: s.token(1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PEAT_ENROLLMENT_TOKEN", tc.env)
			dir := filepath.Join(t.TempDir(), "node")
			code, first, said := s.enroll(dir, tc.stdin, append(tc.args, "--node-id", "truck-7")...)
			if code != 0 || serialIn.FindString(first) == "" {
				t.Fatalf("it ends with %d: %s%s", code, first, said)
			}
			// Its one use is used up, and nothing more is asked for.
			code, again, said := s.enroll(dir, tc.stdin, tc.args...)
			if code != 0 || again != first {
				t.Errorf("again, it ends with %d: %s%s", code, again, said)
			}
			secret := strings.TrimSpace(tc.stdin + tc.env)
			if secret != "" && strings.Contains(first+said, secret) {
				t.Error("the token is shown")
			}
			s.do("POST", "/orgs/acme/formations/logistics/certificates/"+serialIn.FindStringSubmatch(first)[1]+"/revoke", map[string]any{"reason": "withdrawn"}, nil)
		})
	}
}

func TestEnrollEndsWith(t *testing.T) {
	s := newStation(t)
	dir := t.TempDir()
	mistyped := write(t, filepath.Join(dir, "mistyped"), []byte(s.token(1)+"x"))
	empty := write(t, filepath.Join(dir, "empty"), []byte("\n"))
	long := write(t, filepath.Join(dir, "long"), bytes.Repeat([]byte("x"), maxSecret+1))
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"help":                            {[]string{"--help"}, 0, "--watch"},
		"a token that is none":            {[]string{"--token-file", mistyped}, refusedCode, "lets nobody in"},
		"an empty file":                   {[]string{"--token-file", empty}, 1, "is empty"},
		"a file that is too long":         {[]string{"--token-file", long}, 1, "too long"},
		"no such file":                    {[]string{"--token-file", filepath.Join(dir, "none")}, 1, "no such file"},
		"nothing to show":                 {nil, 1, "nothing to get one with"},
		"no such flag":                    {[]string{"--token", "x"}, 1, "not defined"},
		"an argument too many":            {[]string{"x"}, 1, `what is "x"?`},
		"no organization":                 {[]string{"--org", ""}, 1, "--org is missing"},
		"no name of an organization":      {[]string{"--org", "A/B"}, 1, "--org"},
		"a gateway in the open":           {[]string{"--gateway", "http://gateway.example"}, 1, "https://"},
		"an authority that is none":       {[]string{"--authority", "x"}, 1, "64 hexadecimal"},
		"authorities that are not there":  {[]string{"--ca", filepath.Join(dir, "none")}, 1, "--ca"},
		"authorities that are none":       {[]string{"--ca", empty}, 1, "holds no certificate"},
		"a formation that is not there":   {[]string{"--app", "nothing", "--token-file", write(t, filepath.Join(dir, "good"), []byte(s.token(1)))}, refusedCode, "404"},
		"an authority that signs nothing": {[]string{"--authority", strings.Repeat("0a", 32), "--token-file", write(t, filepath.Join(dir, "good2"), []byte(s.token(1)))}, 1, "something else than was asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, said := s.enroll(filepath.Join(t.TempDir(), "node"), "", tc.args...)
			if code != tc.code || !strings.Contains(stdout+said, strings.TrimPrefix(tc.says, "-")) {
				t.Errorf("it ends with %d: %s%s", code, stdout, said)
			}
		})
	}
}

func TestEnrollIsAloneInItsFolder(t *testing.T) {
	s := newStation(t)
	dir := t.TempDir()
	unlock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if code, _, said := s.enroll(dir, s.token(1), "--token-file", "-"); code != 1 || !strings.Contains(said, "another peat uses") {
		t.Errorf("it ends with %d: %s", code, said)
	}
}

// TestEnrollWatches: it stays when it has a certificate, and goes when it is told to.
func TestEnrollWatches(t *testing.T) {
	s := newStation(t)
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	args := []string{
		"--gateway", s.url, "--org", "acme", "--app", "logistics", "--mesh-id", s.mesh, "--node-id", "truck-7", "--dir", t.TempDir(), "--token-file", "-", "--watch",
	}
	token := strings.NewReader(s.token(1))
	go func() {
		err := enroll(ctx, args, token, in, os.Stderr)
		_ = in.CloseWithError(io.EOF)
		ended <- err
	}()
	line := make([]byte, 512)
	n, err := out.Read(line)
	if err != nil || serialIn.FindString(string(line[:n])) == "" {
		t.Errorf("%q, %v", line[:n], err)
	}
	select {
	case err := <-ended:
		t.Errorf("it ended with its certificate: %v", err)
	default:
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("told to end, it says %v", err)
	}
}
