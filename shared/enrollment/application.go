package enrollment

import (
	"crypto/ed25519"
	"encoding/json"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// PollKind is what secrets begin with by which a node asks what became of its
// application.
const PollKind token.Kind = "peat_poll_"

// ApplicationLife is how long an application waits for an administrator.
const ApplicationLife = 7 * 24 * time.Hour

// How many applications may wait at once.
const (
	MaxWaiting           = 1_000 // in a formation
	MaxWaitingOfClaimant = 16    // of one identity in a formation
)

// Application is a node's wish to be let in about which an administrator decides. What
// it would be given was decided when it came: the administrator says yes or no to it.
// Nothing is signed before.
type Application struct {
	Key      tenant.Key
	ID       string
	Subject  ed25519.PublicKey
	NodeID   string
	ProvedAt time.Time // when its proof of possession was made
	Standing Standing

	Grant       Grant
	Validity    time.Duration
	Credentials bool
	Rule        string // what allowed it
	AdmittedBy  string
	Voucher     Voucher         // not set if a token let it come
	Evidence    json.RawMessage // claims and reasons, for the administrator

	Secret    []byte // a keyed hash of what the node polls with
	CreatedAt time.Time
	ExpiresAt time.Time

	DecidedAt time.Time
	DecidedBy string
	Note      string
	Serial    string // of the certificate, once it is approved
}

// Standing is how an application stands.
type Standing string

// The standings. Those of the mesh's messages are a Status.
const (
	Waiting  Standing = "pending"
	Accepted Standing = "approved"
	Rejected Standing = "denied"
	Lapsed   Standing = "expired"
)

// Standings lists them.
func Standings() []Standing { return []Standing{Waiting, Accepted, Rejected, Lapsed} }

// At is how the application stands at a time.
func (a Application) At(now time.Time) Standing {
	if a.Standing == Waiting && !now.Before(a.ExpiresAt) {
		return Lapsed
	}
	return a.Standing
}

// Decide is the application as somebody decided it, which they can once. decided is
// false if it was so before.
func (a Application) Decide(s Standing, by, note string, now time.Time) (out Application, decided bool, err error) {
	switch at := a.At(now); at {
	case s:
		return a, false, nil
	case Waiting:
	default:
		return a, false, fault.Conflict.New("the enrollment is %s", at)
	}
	a.Standing, a.DecidedBy, a.Note, a.DecidedAt = s, by, note, now
	return a, true, nil
}
