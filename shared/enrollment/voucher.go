package enrollment

import (
	"crypto/ed25519"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// MaxClaimantBytes bounds by what name a provider may know somebody.
const MaxClaimantBytes = 512

// Voucher is what an identity provider said of the one whom a node's key belongs to,
// when it was last asked. It is all that is kept of that: the claims themselves are
// not, only their digest.
type Voucher struct {
	Provider  string // the provider's id in the organization
	Claimant  string // whom it knows them as
	Digest    string // of the claims, by which a change is seen
	VouchedAt time.Time
	Session   time.Time // the end of the identity's session; zero if it has none
	RefreshAt time.Time // from when on the provider is asked again; zero: never
}

// IsSet tells whether anybody vouched.
func (v Voucher) IsSet() bool { return v.Provider != "" }

// AdmittedBy names them as who let a node in.
func (v Voucher) AdmittedBy() string { return "identity:" + v.Provider + "/" + v.Claimant }

// Due tells whether the provider has to be asked again before anything more is given
// on the strength of what it said.
func (v Voucher) Due(now time.Time) bool { return !v.RefreshAt.IsZero() && !now.Before(v.RefreshAt) }

// Same tells whether both are about the same one.
func (v Voucher) Same(o Voucher) bool { return v.Provider == o.Provider && v.Claimant == o.Claimant }

// Vouched is a node's key with who vouched for it.
type Vouched struct {
	Key     tenant.Key
	Subject ed25519.PublicKey
	Voucher
}

// Offboarding is the end of somebody's time with an organization: no node of theirs
// is let in or renewed, whatever the provider still says of them.
type Offboarding struct {
	Provider string
	Claimant string
	At       time.Time
	By       string
	Reason   string
}
