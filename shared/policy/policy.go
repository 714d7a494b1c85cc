// Package policy decides what somebody is given on the strength of who they are: an
// organization's ordered rules, asked with the claims, the request and the time. A
// rule that denies wins over every rule that allows, and where no rule matches the
// answer is no.
package policy

import (
	"net/netip"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Request is what a node asks for.
type Request struct {
	Key        tenant.Key
	Enrollment tenant.EnrollmentPolicy // of the formation
	NodeID     string
	Wants      enrollment.Grant // what the node would like; rules may look at it
	Address    netip.Addr       // where it asks from, as far as that is known
	Renewal    bool             // whether it has a certificate that this replaces
}

// Decision is the answer, with what led to it.
type Decision struct {
	Allowed bool
	Rule    string // the rule that decided; empty if none matched
	Version int64  // of the rules

	// What is given, if it is allowed.
	Grant       enrollment.Grant
	Validity    time.Duration // never longer than the identity's session
	Credentials bool          // whether the formation's credentials go with the certificate
	Review      bool          // whether an administrator must agree first

	Reasons []Reason // of each rule that was looked at, in order
}

// Reason is what one rule came to.
type Reason struct {
	Rule    string
	Matched bool
	Detail  string // why not, in words: which part of the condition was false, which claim is missing
}
