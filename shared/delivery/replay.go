package delivery

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// ReplayState is how a replay stands.
type ReplayState string

// The states of a replay.
const (
	Running   ReplayState = "running"
	Done      ReplayState = "done"
	Cancelled ReplayState = "cancelled"
)

// Replay sends a part of the log to a sink once more, beside what is new. It only
// ever repeats: changes that the sink has not had are not in it.
type Replay struct {
	Org       tenant.OrgID
	Sink      string
	ID        string
	App       tenant.AppID
	Document  string // only this one's changes; empty: all documents'
	Actor     string // only this author's; empty: all authors'
	From, To  uint64 // positions, both included
	Rate      int    // events per second at the most; 0: no limit
	State     ReplayState
	Position  uint64 // everything up to here is through
	Total     uint64 // events that the preview counted
	Delivered uint64
	Refused   uint64 // events that the sink would not take; they are left out

	Attempts      int // failures in a row at the change after Position
	NextAttemptAt time.Time
	LastError     string
	CreatedAt     time.Time
	EndedAt       time.Time
}
