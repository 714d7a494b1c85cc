package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
)

// target is where sinks of one kind deliver to, and how to disturb it.
type target struct {
	name    string            // in reports
	kind    string            // of sinks
	proxy   *drivertest.Proxy // between the gateway and it; nil: there is no network
	restart func()            // kills it and brings it back; nil: it is not a process
	config  func(org string) map[string]any
	// read follows what arrives for an organization until the context ends, reading
	// from the target itself and not through the proxy.
	read   func(ctx context.Context, org string, take func(arrival))
	flight int // how many events may be on their way on one connection

	hook *hook // what a receiver over HTTP does
}

const campaignApp = "app" // the formation, in each organization

// fileTarget is read as it grows: whole lines only, since a line that a crash tore
// is cut off again.
func fileTarget(dir string) *target {
	return &target{name: "file", kind: "file",
		config: func(org string) map[string]any { return map[string]any{"path": org + ".ndjson"} },
		read: func(ctx context.Context, org string, take func(arrival)) {
			at := int64(0)
			for follow(ctx) {
				f, err := os.Open(filepath.Join(dir, org+".ndjson"))
				if err != nil {
					continue // not there yet
				}
				lines := bufio.NewReader(io.NewSectionReader(f, at, 1<<40))
				for {
					line, err := lines.ReadBytes('\n')
					if err != nil {
						break
					}
					at += int64(len(line))
					take(arrival{body: bytes.TrimSpace(line)})
				}
				f.Close()
			}
		},
	}
}

// follow waits a moment between two looks, and reports whether to look again.
func follow(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(5 * time.Millisecond):
		return true
	}
}

// natsTarget is a server of its own: the gateway's own one dies with the gateway.
func natsTarget(t testing.TB) *target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	dir := testenv.Dir(t)
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"%s\"\njetstream { store_dir: %q }\nmax_payload: 8MB\n", addr, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var server *exec.Cmd
	kill := func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}
	start := func() {
		server = exec.Command(natsServer(t), "-c", config, "-l", filepath.Join(dir, "log"))
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		within(t, 30*time.Second, "the NATS server", func() (bool, string) {
			nc, err := nats.Connect("nats://"+addr.String(), nats.NoReconnect())
			if err != nil {
				return false, err.Error()
			}
			defer nc.Close()
			js, _ := jetstream.New(nc)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err = js.AccountInfo(ctx)
			return err == nil, fmt.Sprint(err)
		})
	}
	start()
	t.Cleanup(func() { kill() })
	p := drivertest.NewProxy(t, addr.String())
	stream := func(org string) string { return "FAULTS-" + org }
	return &target{name: "nats", kind: "nats", proxy: p, flight: 256,
		restart: func() { kill(); start() },
		config: func(org string) map[string]any {
			return map[string]any{"url": "nats://" + p.Addr(), "subject_prefix": "cdc", "stream": stream(org)}
		},
		read: func(ctx context.Context, org string, take func(arrival)) {
			nc, err := nats.Connect("nats://"+addr.String(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
				nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1),
				nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // it would print that the server was killed
			if err != nil {
				t.Errorf("nats: %v", err)
				return
			}
			defer nc.Close()
			js, _ := jetstream.New(nc)
			for next := uint64(1); follow(ctx); {
				// Where there is one there are more, which are asked for together.
				for want := 1; ; want = 64 {
					got := readNATS(ctx, js, stream(org), next, want, take)
					if next += uint64(got); got < want {
						break
					}
				}
			}
		},
	}
}

// readNATS reads some messages by their numbers and returns how many there were; a
// consumer would take seconds to notice that its server was gone.
func readNATS(ctx context.Context, js jetstream.JetStream, stream string, first uint64, want int, take func(arrival)) (got int) {
	ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
	defer cancel()
	answers := make([]*nats.Msg, want)
	var wg sync.WaitGroup
	for n := range answers {
		wg.Go(func() {
			// Without an answer it stays nil.
			answers[n], _ = js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, first+uint64(n)))
		})
	}
	wg.Wait()
	for _, a := range answers {
		var answer struct {
			Message *struct {
				Subject string `json:"subject"`
				Headers []byte `json:"hdrs"`
				Data    []byte `json:"data"`
			} `json:"message"`
		}
		if a == nil || json.Unmarshal(a.Data, &answer) != nil || answer.Message == nil {
			return got
		}
		got++
		header, _ := nats.DecodeHeadersMsg(answer.Message.Headers)
		subject := answer.Message.Subject
		take(arrival{body: answer.Message.Data, id: header.Get(nats.MsgIdHdr), document: subject[strings.LastIndexByte(subject, '.')+1:]})
	}
	return got
}

func redisTarget(t testing.TB) *target {
	server := testenv.StartRedis(t)
	p := drivertest.NewProxy(t, server.Addr)
	return &target{name: "redis", kind: "redis", proxy: p, flight: 256,
		restart: server.Restart,
		config:  func(org string) map[string]any { return map[string]any{"url": "redis://" + p.Addr()} },
		read: func(ctx context.Context, org string, take func(arrival)) {
			cl := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})
			defer cl.Close()
			stream := "peat." + org + "." + campaignApp
			for last := "0-0"; follow(ctx); {
				got, err := cl.XRead(ctx, &redis.XReadArgs{Streams: []string{stream, last}, Count: 500, Block: -1}).Result()
				if err != nil {
					continue // nothing new, or it is down
				}
				for _, m := range got[0].Messages {
					text := func(name string) string { s, _ := m.Values[name].(string); return s }
					take(arrival{body: []byte(text("event")), id: text("id"), document: text("document")})
					last = m.ID
				}
			}
		},
	}
}

// advertised is a listener that says it is at another address: that of the proxy
// before it.
type advertised struct {
	net.Listener
	proxy *drivertest.Proxy
}

func (a advertised) Addr() net.Addr {
	addr, _ := net.ResolveTCPAddr("tcp", a.proxy.Addr())
	return addr
}

// fakeKafkaTarget is a cluster inside this process, so nobody can kill it; the
// network before it breaks like any other.
func fakeKafkaTarget(t testing.TB, orgs ...string) *target {
	var p *drivertest.Proxy
	var direct string
	topics := []string{}
	for _, org := range orgs {
		topics = append(topics, org+"."+campaignApp)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, topics...), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		direct = l.Addr().String()
		p = drivertest.NewProxy(t, direct)
		return advertised{l, p}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return kafkaTarget(p.Addr(), p, kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, direct)
	}))
}

func kafkaTarget(broker string, p *drivertest.Proxy, more ...kgo.Opt) *target {
	return &target{name: "kafka", kind: "kafka", proxy: p, flight: 256,
		config: func(org string) map[string]any {
			return map[string]any{"brokers": []string{broker}, "topic": "{org}.{app}"}
		},
		read: func(ctx context.Context, org string, take func(arrival)) {
			cl, err := kgo.NewClient(append(more, kgo.SeedBrokers(broker), kgo.ConsumeTopics(org+"."+campaignApp),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond),
				kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))...)
			if err != nil {
				panic(err) // options that cannot go together
			}
			defer cl.Close()
			for ctx.Err() == nil {
				cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { take(kafkaArrival(r)) })
			}
		},
	}
}

// kafkaArrival puts an event together from the binary mode of CloudEvents.
func kafkaArrival(r *kgo.Record) arrival {
	e := map[string]any{"data": json.RawMessage(r.Value)}
	id := ""
	for _, h := range r.Headers {
		name, is := strings.CutPrefix(h.Key, "ce_")
		if is {
			e[name] = string(h.Value)
		}
		if name == "id" {
			id = string(h.Value)
		}
	}
	return arrival{body: together(e, r.Value), id: id, document: string(r.Key)}
}
