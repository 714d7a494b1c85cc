package redis

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func clusterSink(t testing.TB, more string, nodes ...*testenv.RedisServer) *redisStream {
	t.Helper()
	var urls []string
	for _, n := range nodes {
		urls = append(urls, `"redis://`+n.Addr+`"`)
	}
	return openTestRedis(t, `{"cluster":true,"urls":[`+strings.Join(urls, ",")+`]`+more+`}`, driver.Settings{AllowPrivate: drivertest.Loopback})
}

// clusterEntries lists the ids of what is in a stream, wherever it is.
func clusterEntries(t testing.TB, c *testenv.RedisCluster, stream string) []string {
	t.Helper()
	return entries(t, redisClient(t, c.Owner(stream).Addr), stream)
}

// others are the servers that do not have the stream.
func others(c *testenv.RedisCluster, stream string) []*testenv.RedisServer {
	owner := c.Owner(stream)
	var out []*testenv.RedisServer
	for _, n := range c.Nodes {
		if n != owner {
			out = append(out, n)
		}
	}
	return out
}

func TestRedisCluster(t *testing.T) {
	c := testenv.StartRedisCluster(t, 3)
	t.Run("the stream is elsewhere", func(t *testing.T) {
		d := clusterSink(t, "", others(c, testStream)[0])
		drivertest.DeliverAll(t, d, "a/1", "b/1")
		drivertest.DeliverAll(t, d, "a/2")
		if got := strings.Join(clusterEntries(t, c, testStream), ","); got != "id-a/1,id-b/1,id-a/2" {
			t.Error(got)
		}
		if d.owners[testStream] != c.Owner(testStream).Addr {
			t.Errorf("%v", d.owners)
		}
	})
	t.Run("formations are on different servers", func(t *testing.T) {
		d := clusterSink(t, `,"stream":"f.{app}"`, c.Nodes...)
		batch := drivertest.Events("a/1", "a/2", "a/3", "a/4")
		for i, app := range []tenant.AppID{"one", "two", "three", "one"} {
			batch[i].Key.App = app
		}
		drivertest.WantDelivered(t, d.Deliver(t.Context(), batch, drivertest.Soon()))
		for stream, want := range map[string]string{"f.one": "id-a/1,id-a/4", "f.two": "id-a/2", "f.three": "id-a/3"} {
			if got := strings.Join(clusterEntries(t, c, stream), ","); got != want {
				t.Errorf("%s: %s", stream, got)
			}
		}
	})
	t.Run("a sink that is not told of the cluster", func(t *testing.T) {
		d := redisAt(t, others(c, testStream)[0].Addr, "")
		wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon()), "needs cluster: true")
	})
	t.Run("the named server is inside", func(t *testing.T) {
		d := clusterSink(t, "", others(c, testStream)[0])
		dial, named := d.dial, c.Owner(testStream).Addr
		d.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == named {
				return netguard.New(nil).DialContext(ctx, network, address)
			}
			return dial(ctx, network, address)
		}
		wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/9"), drivertest.Soon()), netguard.ErrForbidden.Error())
	})
}

// The stream's slot goes from server to server while events are sent: nothing is
// lost, nothing repeated, and order stays.
func TestRedisClusterMovesTheStream(t *testing.T) {
	c := testenv.StartRedisCluster(t, 3)
	d := clusterSink(t, "", c.Nodes...)
	drivertest.DeliverAll(t, d, "a/1")
	sent := 1
	deliver := func(n int) {
		t.Helper()
		var names []string
		for range n {
			sent++
			names = append(names, "a/"+strconv.Itoa(sent))
		}
		drivertest.DeliverAll(t, d, names...)
	}
	for range 2 {
		for _, to := range others(c, testStream) {
			deliver(3)
			c.Move(testStream, to, func() {
				deliver(2 * redisChunkEvents) // the old one says: ask the new one
				deliver(1)
			})
			deliver(3)
		}
	}
	got := clusterEntries(t, c, testStream)
	for i, id := range got {
		if id != "id-a/"+strconv.Itoa(i+1) {
			t.Fatalf("%d is %s", i, id)
		}
	}
	if len(got) != sent {
		t.Errorf("%d of %d", len(got), sent)
	}
	// And while they are sent, at any moment.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			for _, n := range c.Nodes {
				if c.Owner(testStream) != n {
					c.Move(testStream, n, func() {})
				}
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		from := sent
		deliverSome := drivertest.Events()
		for i := range 50 {
			deliverSome = append(deliverSome, drivertest.Events("a/"+strconv.Itoa(from+i+1))...)
		}
		// A slot that is on its way may be nowhere for a moment.
		for range 100 {
			outs := d.Deliver(t.Context(), deliverSome, drivertest.Soon())
			for len(outs) > 0 && outs[0].Verdict == driver.Delivered {
				outs, deliverSome = outs[1:], deliverSome[1:]
				sent++
			}
			if len(deliverSome) == 0 {
				break
			}
		}
		if len(deliverSome) > 0 {
			t.Fatal("never delivered")
		}
	}
	last := 0
	for _, id := range clusterEntries(t, c, testStream) {
		n, _ := strconv.Atoi(strings.TrimPrefix(id, "id-a/"))
		if n > last+1 {
			t.Fatalf("%d after %d", n, last)
		}
		last = max(n, last)
	}
	if last != sent {
		t.Errorf("%d of %d", last, sent)
	}
}

// The server with the stream dies and its replica takes over: what was waited for
// is still there.
func TestRedisClusterFailsOver(t *testing.T) {
	c := testenv.StartRedisCluster(t, 3)
	master := c.Owner(testStream)
	replica := c.AddReplica(master)
	d := clusterSink(t, `,"wait":{"replicas":1,"timeout_ms":10000}`, c.Nodes...)
	drivertest.DeliverAll(t, d, "a/1", "a/2")
	master.Kill()
	wantUnreachable(t, d.Deliver(t.Context(), drivertest.Events("a/3"), drivertest.Soon()), "")
	c.Do(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
	d.config.Wait = nil // nobody is left to wait for
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		outs := d.Deliver(t.Context(), drivertest.Events("a/3", "a/4"), drivertest.Soon())
		if drivertest.Verdicts(outs) == "dd" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%+v", outs)
		}
	}
	client := redis.NewClient(&redis.Options{Addr: replica.Addr})
	defer client.Close()
	if got := strings.Join(entries(t, client, testStream), ","); got != "id-a/1,id-a/2,id-a/3,id-a/4" {
		t.Error(got)
	}
}

func TestParseRedirect(t *testing.T) {
	for text, want := range map[string]redirect{
		"MOVED 3999 10.0.0.1:6381":         {address: "10.0.0.1:6381"},
		"ASK 0 redis-1.example.com:6379":   {address: "redis-1.example.com:6379", ask: true},
		"MOVED 16383 2001:db8::1:7000":     {address: "[2001:db8::1]:7000"},
		"MOVED 1 :7000":                    {address: "seed:7000"},
		"MOVED 16384 10.0.0.1:6381":        {},
		"MOVED -1 10.0.0.1:6381":           {},
		"MOVED 1 10.0.0.1":                 {},
		"MOVED 1 10.0.0.1:0":               {},
		"MOVED 1 10.0.0.1:70000":           {},
		"MOVED 1 ?:7000":                   {},
		"MOVED 1 a b:7000":                 {},
		"MOVED 1 a%lo:7000":                {},
		"MOVED":                            {},
		"ERR something else":               {},
		"TRYAGAIN Multiple keys request x": {},
	} {
		if got, ok := parseRedirect(text, "seed:6379"); got != want || ok != (want != redirect{}) {
			t.Errorf("%s: %+v %t", text, got, ok)
		}
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add("MOVED 3999 10.0.0.1:6381", "seed:1")
	f.Add("ASK 1 ::1:7000", "[::1]:2")
	f.Add("MOVED 1 :7000", "x:3")
	f.Fuzz(func(t *testing.T, text, from string) {
		to, ok := parseRedirect(text, from)
		if !ok {
			return
		}
		host, port, err := net.SplitHostPort(to.address)
		if err != nil || !isHost(host) || port == "" || strings.ContainsAny(to.address, " /@?#\r\n\x00") {
			t.Errorf("%q led to %q", text, to.address)
		}
	})
}

func FuzzStreamTemplate(f *testing.F) {
	f.Add("peat.{org}.{app}", "logistics")
	f.Add("{app}{org}{org", "a")
	f.Add("a b", "x")
	f.Fuzz(func(t *testing.T, template, app string) {
		if !isStreamTemplate(template) {
			return
		}
		if _, err := tenant.ParseAppID(app); err != nil {
			return
		}
		d := &redisStream{org: "acme", config: redisConfig{Stream: template}}
		name := d.stream(driver.Event{Key: tenant.Key{Org: "acme", App: tenant.AppID(app)}})
		if name == "" || strings.ContainsAny(name, "{} \r\n") {
			t.Errorf("%q became %q", template, name)
		}
	})
}
