package redis

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// harness is what all servers have in common: at is where the tests themselves
// reach the one that has the streams.
func harness(proxy *drivertest.Proxy, at func() *redis.Options, config func(o drivertest.Options) map[string]any, streams map[string]tenant.Key) drivertest.Harness {
	with := func(do func(c *redis.Client)) {
		c := redis.NewClient(at())
		defer c.Close()
		do(c)
	}
	return drivertest.Harness{
		Proxy: proxy,
		Open: func(t testing.TB, o drivertest.Options) driver.Driver {
			in, _ := json.Marshal(config(o))
			return openTestRedis(t, string(in), o.Settings())
		},
		Received: func(t testing.TB) (out []drivertest.Received) {
			with(func(c *redis.Client) {
				for stream, key := range streams {
					all, err := c.XRange(t.Context(), stream, "-", "+").Result()
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range all {
						r := drivertest.Structured(t, []byte(m.Values["event"].(string)))
						r.ID, r.Document, r.Key = m.Values["id"].(string), m.Values["document"].(string), key
						out = append(out, r)
					}
				}
			})
			return out
		},
		MaxEvent: 1 << 20, // by proto-max-bulk-len
		Busy: func(busy bool) {
			most := "0"
			if busy {
				most = "1"
			}
			with(func(c *redis.Client) {
				if err := c.ConfigSet(context.Background(), "maxmemory", most).Err(); err != nil {
					panic(err)
				}
			})
		},
		Cannot: map[drivertest.Promise]string{
			drivertest.HeedsNotBefore: "A Redis server does not say when it wants to be asked again.",
			drivertest.DropsRepeats:   "A Redis stream does not remember ids: after a failure an event may be in it twice, under its id.",
		},
	}
}

var bothStreams = map[string]tenant.Key{
	"peat.acme." + string(drivertest.Key.App):   drivertest.Key,
	"peat.acme." + string(drivertest.Other.App): drivertest.Other,
}

func TestRedisPromises(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		password := "hush-hush"
		s := testenv.StartRedis(t, "--requirepass", password, "--proto-max-bulk-len", "1mb")
		proxy := drivertest.NewProxy(t, s.Addr)
		at := func() *redis.Options { return &redis.Options{Addr: s.Addr, Password: password} }
		h := harness(proxy, at, func(o drivertest.Options) map[string]any {
			c := map[string]any{"url": "redis://" + proxy.Addr(), "password": password}
			if o.Wrong {
				c["password"] = "guess-guess"
			}
			return c
		}, bothStreams)
		h.Kind, h.Kill, h.Restart, h.Denies, h.Secrets = "redis", s.Kill, s.Restart, true, []string{password, "guess-guess"}
		h.Rotate = func() {
			c := redis.NewClient(at())
			defer c.Close()
			if err := c.ConfigSet(context.Background(), "requirepass", "hush-again").Err(); err != nil {
				panic(err)
			}
			password = "hush-again"
		}
		return h
	})
}

// A cluster whose sink knows only a server that has no stream, and is sent on by it.
func TestRedisClusterPromises(t *testing.T) {
	c := testenv.StartRedisCluster(t, 3, "--proto-max-bulk-len", "1mb", "--cluster-require-full-coverage", "no")
	const stream = "promises"
	owner := c.Owner(stream)
	seed := others(c, stream)[0]
	proxy := drivertest.NewProxy(t, owner.Addr)
	announce := func() {
		_, port, _ := net.SplitHostPort(proxy.Addr())
		c.Do(owner, "CONFIG", "SET", "cluster-announce-port", port)
		for end := time.Now().Add(30 * time.Second); !strings.Contains(c.Do(seed, "CLUSTER", "NODES"), "127.0.0.1:"+port+"@"); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the cluster does not learn the announced port")
			}
		}
	}
	announce()
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		h := harness(proxy, func() *redis.Options { return &redis.Options{Addr: owner.Addr} }, func(drivertest.Options) map[string]any {
			return map[string]any{"cluster": true, "urls": []string{"redis://" + seed.Addr}, "stream": stream}
		}, map[string]tenant.Key{stream: {}})
		if err := redisClient(t, owner.Addr).Del(t.Context(), stream).Err(); err != nil {
			t.Fatal(err)
		}
		h.Kill, h.Restart = owner.Kill, func() {
			owner.Restart()
			announce()
		}
		for _, p := range []drivertest.Promise{drivertest.SaysDenied, drivertest.TakesRotation, drivertest.KeepsSecrets} {
			h.Cannot[p] = "This cluster asks for no password."
		}
		return h
	})
}
