// Package authority says who signs a formation's certificates and what a formation
// remembers of each certificate that was signed. It does no I/O; shared/store keeps
// what is described here, and the certificate's own bytes are those of shared/cert.
//
//	authority.go    an authority, its states and moves
//	certificate.go  a certificate as it stands in the ledger
//	renewal.go      when a certificate may be renewed
//	possession.go   how a node shows that a key is its own
package authority

import (
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// GenesisID names the authority that a formation was made with. Its key is part
// of the sealed genesis; that of every other is sealed by itself.
const GenesisID = "genesis"

// Authority is a key that signs, signed or will sign a formation's certificates.
type Authority struct {
	Key         tenant.Key
	ID          string
	PublicKey   []byte // Ed25519, 32 bytes
	State       State
	Sealed      []byte // nil for that of the genesis
	Reason      string // why it was tainted
	CreatedAt   time.Time
	ActivatedAt time.Time // zero until it signs
	ReplacedAt  time.Time // zero until another signs instead
	EndedAt     time.Time // zero until it is trusted no more
}

// State is where an authority is in its life.
type State string

// The states.
const (
	Next     State = "next"     // known to members, signs nothing yet
	Active   State = "active"   // signs; a formation has exactly one
	Retiring State = "retiring" // signs no more, and what it signed is good
	Retired  State = "retired"  // trusted no more, in good order
	Tainted  State = "tainted"  // trusted no more: somebody else may have the key
)

// moves is the one table of what may follow what.
var moves = map[State][]State{
	Next:     {Active, Tainted},
	Active:   {Retiring, Tainted},
	Retiring: {Retired, Tainted},
	Retired:  {Tainted},
}

// Move returns next if an authority may go there from s.
func (s State) Move(next State) (State, error) {
	if slices.Contains(moves[s], next) {
		return next, nil
	}
	return s, fault.Conflict.New("an authority that is %s cannot become %s", s, next)
}

// Moves tells where an authority in state s may go, for documents and tests.
func (s State) Moves() []State { return slices.Clone(moves[s]) }

// Trusted tells whether what the authority signed is good.
func (s State) Trusted() bool { return s == Active || s == Retiring }
