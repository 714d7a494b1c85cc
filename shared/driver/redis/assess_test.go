package redis

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

func TestRedisGrades(t *testing.T) {
	best := keeping{"appendonly": "yes", "appendfsync": "always", "connected-slaves": "2", "min-replicas-to-write": "1", "maxmemory": "0", "maxmemory-policy": "noeviction", "save": ""}
	but := func(more ...string) keeping {
		k := keeping{}
		for name, value := range best {
			k[name] = value
		}
		for i := 0; i < len(more); i += 2 {
			if k[more[i]] = more[i+1]; more[i+1] == "?" {
				delete(k, more[i])
			}
		}
		return k
	}
	one := &redisWait{Replicas: 1}
	for name, tc := range map[string]struct {
		config redisConfig
		server keeping
		grade  driver.Grade
		reason string // one of them; empty: there is none
	}{
		"always, and a replica":         {redisConfig{Wait: one}, best, "A", ""},
		"always, no waiting":            {redisConfig{}, best, "B", "set wait.replicas"},
		"always, no replica":            {redisConfig{}, but("connected-slaves", "0"), "B", "no replica"},
		"cut off, it goes on":           {redisConfig{}, but("min-replicas-to-write", "0"), "C", "cut off"},
		"every second":                  {redisConfig{Wait: one}, but("appendfsync", "everysec"), "C", "once a second"},
		"every second, waited for":      {redisConfig{Wait: &redisWait{Replicas: 1, LocalFsync: true}}, but("appendfsync", "everysec"), "A", ""},
		"waiting is not to be had":      {redisConfig{Wait: &redisWait{LocalFsync: true}}, but("waitaof", "no"), "F", "7.2"},
		"when the system wants":         {redisConfig{Wait: one}, but("appendfsync", "no"), "D", "leaves it to the system"},
		"snapshots":                     {redisConfig{Wait: one}, but("appendonly", "no", "save", "3600 1"), "E", "snapshots only"},
		"nothing on a disk":             {redisConfig{Wait: one}, but("appendonly", "no"), "F", "nothing to a disk"},
		"no log, and no word of save":   {redisConfig{Wait: one}, but("appendonly", "no", "save", "?"), "E", "no log"},
		"no word of appendfsync":        {redisConfig{Wait: one}, but("appendfsync", "?"), "C", "does not tell its appendfsync"},
		"no word of anything":           {redisConfig{}, keeping{}, "D", "does not tell whether"},
		"too few replicas to wait for":  {redisConfig{Wait: &redisWait{Replicas: 3}}, best, "F", "2 are there"},
		"eviction":                      {redisConfig{Wait: one}, but("maxmemory", "1000", "maxmemory-policy", "allkeys-lru"), "E", "evicts whole streams"},
		"eviction, but memory is ample": {redisConfig{Wait: one}, but("maxmemory-policy", "allkeys-lru"), "A", ""},
		"eviction of others":            {redisConfig{Wait: one}, but("maxmemory", "1000", "maxmemory-policy", "volatile-lru"), "A", ""},
		"trimmed":                       {redisConfig{Wait: one, MaxLen: 10}, best, "C", "maxlen"},
	} {
		t.Run(name, func(t *testing.T) {
			got := grade(tc.config, tc.server)
			if text := strings.Join(got.Reasons, "\n"); got.Grade != tc.grade || (text == "") != (tc.reason == "") || !strings.Contains(text, tc.reason) {
				t.Errorf("%s %q", got.Grade, got.Reasons)
			}
		})
	}
}

func TestRedisAssesses(t *testing.T) {
	s := testenv.StartRedis(t, "--requirepass", "hush")
	admin := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "hush"})
	defer admin.Close()
	for _, user := range [][]any{
		{"ACL", "SETUSER", "shut", "on", ">pen", "~*", "+@all", "-config", "-info"},
		{"ACL", "SETUSER", "half", "on", ">pen", "~*", "+@all", "-config"},
	} {
		if err := admin.Do(t.Context(), user...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		more   string
		grade  driver.Grade
		reason string
	}{
		"by who may ask for everything": {`,"password":"hush"`, "B", "no replica"},
		"by who may ask for INFO":       {`,"username":"half","password":"pen"`, "C", "does not tell its appendfsync"},
		"by who may ask for nothing":    {`,"username":"shut","password":"pen"`, "D", "does not tell whether"},
		"trimmed":                       {`,"password":"hush","maxlen":5`, "C", "maxlen"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := redisAt(t, s.Addr, tc.more).Assess(t.Context())
			if err != nil || got.Grade != tc.grade || !strings.Contains(strings.Join(got.Reasons, "\n"), tc.reason) {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
	if n := admin.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys: it has written something", n)
	}
	if _, err := redisAt(t, s.Addr, "").Assess(t.Context()); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("%v", err)
	}
}

// A server that cannot be waited for its disk is told, both before and when it counts.
func TestRedisWaitsForTheDisk(t *testing.T) {
	s := testenv.StartRedis(t)
	d := redisAt(t, s.Addr, `,"wait":{"local_fsync":true,"timeout_ms":5000}`)
	outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon())
	durability, err := d.Assess(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if redisClient(t, s.Addr).Do(t.Context(), "WAITAOF", 0, 0, 1).Err() == nil {
		drivertest.WantDelivered(t, outs)
		if durability.Grade != "B" {
			t.Errorf("%+v", durability)
		}
		return
	}
	wantUnreachable(t, outs, "Redis 7.2")
	if durability.Grade != "F" || !strings.Contains(strings.Join(durability.Reasons, ""), "Redis 7.2") {
		t.Errorf("%+v", durability)
	}
}

func TestRedisWithOptionsOfTLS(t *testing.T) {
	ca := drivertest.NewAuthority(t)
	later := time.Now().AddDate(1, 0, 0)
	s := startTLSRedis(t, ca, later)
	cert, key := ca.Issue("gateway", later)
	quote := func(text string) string { return strings.ReplaceAll(text, "\n", `\n`) }
	mine := `"client_cert_pem":"` + quote(cert) + `","client_key_pem":"` + quote(key) + `"`
	for name, tc := range map[string]struct {
		more   string
		reason string
	}{
		"its authority and our certificate": {`,"tls":{"ca_pem":"` + quote(ca.PEM) + `",` + mine + `}`, ""},
		"no certificate of ours":            {`,"tls":{"ca_pem":"` + quote(ca.PEM) + `"}`, ":"},
		"the system's authorities":          {`,"tls":{` + mine + `}`, "certificate"},
		"another name":                      {`,"tls":{"ca_pem":"` + quote(ca.PEM) + `","server_name":"example.com",` + mine + `}`, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			d := openTestRedis(t, `{"url":"rediss://`+s+`"`+tc.more+`}`, driver.Settings{AllowPrivate: drivertest.Loopback})
			outs := d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())
			if tc.reason != "" {
				wantUnreachable(t, outs, tc.reason)
				return
			}
			drivertest.WantDelivered(t, outs)
			// What ends soon is worth a word.
			d.now = func() time.Time { return later.AddDate(0, 0, -3) }
			got, err := d.Assess(t.Context())
			if text := strings.Join(got.Reasons, "\n"); err != nil || !strings.Contains(text, "the client's certificate expires") || !strings.Contains(text, "the target's certificate expires") {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
}

// startTLSRedis starts a server that wants certificates of its clients, and returns
// where it does.
func startTLSRedis(t *testing.T, ca *drivertest.Authority, until time.Time) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := ca.Issue("localhost", until)
	// The port that StartRedis looks at stays plain; TLS has one of its own.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	_ = l.Close()
	testenv.StartRedis(t, "--tls-port", port, "--tls-cert-file", write("cert", cert), "--tls-key-file", write("key", key), "--tls-ca-cert-file", write("ca", ca.PEM))
	return address
}
