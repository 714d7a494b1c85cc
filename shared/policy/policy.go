// Package policy decides what somebody is given on the strength of who they are: an
// organization's ordered rules, asked with the claims, the request and the time. A
// rule that denies wins over every rule that allows, the first rule that allows says
// what is given, and where no rule matches the answer is no.
//
//	policy.go    what is asked and what is answered
//	document.go  rules as they are written and kept, and what may be written
//	written.go   claims and requests as they are written
//	see.go       what an expression sees
//	compile.go   a document made ready
//	decide.go    the decision
//	lab.go       the decision again, with everything that led to it
//	test.go      what rules promise, and whether they keep it
//	record.go    decisions that were made, kept to be asked again
//	replay.go    whether another policy would have decided otherwise
//	diff.go      what two documents differ in
//	cache.go     documents that are ready already
//
// # What cannot be decided is denied
//
// A condition can fail: it asks for an attribute that somebody does not have, or
// costs more than it may. A rule that allows does not match then, and one that
// denies does.
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
	// Rule is the rule that decided; empty if none matched. One of a formation's own
	// rules has the formation before it: logistics/trucks.
	Rule             string
	Version          int64 // of the organization's rules; 0 if it has none
	FormationVersion int64 // of the formation's own; 0 if it has none

	// What is given, if it is allowed.
	Grant    enrollment.Grant
	Validity time.Duration // never longer than the identity's session
	// RefreshAfter is for how long certificates are renewed before the provider has to
	// vouch again; zero: until the identity's session ends.
	RefreshAfter time.Duration
	Credentials  bool // whether the formation's credentials go with the certificate
	Review       bool // whether an administrator must agree first

	Reasons []Reason // of each rule that was looked at, in order
}

// Reason is what one rule came to.
type Reason struct {
	Rule    string
	Matched bool
	Detail  string // why not, in words: which part of the condition was false, which claim is missing
	Parts   []Part // of what the rule asks, each by itself; only in the lab
}
