package tenant

import (
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Formation is a group of peers with a root of trust of its own.
type Formation struct {
	Org                OrgID
	App                AppID
	MeshID             string // 8 upper-case hex characters; 32 bits only, never a key
	Policy             EnrollmentPolicy
	State              State
	AuthorityPublicKey []byte // Ed25519, 32 bytes
	CreatedAt          time.Time
	Revision           uint64 // grows with every change of policy or state
	Documents          int    // in its log
	Bytes              int    // of its log, changes and patches
}

// EnrollmentPolicy says who may join a formation.
type EnrollmentPolicy string

// The policies, in the order of the mesh's own encoding (0, 1, 2).
const (
	Open       EnrollmentPolicy = "open"
	Controlled EnrollmentPolicy = "controlled"
	Strict     EnrollmentPolicy = "strict"
)

var policies = []EnrollmentPolicy{Open, Controlled, Strict}

// ParseEnrollmentPolicy reads a policy by name.
func ParseEnrollmentPolicy(s string) (EnrollmentPolicy, error) {
	if p := EnrollmentPolicy(s); slices.Contains(policies, p) {
		return p, nil
	}
	return "", invalid("enrollment_policy", "must be open, controlled or strict")
}

// State is where a formation is in its life.
type State string

// The states. A destroyed formation never comes back.
const (
	Active    State = "active"
	Suspended State = "suspended"
	Destroyed State = "destroyed"
)

// moves is the one table of what may follow what.
var moves = map[State][]State{
	Active:    {Suspended, Destroyed},
	Suspended: {Active, Destroyed},
}

// Move returns next if a formation may go there from s.
func (s State) Move(next State) (State, error) {
	if slices.Contains(moves[s], next) {
		return next, nil
	}
	return s, fault.Conflict.New("a formation that is %s cannot become %s", s, next)
}

// MustBe reports whether a formation in state s may do what only one in state want may.
func (s State) MustBe(want State) error {
	if s != want {
		return fault.Conflict.New("the formation is %s", s)
	}
	return nil
}

// Moves tells where a formation in state s may go, for documents and tests.
func (s State) Moves() []State { return slices.Clone(moves[s]) }

// Key names a formation across organizations, for maps and lease names. Ids
// cannot hold a slash, so the text is unambiguous.
type Key struct {
	Org OrgID
	App AppID
}

// String returns org/app.
func (k Key) String() string { return string(k.Org) + "/" + string(k.App) }

// Compare orders keys by organization, then formation.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(string(k.Org), string(o.Org)); c != 0 {
		return c
	}
	return strings.Compare(string(k.App), string(o.App))
}
