package drivertest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Harness is one target that runs and holds nothing yet, a driver's way to it,
// and what a test may do to it. What is nil the target does not have; every
// promise that would need it must then be in Cannot.
//
// Each promise is tried on a harness of its own, one after the other. Harnesses
// may share a server as long as each looks at a place of its own in it, and finds
// it running and in health.
type Harness struct {
	// Kind is the kind of sink that the promises are those of, as users name it. They
	// go to testdata/promises_<kind>.json and from there into docs/sinks.md. Empty: a
	// variation, which is tried and not listed.
	Kind string

	// Open makes a driver of the target's sink, by the driver's own Parse and Open.
	// With a Proxy, every byte to the target goes through it.
	Open func(t testing.TB, o Options) driver.Driver

	// Received is everything the target has taken until now, in the order in which it
	// did, as a receiver reads it. What a driver has been told is delivered must be
	// in it; what was never acknowledged may be. A webhook takes what it answers 2xx
	// to, even if the answer is lost. Events are of the formations Key and Other.
	Received func(t testing.TB) []Received

	// Cannot is what the target or the driver does not promise, and why not, in words
	// for the operator who chooses a sink. Where it can be tried, it is: a promise
	// that is kept must not be declared away.
	Cannot map[Promise]string

	// Proxy is between the driver and the target. A target whose clients go where it
	// tells them to must tell them the proxy's address.
	Proxy *Proxy

	// Kill ends the target without warning, Restart starts it again at the same
	// address with what it had kept, and returns when it can be used. Restart may be
	// called without Kill. Both may be called from any goroutine, one at a time.
	Kill, Restart func()

	// Refuse has the target refuse the events of a document for good, whoever sends
	// them, and take all others.
	Refuse func(document string)

	// Busy has the target take nothing, or again everything: too many requests, out
	// of memory, read-only, a stream that is full.
	Busy func(busy bool)
	// Asks is for how long a busy target asks to be left alone; zero if it says nothing.
	Asks time.Duration

	// MaxEvent is about how many bytes of an event's data the target takes at most: it
	// takes half of it and does not take twice. Zero: there is no such limit. Keep it
	// below 4 MiB by the target's settings.
	MaxEvent int

	// Rotate changes the credentials at the target. From then on it takes nothing from
	// those who use the old ones, on new connections at the latest, and Open uses the
	// new ones.
	Rotate func()

	// Denies says that the target asks for credentials, so that Options.Wrong can be
	// tried.
	Denies bool

	// Secrets are the passwords, keys, tokens and queries of URLs that are in the
	// configuration. No reason may hold one of them.
	Secrets []string

	// Slow is how many times longer than usual the target takes to start or to answer;
	// zero is once. The suite then kills it less often and waits longer.
	Slow int
}

// Options are how a driver is opened.
type Options struct {
	AttemptTimeout time.Duration // as in driver.Settings; the suite always gives one
	Wrong          bool          // with credentials that the target does not accept
	Guarded        bool          // by an operator who allows no network inside; else Loopback is
}

// Settings are what every driver's settings have in common in a test.
func (o Options) Settings() driver.Settings {
	s := driver.Settings{AttemptTimeout: o.AttemptTimeout, Now: time.Now}
	if !o.Guarded {
		s.AllowPrivate = Loopback
	}
	return s
}

// Received is an event as the target has it.
type Received struct {
	ID         string            // where receivers look for it to tell repeats: Nats-Msg-Id, webhook-id, ce_id …
	Document   string            // by which the target keeps order, as receivers read it: subject, key, field …
	Key        tenant.Key        // by the place in the target; zero if all formations share one
	Attributes map[string]string // of the CloudEvent, without data
	Data       []byte
}

// Structured reads an event in the structured mode of CloudEvents. ID and Document
// are the event's own, for targets that have no other place for them.
func Structured(t testing.TB, text []byte) Received {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatalf("received what is no event: %v in %.200q", err, text)
	}
	r := Received{Attributes: map[string]string{}}
	for name, raw := range fields {
		if name == "data" {
			r.Data = raw
			continue
		}
		var value string
		if err := json.Unmarshal(raw, &value); err != nil {
			t.Fatalf("received an attribute that is no text: %v in %.200q", err, raw)
		}
		r.Attributes[name] = value
	}
	r.ID, r.Document = r.Attributes["id"], r.Attributes["subject"]
	return r
}
