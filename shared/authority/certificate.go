package authority

import (
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Certificate is what a formation's ledger has of one certificate: the bytes, and
// how it came to be.
type Certificate struct {
	Key         tenant.Key
	Number      uint64 // in the order of issue: 1, 2, 3 …
	Serial      string // hex SHA-256 of Encoded
	Subject     []byte // the node's public key
	NodeID      string
	Tier        uint8
	Permissions uint8
	IssuedAt    time.Time
	ExpiresAt   time.Time
	RenewAfter  time.Time
	Authority   string // the id of who signed it
	Encoded     []byte

	By         string // who asked for it
	Why        string // in their words
	Rule       string // which rule allowed it
	AdmittedBy string // what let the node in, such as token:<id>; empty if nothing did
	Replaces   string // the serial of the one that was renewed
	ReplacedBy string // the serial of the one that it was renewed to

	RevokedAt time.Time // zero if it was not
	RevokedBy string
	Reason    string
}

// Standing is what a certificate is worth at a moment.
type Standing string

// The standings.
const (
	Good    Standing = "active"
	Revoked Standing = "revoked"
	Expired Standing = "expired"
)

// Standings lists them.
func Standings() []Standing { return []Standing{Good, Revoked, Expired} }

// Standing tells what the certificate is worth. One that was revoked stays so
// after it has expired.
func (c Certificate) Standing(now time.Time) Standing {
	switch {
	case !c.RevokedAt.IsZero():
		return Revoked
	case !now.Before(c.ExpiresAt):
		return Expired
	}
	return Good
}

// The reasons of certificates that were revoked with the authority that signed them.
// Their keys are as good as before.
const (
	ByTaint      = "authority_tainted"
	ByRetirement = "authority_retired"
)

// ByAuthority tells whether the certificate was revoked with its authority, and not
// for what its node did.
func (c Certificate) ByAuthority() bool { return c.Reason == ByTaint || c.Reason == ByRetirement }

// Filter picks certificates. The zero value of a field picks by something else.
type Filter struct {
	Standing       Standing
	NodeID         string
	Authority      string
	ExpiringBefore time.Time // only those that are active
}

// Node is the binding of a node id to a key, which lasts as long as a certificate
// of it is good.
type Node struct {
	ID       string
	Subject  []byte
	Until    time.Time
	ProvedAt time.Time // when the newest proof of the key was made
}

// Ledger counts what happened to a formation's certificates.
type Ledger struct {
	Issued   uint64 // the last number that was given out
	Nodes    int    // bound node ids, those whose time has passed among them
	Revision uint64 // grows with each revocation and each change of authority
}

// List is a signed revocation list as it is served.
type List struct {
	Version   uint64
	Revision  uint64 // of the ledger it was made of
	Authority string // who signed it
	MadeAt    time.Time
	GoodUntil time.Time // when its next entry expires; zero if none does
	Encoded   []byte
}
