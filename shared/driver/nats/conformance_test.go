package nats

import (
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// harness is what both servers have in common: at is where the tests themselves
// reach it, with the credentials of the moment.
func harness(t *testing.T, addr string, at func() string, config func(o drivertest.Options) map[string]any) drivertest.Harness {
	t.Helper()
	const subjects, elsewhere = "acme.cdc.>", "elsewhere.>"
	stream := jetstream.StreamConfig{Name: "promises", Subjects: []string{subjects}, MaxMsgSize: 1 << 20, Duplicates: time.Minute}
	with := func(do func(js jetstream.JetStream)) {
		nc, err := nats.Connect(at())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		do(js)
	}
	with(func(js jetstream.JetStream) {
		if _, err := js.CreateStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	})
	proxy := drivertest.NewProxy(t, addr)
	return drivertest.Harness{
		Proxy: proxy,
		Open: func(t testing.TB, o drivertest.Options) driver.Driver {
			c := config(o)
			c["url"], c["subject_prefix"], c["stream"] = "nats://"+proxy.Addr(), "cdc", "promises"
			return openSink(t, c, o.Settings())
		},
		Received: func(t testing.TB) (out []drivertest.Received) {
			with(func(js jetstream.JetStream) {
				s, err := js.Stream(t.Context(), "promises")
				if err != nil {
					t.Fatal(err)
				}
				for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
					m, err := s.GetMsg(t.Context(), seq)
					if err != nil {
						t.Fatal(err)
					}
					r := drivertest.Structured(t, m.Data)
					tokens := strings.Split(m.Subject, ".")
					r.ID, r.Key, r.Document = m.Header.Get("Nats-Msg-Id"), tenant.Key{Org: tenant.OrgID(tokens[0]), App: tenant.AppID(tokens[2])}, unescape(t, tokens[3])
					out = append(out, r)
				}
			})
			return out
		},
		MaxEvent: 1 << 20,
		Busy: func(busy bool) {
			next := stream
			if busy {
				next.Subjects = []string{elsewhere}
			}
			with(func(js jetstream.JetStream) {
				if _, err := js.UpdateStream(t.Context(), next); err != nil {
					t.Fatal(err)
				}
			})
		},
		Cannot: map[drivertest.Promise]string{
			drivertest.HeedsNotBefore: "A NATS server does not say when it wants to be asked again.",
		},
	}
}

// unescape is EscapeToken's way back.
func unescape(t testing.TB, token string) string {
	t.Helper()
	if token == "=" {
		return ""
	}
	var out strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] != '=' {
			out.WriteByte(token[i])
			continue
		}
		b, err := hex.DecodeString(token[i+1 : i+3])
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		i += 2
	}
	return out.String()
}

// A server in a process of its own, which can be killed.
func TestNATSPromises(t *testing.T) {
	password := "hush-hush"
	config := func() string { return "authorization { user: me, password: " + password + " }" }
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		s := testenv.StartNATS(t, config())
		h := harness(t, s.Addr, func() string { return "nats://me:" + password + "@" + s.Addr }, func(o drivertest.Options) map[string]any {
			if o.Wrong {
				return map[string]any{"username": "me", "password": "guess-guess"}
			}
			return map[string]any{"username": "me", "password": password}
		})
		h.Kind, h.Kill, h.Restart, h.Denies, h.Secrets = "nats", s.Kill, s.Restart, true, []string{password, "guess-guess"}
		h.Rotate = func() {
			password = "hush-" + strconv.Itoa(len(password))
			s.Reconfigure(config())
		}
		return h
	})
}

// The server inside the process, which "peat dev" has.
func TestEmbeddedNATSPromises(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		dir := t.TempDir()
		s := startNATS(t, dir, natsd.AnyPort)
		u, _ := url.Parse(s.ClientURL())
		port, _ := strconv.Atoi(u.Port())
		h := harness(t, u.Host, func() string { return s.ClientURL() }, func(drivertest.Options) map[string]any { return map[string]any{} })
		h.Kill = func() { s.Close() }
		h.Restart = func() {
			s.Close()
			var err error
			if s, err = natsd.New(dir, port); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { s.Close() })
		for _, p := range []drivertest.Promise{drivertest.SaysDenied, drivertest.TakesRotation, drivertest.KeepsSecrets} {
			h.Cannot[p] = "The embedded server asks for no credentials."
		}
		return h
	})
}
