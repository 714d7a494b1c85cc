package delivery

import "github.com/defenseunicorns/peat-gateway/shared/tenant"

// Decision is what an operator makes of a dead letter.
type Decision string

// The decisions.
const (
	Redrive Decision = "redrive" // try it again, and what waits behind it
	Skip    Decision = "skip"    // a marker goes in its place, then what waits behind it
	Purge   Decision = "purge"   // give it up, with all that waits behind it by now
)

// DeadLetters says which held documents of a sink are meant. What it leaves empty
// does not limit; without a state those that an operator has to do with are meant.
type DeadLetters struct {
	State    HeldState // empty: parked and redriving
	App      tenant.AppID
	Document string
	Error    string   // a part of the last error, upper or lower case
	IDs      []string // these only; nil: all
}

// Decide makes of a parked document what the operator said.
func (h *Held) Decide(d Decision) {
	h.State, h.Attempts = Redriving, 0
	switch d {
	case Skip:
		h.SkipSeq = h.FromSeq
	case Purge:
		h.PurgeTo = h.FromSeq + h.Waiting
	}
}
