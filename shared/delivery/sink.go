// Package delivery describes how changes leave the log: sinks, where each stands,
// and when to try again. Drivers and SQL are elsewhere (functions/sinks,
// shared/store).
package delivery

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Kind is a kind of sink: which driver serves it.
type Kind string

// The kinds.
const (
	Webhook     Kind = "webhook"
	CloudEvents Kind = "cloudevents"
	NATS        Kind = "nats"
	Kafka       Kind = "kafka"
	Redis       Kind = "redis"
	File        Kind = "file"
	Stdout      Kind = "stdout"
)

// Format is what of a change a sink receives.
type Format string

// The formats.
const (
	Patches Format = "patches"
	Raw     Format = "raw"
	Both    Format = "both"
)

// ParseFormat reads a format; empty is Patches.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case "":
		return Patches, nil
	case Patches, Raw, Both:
		return f, nil
	}
	return "", invalid("format", "must be patches, raw or both")
}

// State is whether a sink is being served.
type State string

// The states. Failing is active with trouble: it is still being tried.
const (
	Active   State = "active"
	Paused   State = "paused"
	Failing  State = "failing"
	Disabled State = "disabled"
)

// Served reports whether events are being sent to a sink in this state.
func (s State) Served() bool { return s == Active || s == Failing }

// AllFormations stands, as the only name in Sink.Formations, for every formation
// of the organization, also those made later.
const AllFormations = "*"

// Source is what goes to a sink.
type Source string

// The sources.
const (
	Changes    Source = "changes" // of the documents of formations
	AuditTrail Source = "audit"   // every entry of the organization's audit trail, in its order
)

// ParseSource reads a source; empty is Changes.
func ParseSource(s string) (Source, error) {
	switch Source(s) {
	case "", Changes:
		return Changes, nil
	case AuditTrail:
		return AuditTrail, nil
	}
	return "", invalid("source", "must be changes or audit")
}

// Sink is one place that changes go to, or the audit trail.
type Sink struct {
	ID         string
	Org        tenant.OrgID
	Kind       Kind
	Source     Source
	Formations []string        // names, or AllFormations alone; of the audit trail none
	Config     json.RawMessage // as the kind defines it, without secrets
	Sealed     []byte          // the secrets, in an envelope; nil if there are none
	Claim      string          // what no other sink of the kind may have; empty is nothing
	Format     Format
	Filter     filter.Spec
	Retry      *Retry // nil: the operator's ladder
	Start      Start
	State      State
	Reason     string // why it is failing or disabled
	Revision   uint64 // grows with every change of the sink, not with its state
	CreatedAt  time.Time
}

// Covers reports whether the formation's changes go to this sink.
func (s Sink) Covers(app tenant.AppID) bool {
	return slices.Contains(s.Formations, AllFormations) || slices.Contains(s.Formations, string(app))
}

// ParseFormations checks a list of formation names.
func ParseFormations(names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, invalid("formations", `must name formations or be ["*"]`)
	}
	if slices.Contains(names, AllFormations) {
		if len(names) > 1 {
			return nil, invalid("formations", `"*" stands alone`)
		}
		return names, nil
	}
	for _, n := range names {
		if _, err := tenant.ParseAppID(n); err != nil {
			return nil, invalid("formations", `holds "`+n+`", which is not a formation's name`)
		}
	}
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return slices.Compact(sorted), nil
}

func invalid(field, detail string) error {
	return &fault.Error{
		Kind: fault.Invalid, Message: field + " " + detail,
		Fields: []fault.Field{{Pointer: "/" + field, Detail: detail}},
	}
}

// Cursor is how far a sink is in one formation's log: everything up to Position
// is delivered, or its document is held.
type Cursor struct {
	Org           tenant.OrgID
	Sink          string
	App           tenant.AppID
	Position      uint64
	StartPosition uint64    // nothing up to here is owed
	Unreceipted   uint64    // of the positions up to Position, so many last ones are in no receipt yet
	Attempts      int       // failures of the sink as a whole, in a row
	NextAttemptAt time.Time // not before; zero is now
	LastError     string
}

// AuditCursor is how far a sink is in its organization's audit trail: every entry up
// to Seq is delivered. There is nothing that could be held and left behind: a trail
// with a gap proves nothing, so an entry that a sink does not take holds up the rest.
type AuditCursor struct {
	Org           tenant.OrgID
	Sink          string
	Seq           uint64
	Attempts      int       // at the entry after Seq, in a row
	NextAttemptAt time.Time // not before; zero is now
	LastError     string
}

// Lag is how far a sink is behind the log.
type Lag struct {
	Events  uint64  // not yet delivered, held ones included
	Seconds float64 // age of the oldest of them; 0 if there is none
	Bytes   uint64  // what those behind the cursor weigh in the log, about; held ones not included
}

// HeldState is why a document is held at a sink.
type HeldState string

// The states of a held document.
const (
	Retrying  HeldState = "retrying"  // will be tried again by itself
	Parked    HeldState = "parked"    // waits for an operator: a dead letter
	Redriving HeldState = "redriving" // an operator said to try again
)

// Held is a document that a sink does not take now. Nothing from FromSeq on was
// delivered; later changes queue behind it in the log, not here.
type Held struct {
	Org           tenant.OrgID
	Sink          string
	App           tenant.AppID
	Document      string
	ID            string
	FromSeq       uint64
	Hash          [32]byte // of the change that is refused
	State         HeldState
	Attempts      int
	NextAttemptAt time.Time
	LastError     string
	Excerpt       string // what the receiver answered, cut
	Since         time.Time
	SkipSeq       uint64 // this seq leaves as a marker instead of the change; 0 is none
	PurgeTo       uint64 // everything up to this seq is given up; 0 is none
	Waiting       uint64 // changes queued behind the first one; only when listed
}

// Attempt is one try at the first change of a held document.
type Attempt struct {
	Held    string // its id
	Seq     uint64
	At      time.Time
	Status  string // the receiver's own code, if it has any
	Error   string
	Excerpt string // what it answered, cut
}
