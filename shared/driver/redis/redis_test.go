package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// openTestRedis makes a sink as the API would, and its driver.
func openTestRedis(t testing.TB, config string, s driver.Settings) *redisStream {
	t.Helper()
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 5 * time.Second
	}
	made, err := Parse(json.RawMessage(config), nil, driver.Settings{AllowPrivate: drivertest.Loopback})
	if err != nil {
		t.Fatal(err)
	}
	public, _ := json.Marshal(made.Public)
	var secrets []byte
	if made.Secrets != nil {
		secrets, _ = json.Marshal(made.Secrets)
	}
	d, err := Open(driver.Opening{Org: "acme", Sink: "s", Config: public, Secrets: secrets, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*redisStream)
}

func redisAt(t testing.TB, addr string, more string) *redisStream {
	t.Helper()
	return openTestRedis(t, `{"url":"redis://`+addr+`"`+more+`}`, driver.Settings{AllowPrivate: drivertest.Loopback})
}

func redisClient(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const testStream = "peat.acme.logistics"

// entries lists the ids of the events in a stream.
func entries(t testing.TB, c *redis.Client, stream string) []string {
	t.Helper()
	all, err := c.XRange(t.Context(), stream, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, m := range all {
		out = append(out, m.Values["id"].(string))
	}
	return out
}

func wantUnreachable(t *testing.T, outs []driver.Outcome, reason string) {
	t.Helper()
	if outs[0].Verdict != driver.Retry || !outs[0].Unreachable || !strings.Contains(outs[0].Reason, reason) {
		t.Errorf("want %q, got %+v", reason, outs[0])
	}
	for _, o := range outs[1:] {
		if o.Verdict == driver.Delivered || o.Verdict == driver.Refused {
			t.Errorf("%+v", o)
		}
	}
}

func TestRedisAppends(t *testing.T) {
	addr := testenv.Redis(t)
	d, c := redisAt(t, addr, ""), redisClient(t, addr)
	batch := drivertest.Events("notes:7/1", "b/1", "b/2")
	drivertest.WantDelivered(t, d.Deliver(t.Context(), batch, drivertest.Soon()))
	drivertest.DeliverAll(t, d, "b/2", "b/3") // a repeat, after a crash
	if got := strings.Join(entries(t, c, testStream), ","); got != "id-notes:7/1,id-b/1,id-b/2,id-b/2,id-b/3" {
		t.Errorf("%q", got)
	}
	first, err := c.XRangeN(t.Context(), testStream, "-", "+", 1).Result()
	if err != nil || len(first) != 1 || len(first[0].Values) != 3 || first[0].Values["document"] != "notes:7" ||
		first[0].Values["event"] != string(batch[0].Structured()) {
		t.Errorf("%+v %v", first, err)
	}
	if n := len(d.idle); n != 1 {
		t.Errorf("%d connections kept", n)
	}
	// Another database, another name.
	other := openTestRedis(t, `{"url":"redis://`+addr+`/3","stream":"cdc:{app}/{org}.x"}`, driver.Settings{AllowPrivate: drivertest.Loopback})
	drivertest.DeliverAll(t, other, "a/1")
	inThree := redis.NewClient(&redis.Options{Addr: addr, DB: 3})
	defer inThree.Close()
	if got := entries(t, inThree, "cdc:logistics/acme.x"); len(got) != 1 {
		t.Error(got)
	}
}

// More than one transaction takes, in events and in bytes: order stays, and what
// is untried after until is not there.
func TestRedisSendsInChunks(t *testing.T) {
	addr := testenv.Redis(t)
	d, c := redisAt(t, addr, ""), redisClient(t, addr)
	var names []string
	for n := range 3*redisChunkEvents + 7 {
		names = append(names, fmt.Sprintf("%c/%d", 'a'+n%3, n))
	}
	batch := drivertest.Events(names...)
	for _, i := range []int{5, 6, 300} {
		batch[i] = drivertest.Swell(batch[i], redisChunkBytes-1000*i)
	}
	batch[400] = drivertest.Swell(batch[400], 3<<20) // one that is alone
	for i, o := range d.Deliver(t.Context(), batch, drivertest.Soon()) {
		if o.Verdict != driver.Delivered {
			t.Fatalf("%d: %+v", i, o)
		}
	}
	got := entries(t, c, testStream)
	for i := range batch {
		if got[i] != batch[i].ID {
			t.Fatalf("%d is %s, not %s", i, got[i], batch[i].ID)
		}
	}
	for i, o := range d.Deliver(t.Context(), batch, time.Now()) {
		if o != (driver.Outcome{}) {
			t.Fatalf("%d: %+v", i, o)
		}
	}
	if n := len(entries(t, c, testStream)); n != len(batch) {
		t.Errorf("%d entries after time was up", n)
	}
}

func TestRedisTrims(t *testing.T) {
	addr := testenv.Redis(t)
	d, c := redisAt(t, addr, `,"maxlen":100`), redisClient(t, addr)
	var names []string
	for n := range 2000 {
		names = append(names, fmt.Sprint("a/", n))
	}
	drivertest.DeliverAll(t, d, names...)
	got := entries(t, c, testStream)
	// The server cuts whole nodes only, of 100 entries unless set otherwise.
	if len(got) < 100 || len(got) > 300 || got[len(got)-1] != "id-a/1999" {
		t.Errorf("%d entries, the last is %s", len(got), got[len(got)-1])
	}
}

func TestRedisAuthenticates(t *testing.T) {
	s := testenv.StartRedis(t, "--requirepass", "hush")
	admin := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "hush"})
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "writer", "on", ">pen", "~peat.*", "+xadd", "+multi", "+exec", "+ping").Err(); err != nil {
		t.Fatal(err)
	}
	drivertest.DeliverAll(t, redisAt(t, s.Addr, `,"password":"hush"`), "a/1")
	// Who may not ask for the server's settings delivers all the same.
	drivertest.DeliverAll(t, redisAt(t, s.Addr, `,"username":"writer","password":"pen"`), "a/2")
	for name, tc := range map[string]struct{ more, reason string }{
		"no password":      {"", "NOAUTH"},
		"a wrong one":      {`,"password":"wrong"`, "WRONGPASS"},
		"a wrong user":     {`,"username":"nobody","password":"hush"`, "WRONGPASS"},
		"a stream of none": {`,"username":"writer","password":"pen","stream":"other"`, "NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			outs := redisAt(t, s.Addr, tc.more).Deliver(t.Context(), drivertest.Events("a/3", "a/4", "b/1"), drivertest.Soon())
			wantUnreachable(t, outs, tc.reason)
			if strings.Contains(outs[0].Reason, "hush") || strings.Contains(outs[0].Reason, s.Addr) {
				t.Error(outs[0].Reason)
			}
		})
	}
}

func TestRedisErrorsOfTheServer(t *testing.T) {
	addr := testenv.Redis(t)
	d, c := redisAt(t, addr, ""), redisClient(t, addr)
	do := func(args ...any) {
		t.Helper()
		if err := c.Do(context.WithoutCancel(t.Context()), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	batch := drivertest.Events("a/1", "a/2", "b/1")
	do("SET", testStream, "x")
	wantUnreachable(t, d.Deliver(t.Context(), batch, drivertest.Soon()), "holds something else")
	do("DEL", testStream)
	do("CONFIG", "SET", "maxmemory", "1")
	wantUnreachable(t, d.Deliver(t.Context(), batch, drivertest.Soon()), "OOM")
	do("CONFIG", "SET", "maxmemory", "0")
	do("CONFIG", "SET", "min-replicas-to-write", "1")
	wantUnreachable(t, d.Deliver(t.Context(), batch, drivertest.Soon()), "NOREPLICAS")
	do("CONFIG", "SET", "min-replicas-to-write", "0")
	do("REPLICAOF", "127.0.0.1", "1")
	wantUnreachable(t, d.Deliver(t.Context(), batch, drivertest.Soon()), "READONLY")
	do("REPLICAOF", "NO", "ONE")
	if n := c.Exists(t.Context(), testStream).Val(); n != 0 {
		t.Errorf("something was stored: %v", entries(t, c, testStream))
	}
	drivertest.DeliverAll(t, d, "a/1", "a/2", "b/1")
}

func TestRedisRefusesWhatIsTooLarge(t *testing.T) {
	s := testenv.StartRedis(t, "--proto-max-bulk-len", "1mb")
	if err := redisClient(t, s.Addr).Do(t.Context(), "ACL", "SETUSER", "blind", "on", ">pen", "~*", "+@all", "-config").Err(); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string]string{
		"it tells its limit":    "",
		"it is not to be asked": `,"username":"blind","password":"pen"`,
	} {
		t.Run(name, func(t *testing.T) {
			d := redisAt(t, s.Addr, more+`,"stream":"`+strings.ReplaceAll(name, " ", "-")+`"`)
			batch := drivertest.Events("a/1", "a/2", "a/3", "b/1", "b/2")
			batch[1] = drivertest.Swell(batch[1], 6<<20)
			outs := d.Deliver(t.Context(), batch, drivertest.Soon())
			if outs[0].Verdict != driver.Delivered || outs[2].Verdict != driver.Untried || outs[3].Verdict != driver.Delivered || outs[4].Verdict != driver.Delivered {
				t.Errorf("%+v", outs)
			}
			// Its last word may be lost in the noise of the closing connection.
			if o := outs[1]; o.Unreachable || o.Verdict != driver.Refused && (more == "" || o.Verdict != driver.Retry) {
				t.Errorf("%+v", o)
			}
			if got := strings.Join(entries(t, redisClient(t, s.Addr), d.config.Stream), ","); got != "id-a/1,id-b/1,id-b/2" {
				t.Error(got)
			}
		})
	}
}

// The server is killed in the middle of a batch and comes back: what was answered
// is stored, first arrivals are in order, and trying again completes it.
func TestRedisServerRestartsMidBatch(t *testing.T) {
	s := testenv.StartRedis(t)
	d := redisAt(t, s.Addr, "")
	drivertest.DeliverAll(t, d, "warm/1")
	const each = 4000
	var names []string
	for n := range each {
		for _, doc := range []string{"a", "b", "c"} {
			names = append(names, fmt.Sprintf("%s/%d", doc, n+1))
		}
	}
	todo := drivertest.Events(names...)
	watch := redisClient(t, s.Addr)
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for watch.XLen(context.Background(), testStream).Val() < each {
			time.Sleep(time.Millisecond)
		}
		s.Kill()
	}()
	broken := false
	for round := 0; len(todo) > 0; round++ {
		if round > 100 {
			t.Fatal("never completed")
		}
		outs := d.Deliver(t.Context(), todo, drivertest.Soon())
		var rest []driver.Event
		stuck := map[string]bool{}
		for i, o := range outs {
			if o.Verdict == driver.Delivered {
				if stuck[todo[i].Document] {
					t.Fatalf("%s passed an earlier one", todo[i].ID)
				}
				continue
			}
			stuck[todo[i].Document] = true
			rest = append(rest, todo[i])
		}
		if todo = rest; len(todo) > 0 && !broken {
			broken = true
			if o := outs[len(outs)-len(todo)]; o.Verdict != driver.Retry || !o.Unreachable {
				t.Errorf("%+v", o)
			}
			<-killed
			wantUnreachable(t, d.Deliver(t.Context(), todo[:3], drivertest.Soon()), "refused")
			s.Restart()
		}
	}
	<-killed
	if !broken {
		t.Error("the batch was faster than the kill")
		s.Restart()
	}
	last := map[string]int{}
	for _, id := range entries(t, redisClient(t, s.Addr), testStream)[1:] {
		doc, number, _ := strings.Cut(strings.TrimPrefix(id, "id-"), "/")
		n, _ := strconv.Atoi(number)
		if n > last[doc]+1 {
			t.Fatalf("%s after %d", id, last[doc])
		}
		last[doc] = max(n, last[doc])
	}
	if last["a"] != each || last["b"] != each || last["c"] != each {
		t.Errorf("%v", last)
	}
}

// A connection that was kept and is gone costs no failed attempt once it is old
// enough to be asked.
func TestRedisKeptConnectionIsAskedFirst(t *testing.T) {
	s := testenv.StartRedis(t)
	d := redisAt(t, s.Addr, "")
	drivertest.DeliverAll(t, d, "a/1")
	s.Restart()
	d.idle[0].used = time.Now().Add(-time.Minute)
	drivertest.DeliverAll(t, d, "a/2")
}

func TestRedisThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config := `{"url":"redis://` + l.Addr().String() + `"}`
	d := openTestRedis(t, config, driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: 100 * time.Millisecond})
	wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/1", "b/1"), drivertest.Soon()), "no answer within 100ms")
	// Cancelling breaks off what was begun, and is nobody's fault.
	d = openTestRedis(t, config, driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if outs := d.Deliver(ctx, drivertest.Events("a/1"), drivertest.Soon()); outs[0] != (driver.Outcome{}) || time.Since(began) > 10*time.Second {
		t.Errorf("%+v after %s", outs, time.Since(began))
	}
	addr := testenv.Redis(t)
	d = openTestRedis(t, `{"url":"redis://`+addr+`"}`, driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: time.Minute})
	drivertest.DeliverAll(t, d, "a/1")
	if err := redisClient(t, addr).Do(t.Context(), "CLIENT", "PAUSE", "20000", "WRITE").Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began = time.Now()
	if outs := d.Deliver(ctx, drivertest.Events("a/2"), drivertest.Soon()); outs[0] != (driver.Outcome{}) || time.Since(began) > 10*time.Second {
		t.Errorf("%+v after %s", outs, time.Since(began))
	}
}

func TestRedisWaitsForReplicas(t *testing.T) {
	s := testenv.StartRedis(t)
	d := redisAt(t, s.Addr, `,"wait":{"replicas":1,"timeout_ms":200}`)
	wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon()), "too few replicas have the events: 0 of 1")
	_, port, _ := net.SplitHostPort(s.Addr)
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+port)
	c := redisClient(t, replica.Addr)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if info := c.Info(t.Context(), "replication").Val(); strings.Contains(info, "master_link_status:up") {
			break
		} else if time.Now().After(end) {
			t.Fatal(info)
		}
	}
	d = redisAt(t, s.Addr, `,"wait":{"replicas":1,"timeout_ms":5000}`)
	drivertest.DeliverAll(t, d, "a/1", "a/2")
	if got := entries(t, c, testStream); got[len(got)-1] != "id-a/2" {
		t.Error(got)
	}
}

func TestRedisVerifiesTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key, roots := selfSigned(t, dir)
	// The port that drivertest.Start looks at stays plain; TLS has one of its own.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	s := testenv.StartRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	config := `{"url":"rediss://127.0.0.1:` + port + `"}`
	d := openTestRedis(t, config, driver.Settings{AllowPrivate: drivertest.Loopback})
	wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()), "certificate")
	d.tls.RootCAs = roots
	drivertest.DeliverAll(t, d, "a/1")
	d = openTestRedis(t, `{"url":"rediss://`+s.Addr+`"}`, driver.Settings{AllowPrivate: drivertest.Loopback, AttemptTimeout: time.Second})
	wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/2"), drivertest.Soon()), "")
	if got := entries(t, redisClient(t, s.Addr), testStream); len(got) != 1 {
		t.Error(got)
	}
}

func selfSigned(t *testing.T, dir string) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(cert, text, 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return cert, key, roots
}

func TestRedisIsGuarded(t *testing.T) {
	addr := testenv.Redis(t)
	d := openTestRedis(t, `{"url":"redis://`+addr+`"}`, driver.Settings{})
	wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/1", "b/1"), drivertest.Soon()), netguard.ErrForbidden.Error())
	if c := redisClient(t, addr); c.Exists(t.Context(), testStream).Val() != 0 {
		t.Error("delivered")
	}
	_ = d.Close()
	wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()), "the sink was changed")
}

func TestRedisConfigurationsThatAreRefused(t *testing.T) {
	for name, in := range map[string]string{
		"no url":                   `{}`,
		"http":                     `{"url":"http://example.com"}`,
		"a socket":                 `{"url":"unix:///run/redis.sock"}`,
		"a password in the url":    `{"url":"redis://me:hush@example.com"}`,
		"a private address":        `{"url":"redis://10.0.0.1:6379"}`,
		"a path":                   `{"url":"redis://example.com/a"}`,
		"a database below zero":    `{"url":"redis://example.com/-1"}`,
		"a query":                  `{"url":"redis://example.com?skip_verify=true"}`,
		"a stream with a space":    `{"url":"redis://example.com","stream":"a b"}`,
		"an unknown placeholder":   `{"url":"redis://example.com","stream":"{document}"}`,
		"a long stream":            `{"url":"redis://example.com","stream":"` + strings.Repeat("x", 257) + `"}`,
		"a negative length":        `{"url":"redis://example.com","maxlen":-1}`,
		"a user without password":  `{"url":"redis://example.com","username":"me"}`,
		"no replicas to wait for":  `{"url":"redis://example.com","wait":{"timeout_ms":5}}`,
		"waiting without end":      `{"url":"redis://example.com","wait":{"replicas":1,"timeout_ms":-1}}`,
		"an option that is no one": `{"url":"redis://example.com","max_len":1}`,
		"two ways to name it":      `{"url":"redis://example.com","urls":["redis://example.com"],"cluster":true}`,
		"several and no cluster":   `{"urls":["redis://a.example.com","redis://b.example.com"]}`,
		"a cluster's database":     `{"url":"redis://example.com/1","cluster":true}`,
		"with TLS and without":     `{"urls":["redis://a.example.com","rediss://b.example.com"],"cluster":true}`,
		"one of many inside":       `{"urls":["redis://a.example.com","redis://10.0.0.1"],"cluster":true}`,
		"many nodes":               `{"urls":[` + strings.Repeat(`"redis://a.example.com",`, maxRedisNodes) + `"redis://a.example.com"],"cluster":true}`,
		"options of TLS without":   `{"url":"redis://example.com","tls":{}}`,
		"a key beside tls":         `{"url":"rediss://example.com","tls_key":"x"}`,
		"an authority of none":     `{"url":"rediss://example.com","tls":{"ca_pem":"x"}}`,
		"to wait for nothing":      `{"url":"redis://example.com","wait":{"local_fsync":false}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(json.RawMessage(in), nil, driver.Settings{}); !errors.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
		})
	}
	made, err := Parse(json.RawMessage(`{"url":"rediss://example.com/2","username":"me","password":"hush","wait":{"replicas":2}}`), nil, driver.Settings{})
	public, _ := json.Marshal(made.Public)
	want := `{"url":"rediss://example.com/2","stream":"peat.{org}.{app}","username":"me","wait":{"replicas":2,"timeout_ms":1000}}`
	if err != nil || string(public) != want || made.Secrets != (redisSecrets{Password: "hush"}) {
		t.Errorf("%s %v", public, err)
	}
}
