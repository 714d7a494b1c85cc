package nats

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/natsd"
)

func startNATS(t testing.TB, dir string, port int) *natsd.Server {
	t.Helper()
	s, err := natsd.New(dir, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func openTestNATS(t testing.TB, c natsConfig, s driver.Settings) *natsStream {
	t.Helper()
	config, _ := json.Marshal(c)
	if s.AttemptTimeout == 0 {
		s.AttemptTimeout = 5 * time.Second
	}
	d, err := Open(driver.Opening{Org: "acme", Sink: "s", Config: config, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*natsStream)
}

// bystander makes a stream that nobody uses. With its last stream a server clears
// away the folder of them all, and for a moment cannot make another.
func bystander(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "bystander", Subjects: []string{"bystander"}}); err != nil {
		t.Fatal(err)
	}
}

func client(t testing.TB, s *natsd.Server) jetstream.JetStream {
	t.Helper()
	return clientAt(t, s.ClientURL())
}

func clientAt(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// stored lists the Nats-Msg-Id of everything in a stream.
func stored(t testing.TB, js jetstream.JetStream, stream string) []string {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.Header.Get("Nats-Msg-Id"))
	}
	return out
}

func TestNATSPublishes(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	d := openTestNATS(t, natsConfig{URL: s.ClientURL(), SubjectPrefix: "cdc.v1", Stream: "events"}, driver.Settings{AllowPrivate: drivertest.Loopback})
	batch := drivertest.Events("notes:7.x >/1", "b/1", "b/2")
	for i, o := range d.Deliver(t.Context(), batch, drivertest.Soon()) {
		if o.Verdict != driver.Delivered {
			t.Fatalf("%d: %+v", i, o)
		}
	}
	drivertest.DeliverAll(t, d, "b/2") // a repeat, after a crash
	js := client(t, s)
	got := stored(t, js, "events")
	if strings.Join(got, ",") != "id-notes:7.x >/1,id-b/1,id-b/2" {
		t.Errorf("%q", got)
	}
	stream, _ := js.Stream(t.Context(), "events")
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil || m.Subject != "acme.cdc.v1.logistics.notes=3A7=2Ex=20=3E" || m.Header.Get("Content-Type") != "application/cloudevents+json" ||
		string(m.Data) != string(batch[0].Structured()) {
		t.Errorf("%+v %v", m, err)
	}
}

func TestNATSUsesTheOperatorsServerWithoutGuard(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	d := openTestNATS(t, natsConfig{SubjectPrefix: "cdc"}, driver.Settings{NATSURL: s.ClientURL()})
	drivertest.DeliverAll(t, d, "a/1")
	if got := stored(t, client(t, s), "peat=acme=cdc"); len(got) != 1 {
		t.Error(got)
	}
	guarded := openTestNATS(t, natsConfig{URL: s.ClientURL(), SubjectPrefix: "cdc"}, driver.Settings{})
	if out := guarded.Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())[0]; out.Verdict != driver.Retry || !out.Unreachable {
		t.Errorf("%+v", out)
	}
}

func TestNATSVerifiesAStreamThatIsThere(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	js := client(t, s)
	for _, c := range []jetstream.StreamConfig{{Name: "all", Subjects: []string{"acme.>"}}, {Name: "rival", Subjects: []string{"rival.cdc.>"}}} {
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	settings := driver.Settings{AllowPrivate: drivertest.Loopback}
	drivertest.DeliverAll(t, openTestNATS(t, natsConfig{URL: s.ClientURL(), SubjectPrefix: "cdc", Stream: "all"}, settings), "a/1")
	d := openTestNATS(t, natsConfig{URL: s.ClientURL(), SubjectPrefix: "cdc", Stream: "rival"}, settings)
	outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon())
	if outs[0].Verdict != driver.Retry || !outs[0].Unreachable || !strings.Contains(outs[0].Reason, "does not take the subjects") || outs[1].Verdict != driver.Untried {
		t.Errorf("%+v", outs)
	}
}

func TestNATSRefusesWhatIsTooLarge(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	d := openTestNATS(t, natsConfig{URL: s.ClientURL(), SubjectPrefix: "cdc"}, driver.Settings{AllowPrivate: drivertest.Loopback})
	batch := drivertest.Events("a/1", "a/2", "b/1")
	batch[0] = drivertest.Swell(batch[0], 9<<20)
	outs := d.Deliver(t.Context(), batch, drivertest.Soon())
	if outs[0].Verdict != driver.Refused || outs[1].Verdict != driver.Untried || outs[2].Verdict != driver.Delivered {
		t.Errorf("%+v", outs)
	}
}

func TestNATSStreamDeletedUnderneath(t *testing.T) {
	s := startNATS(t, t.TempDir(), natsd.AnyPort)
	d := openTestNATS(t, natsConfig{URL: s.ClientURL(), SubjectPrefix: "cdc", Stream: "x"}, driver.Settings{AllowPrivate: drivertest.Loopback})
	drivertest.DeliverAll(t, d, "a/1")
	bystander(t, client(t, s))
	if err := client(t, s).DeleteStream(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if out := d.Deliver(t.Context(), drivertest.Events("a/2"), drivertest.Soon())[0]; out.Verdict != driver.Retry || !out.Unreachable {
		t.Errorf("%+v", out)
	}
	drivertest.DeliverAll(t, d, "a/2") // made anew
}

// The server goes away in the middle of a batch and comes back: what was answered
// is stored, nothing later of a document passes, and trying again completes it.
func TestNATSServerRestartsMidBatch(t *testing.T) {
	dir := t.TempDir()
	s, err := natsd.New(dir, natsd.AnyPort)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(s.ClientURL())
	port, _ := strconv.Atoi(u.Port())
	d := openTestNATS(t, natsConfig{URL: s.ClientURL(), SubjectPrefix: "cdc", Stream: "x"}, driver.Settings{AllowPrivate: drivertest.Loopback})
	drivertest.DeliverAll(t, d, "warm/1")
	var names []string
	for n := range 400 {
		for _, doc := range []string{"a", "b", "c"} {
			names = append(names, fmt.Sprintf("%s/%d", doc, n+1))
		}
	}
	todo := drivertest.Events(names...)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		time.Sleep(30 * time.Millisecond)
		s.Close()
	}()
	broken := 0
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
		if todo = rest; len(todo) > 0 && broken == 0 {
			broken++
			<-stopped
			s = startNATS(t, dir, port)
		}
	}
	<-stopped
	if broken == 0 {
		t.Log("the batch was faster than the restart")
		s = startNATS(t, dir, port)
	}
	last := map[string]int{}
	for _, id := range stored(t, client(t, s), "x")[1:] {
		doc, number, _ := strings.Cut(strings.TrimPrefix(id, "id-"), "/")
		n, _ := strconv.Atoi(number)
		if n != last[doc]+1 {
			t.Fatalf("%s after %d", id, last[doc])
		}
		last[doc] = n
	}
	if last["a"] != 400 || last["b"] != 400 || last["c"] != 400 {
		t.Errorf("%v", last)
	}
}

func TestNATSConfigurationsThatAreRefused(t *testing.T) {
	for name, in := range map[string]string{
		"no url":                   `{"subject_prefix":"cdc"}`,
		"no prefix":                `{"url":"nats://example.com"}`,
		"wildcard":                 `{"url":"nats://example.com","subject_prefix":"cdc.>"}`,
		"empty token":              `{"url":"nats://example.com","subject_prefix":"cdc..x"}`,
		"stream with a dot":        `{"url":"nats://example.com","subject_prefix":"cdc","stream":"a.b"}`,
		"password in the url":      `{"url":"nats://me:hush@example.com","subject_prefix":"cdc"}`,
		"user without a password":  `{"url":"nats://example.com","subject_prefix":"cdc","username":"me"}`,
		"token and user":           `{"url":"nats://example.com","subject_prefix":"cdc","username":"me","password":"x","token":"y"}`,
		"http":                     `{"url":"http://example.com","subject_prefix":"cdc"}`,
		"a private address":        `{"url":"nats://10.0.0.1:4222","subject_prefix":"cdc"}`,
		"a server in the path":     `{"url":"nats://example.com/,nats://127.0.0.1","subject_prefix":"cdc"}`,
		"two servers in one field": `{"url":"nats://example.com,nats://127.0.0.1","subject_prefix":"cdc"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(json.RawMessage(in), nil, driver.Settings{}); !errors.Is(err, fault.Invalid) {
				t.Errorf("%v", err)
			}
		})
	}
	made, err := Parse(json.RawMessage(`{"url":"nats://example.com","subject_prefix":"cdc","username":"me","password":"hush"}`), nil, driver.Settings{})
	public, _ := json.Marshal(made.Public)
	if err != nil || strings.Contains(string(public), "hush") || made.Secrets == nil {
		t.Errorf("%s %v", public, err)
	}
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		outer, inner string
		want         bool
	}{
		{"a.b.>", "a.b.>", true}, {"a.>", "a.b.>", true}, {">", "a.b.>", true}, {"a.*.>", "a.b.>", true},
		{"a.b.c.>", "a.b.>", false}, {"a.b.*", "a.b.>", false}, {"x.>", "a.b.>", false}, {"a.b", "a.b.>", false}, {"a.b.c", "a.b", false},
	} {
		if got := covers(tc.outer, tc.inner); got != tc.want {
			t.Errorf("%s covers %s: %t", tc.outer, tc.inner, got)
		}
	}
}

func FuzzEscapeToken(f *testing.F) {
	f.Add("notes:7", "notes.7")
	f.Add("", "=")
	f.Add("=3A", ":")
	f.Add("\x00\xff >*", "é")
	f.Fuzz(func(t *testing.T, a, b string) {
		x := EscapeToken(a)
		if x == "" || strings.ContainsAny(x, ".*> \t\r\n\x00") {
			t.Fatalf("%q became %q", a, x)
		}
		for i := range len(x) {
			if !driver.IsPlain(x[i]) && x[i] != '=' {
				t.Fatalf("%q became %q", a, x)
			}
		}
		if a != b && x == EscapeToken(b) {
			t.Fatalf("%q and %q both became %q", a, b, x)
		}
	})
}
