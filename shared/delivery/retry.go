package delivery

import (
	"encoding/json"
	"fmt"
	"time"
)

// Retry is a sink's own ladder, as it is written down.
type Retry struct {
	Ladder []string `json:"ladder"`        // waits after each failure of a document; the last one repeats
	For    string   `json:"for,omitempty"` // how long a document is tried before it is parked
}

// What a sink's own ladder may be.
const (
	maxSteps = 20
	minStep  = time.Second
	maxStep  = 24 * time.Hour
	maxFor   = 30 * 24 * time.Hour
)

// ParseRetry checks a sink's own ladder; null is none.
func ParseRetry(in json.RawMessage) (*Retry, error) {
	if len(in) == 0 || string(in) == "null" {
		return nil, nil
	}
	var r Retry
	if err := strict(in, &r); err != nil {
		return nil, invalid("retry", `must be {"ladder": ["5s", …], "for": "24h"}`)
	}
	_, err := r.parse(DefaultLadder())
	return &r, err
}

func (r Retry) parse(fallback Ladder) (Ladder, error) {
	out := Ladder{For: fallback.For}
	if len(r.Ladder) == 0 || len(r.Ladder) > maxSteps {
		return out, invalid("retry/ladder", "must be one to 20 waits")
	}
	for i, text := range r.Ladder {
		step, err := time.ParseDuration(text)
		if err != nil || step < minStep || step > maxStep {
			return out, invalid(fmt.Sprintf("retry/ladder/%d", i), "must be a duration from 1s to 24h")
		}
		out.Steps = append(out.Steps, step)
	}
	if r.For != "" {
		var err error
		if out.For, err = time.ParseDuration(r.For); err != nil || out.For < minStep || out.For > maxFor {
			return out, invalid("retry/for", "must be a duration from 1s to 720h")
		}
	}
	return out, nil
}

// LadderOf is the sink's own ladder, or the operator's.
func (s Sink) LadderOf(operators Ladder) Ladder {
	if s.Retry == nil {
		return operators
	}
	own, err := s.Retry.parse(operators)
	if err != nil {
		return operators // it was checked when it was written
	}
	return own
}
