package sinks

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
)

// sinkRequest makes a sink. Formations is for the organization's door only; the
// formation's door has said it in the path.
type sinkRequest struct {
	Kind       string          `json:"kind"`
	Config     json.RawMessage `json:"config,omitempty"`
	Source     string          `json:"source,omitempty"`
	Formations []string        `json:"formations,omitempty"`
	Format     string          `json:"format,omitempty"`
	Start      json.RawMessage `json:"start,omitempty"`
	Filter     filter.Spec     `json:"filter,omitzero"`
	Retry      json.RawMessage `json:"retry,omitempty"`
}

// sinkPatch changes a sink. What it leaves out stays.
type sinkPatch struct {
	Config json.RawMessage `json:"config,omitempty"` // a merge patch: null removes a field
	Format *string         `json:"format,omitempty"`
	Filter *filter.Spec    `json:"filter,omitempty"`
	Retry  json.RawMessage `json:"retry,omitempty"` // null: the operator's
}

type sinkWire struct {
	ID           string          `json:"sink_id"`
	Kind         delivery.Kind   `json:"kind"`
	Source       delivery.Source `json:"source"`
	Formations   []string        `json:"formations"` // of the audit trail none
	Config       json.RawMessage `json:"config"`
	Format       delivery.Format `json:"format"`
	Filter       *filter.Spec    `json:"filter,omitempty"`
	Retry        *delivery.Retry `json:"retry,omitempty"`
	Start        delivery.Start  `json:"start"`
	State        delivery.State  `json:"state"`
	Reason       string          `json:"reason,omitempty"`
	Lag          lagWire         `json:"lag"`
	CreatedAt    time.Time       `json:"created_at"`
	Completeness *nightlyWire    `json:"completeness,omitempty"` // only of one sink, once it was compared
	Secret       string          `json:"secret,omitempty"`       // only in the answer that made the sink
}

type lagWire struct {
	Events  uint64  `json:"events"`
	Seconds float64 `json:"seconds"`
	Bytes   uint64  `json:"bytes"`
}

// tag names the state of a sink as far as administrators decide on it: what delivery
// finds out, that it fails or works again, is no reason to look again. That it was
// given up is.
func tag(s delivery.Sink) string {
	state := s.State
	if state.Served() {
		state = delivery.Active
	}
	return strconv.FormatUint(s.Revision, 10) + "-" + string(state)
}

func wireSink(s delivery.Sink, lag delivery.Lag) sinkWire {
	w := sinkWire{
		ID: s.ID, Kind: s.Kind, Source: s.Source, Formations: s.Formations, Config: s.Config, Format: s.Format, Retry: s.Retry, Start: s.Start,
		State: s.State, Reason: s.Reason, Lag: lagWire(lag), CreatedAt: s.CreatedAt,
	}
	if !s.Filter.IsZero() {
		w.Filter = &s.Filter
	}
	return w
}

type deadLetterWire struct {
	ID        string             `json:"id"`
	App       string             `json:"app_id"`
	Document  string             `json:"document_id"`
	Seq       uint64             `json:"seq"`
	Hash      change.Hash        `json:"change_hash"`
	State     delivery.HeldState `json:"state"`
	Attempts  int                `json:"attempts"`
	LastError string             `json:"last_error"`
	Excerpt   string             `json:"response_excerpt,omitempty"`
	ParkedAt  time.Time          `json:"parked_at"`
	Waiting   uint64             `json:"waiting"` // later changes of the document, queued behind this one
}

// inspectedWire is a dead letter in full.
type inspectedWire struct {
	deadLetterWire
	Event   json.RawMessage `json:"event"`
	History []attemptWire   `json:"history"` // the oldest first
}

type attemptWire struct {
	At      time.Time `json:"at"`
	Seq     uint64    `json:"seq"`
	Status  string    `json:"status,omitempty"`
	Error   string    `json:"error"`
	Excerpt string    `json:"response_excerpt,omitempty"`
}

func wireDeadLetter(h delivery.Held) deadLetterWire {
	return deadLetterWire{
		ID: h.ID, App: string(h.App), Document: h.Document, Seq: h.FromSeq, Hash: h.Hash, State: h.State, Attempts: h.Attempts,
		LastError: h.LastError, Excerpt: h.Excerpt, ParkedAt: h.Since, Waiting: h.Waiting,
	}
}
