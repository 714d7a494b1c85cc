// Package driver is what every kind of sink looks like to delivery: what a driver
// promises, what it is given, what it answers. Each kind is a package below, with
// its configuration; drivertest holds the promises as tests.
//
// Which change goes to which sink, and what follows from an answer, is decided in
// functions/sinks.
package driver

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Driver sends events to one sink. Several formations may use it at once.
type Driver interface {
	// Deliver sends a batch in which the events of one document are in order, and
	// answers for each. It never sends an event after an earlier one of the same
	// document that was not delivered: such an event is Untried. It begins nothing
	// new after until; when ctx is cancelled it also breaks off what it began.
	Deliver(ctx context.Context, batch []Event, until time.Time) []Outcome
	Close() error
}

// Assessor is a driver that can say how safe an event is once it is acknowledged.
type Assessor interface {
	// Assess connects, signs in and looks at how the target keeps things. It writes
	// nothing. An error is in words an operator may see, as an Outcome's Reason is.
	Assess(ctx context.Context) (Durability, error)
}

// Durability is how well a target keeps what it has acknowledged, as far as it
// tells: from A, which survives the loss of a machine, to F, which survives nothing.
type Durability struct {
	Grade   Grade
	Reasons []string // what speaks against a better grade, or could not be learned
}

// Grade is A, B, C, D, E or F.
type Grade string

// Worst lowers a grade to at most g, and says why.
func (d *Durability) Worst(g Grade, reason string) {
	if d.Grade == "" || g > d.Grade {
		d.Grade = g
	}
	d.Reasons = append(d.Reasons, reason)
}

// Event is one event as it goes over the wire.
type Event struct {
	ID       string // receivers tell repeats by it
	Key      tenant.Key
	Document string // what the order is kept within; a test event has the sink's id here
	event.Encoded
}

// Structured is the whole event as one line of JSON.
func (e Event) Structured() []byte { return e.AppendJSON(make([]byte, 0, e.Size()+64)) }

// DocumentOf names an event's document across formations.
func DocumentOf(e Event) string {
	return string(e.Key.Org) + "/" + string(e.Key.App) + "/" + e.Document
}

// Verdict is what became of one event.
type Verdict int

// The verdicts.
const (
	Untried   Verdict = iota // not sent: time was up, or an earlier one of its document failed
	Delivered                // the sink has it
	Retry                    // the sink may take it later
	Refused                  // the sink will never take it
)

// Outcome is a driver's answer for one event.
type Outcome struct {
	Verdict     Verdict
	Reason      string    // why not, in words an operator may see: no secrets
	Status      string    // the receiver's own code for it, if it has any: "503"
	Excerpt     string    // what the receiver said, cut
	NotBefore   time.Time // when the receiver wants to be asked again; zero: it did not say
	Unreachable bool      // with Retry: no event at all can be delivered now
	Gone        bool      // with Retry: the receiver wants no more events, ever
}

// Settings are the operator's choices that drivers need.
type Settings struct {
	SinkDir        string         // where file sinks write; empty: there are none
	NATSURL        string         // the server of NATS sinks that name none; empty: they must
	AllowPrivate   []netip.Prefix // networks inside that sinks may reach; none by default
	AttemptTimeout time.Duration  // of one request to a sink
	Stdout         io.Writer      // where stdout sinks write
	Now            func() time.Time
}

// Parse checks a configuration and divides it. prior is what was sealed for the
// sink before, in JSON, or nil for a new sink: a secret that in leaves out stays
// what it was.
type Parse func(in json.RawMessage, prior []byte, s Settings) (Config, error)

// Open makes a driver ready. What it cannot reach now it may also reach later, in
// Deliver.
type Open func(o Opening) (Driver, error)

// Config is a configuration, divided by who may see it.
type Config struct {
	Public  any    // returned by the API
	Secrets any    // sealed; nil if there are none
	Once    string // a secret the gateway made, told once; empty if it made none
	Claims  string // no two sinks may claim the same; empty claims nothing
}

// Opening is what a driver is made of.
type Opening struct {
	Org     tenant.OrgID
	Sink    string
	Config  json.RawMessage // Config.Public
	Secrets []byte          // Config.Secrets in JSON; nil if there are none
	Signing []SigningKey    // the organization's, for kinds that sign with them; the newest first
	Settings
}

// SigningKey is a key pair by which receivers know the organization.
type SigningKey struct {
	Private  ed25519.PrivateKey
	NotAfter time.Time // not to be used from here on; zero: until it is replaced
}

// MaxExcerpt bounds what is kept of a receiver's answer.
const MaxExcerpt = 512

// Excerpt makes text out of a receiver's answer.
func Excerpt(body []byte) string {
	body = body[:min(len(body), MaxExcerpt)]
	text := strings.ToValidUTF8(string(body), "")
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
}
