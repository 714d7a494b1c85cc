// Package testenv gives tests the things around the program that a machine may
// lack: a Postgres database, a Redis server, a Kafka broker, a Keycloak, openssl, the
// JavaScript packages.
//
// What is missing skips the test and says so. PEAT_TEST_REQUIRE, a list of
// names with commas between them ("postgres,redis,node,kafka,keycloak"), turns those
// skips into failures, so that a complete run cannot pass by having left things out.
// KEEP=1 leaves what a test made, and prints where it is.
//
// Only tests import this package.
package testenv

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres returns the URL of an empty database made for this test and dropped
// after it. The server is the one PEAT_TEST_POSTGRES_URL points at, as a user
// who may create databases; scripts/postgres starts such a server.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv("PEAT_TEST_POSTGRES_URL")
	if server == "" {
		Missing(t, "postgres", "PEAT_TEST_POSTGRES_URL is not set (scripts/postgres sets it)")
	}
	name := "peat_" + strings.ToLower(rand.Text()[:12])
	admin(t, server, "CREATE DATABASE "+name)

	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("PEAT_TEST_POSTGRES_URL: %v", err)
	}
	u.Path = "/" + name
	t.Cleanup(func() {
		if keep() {
			t.Logf("KEEP=1: the database stays: %s", u)
			return
		}
		admin(t, server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		// What a store makes of roles; they belong to the server, not to the database.
		admin(t, server, "DROP ROLE IF EXISTS "+name+"_runtime, "+name+"_system")
	})
	return u.String()
}

func admin(t testing.TB, server, statement string) {
	t.Helper()
	// Not the test's context: it has ended when the clean-up runs.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := pgx.Connect(ctx, server)
	if err == nil {
		_, err = db.Exec(ctx, statement)
		db.Close(ctx)
	}
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Node returns the folder with the JavaScript side of the tests (test/js), its
// packages installed, to be used as the working directory of "node".
func Node(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		Missing(t, "node", "node is not installed")
	}
	dir := filepath.Join(Root(t), "test", "js")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@automerge", "automerge")); err != nil {
		Missing(t, "node", "run npm ci in test/js")
	}
	return dir
}

// Dir returns a new folder for this test, removed after it unless KEEP=1.
func Dir(t testing.TB) string {
	t.Helper()
	if !keep() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("", "peat-"+strings.ReplaceAll(t.Name(), "/", "-")+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("KEEP=1: the folder stays: %s", dir)
	return dir
}

// Root returns the folder of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/defenseunicorns/peat-gateway\n") {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod of peat-gateway above the working directory")
		}
		dir = parent
	}
}

// Missing ends the test because something it needs is not there: as a failure
// when PEAT_TEST_REQUIRE names it, else as a skip.
func Missing(t testing.TB, name, why string) {
	t.Helper()
	if slices.Contains(required(), name) {
		t.Fatalf("PEAT_TEST_REQUIRE asks for %s: %s", name, why)
	} else {
		t.Skipf("SKIPPED without %s: %s", name, why)
	}
}

func required() []string {
	var names []string
	for name := range strings.SplitSeq(os.Getenv("PEAT_TEST_REQUIRE"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func keep() bool { return os.Getenv("KEEP") == "1" }
