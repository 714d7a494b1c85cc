package enroll

import (
	"net/netip"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/rate"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Rates are how often a minute somebody may try to be let in, in one process. Zero is
// no limit. Renewals are not counted: each takes a certificate.
type Rates struct {
	Address, Subject, Org int
}

// The names of the limits.
const (
	perAddress = "enrollments_per_minute_of_address"
	perSubject = "enrollments_per_minute_of_subject"
	perOrg     = "enrollments_per_minute_of_organization"
)

// limits count the attempts of this process.
type limits struct{ address, subject, org *rate.Limit }

func newLimits(r Rates) limits {
	return limits{rate.New(r.Address), rate.New(r.Subject), rate.New(r.Org)}
}

// limitAddress counts an attempt of an address. The addresses of one IPv6 network of
// a customer are one.
func (f *Function) limitAddress(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	network, err := a.Prefix(bits)
	if err != nil {
		return nil
	}
	return limited(f.limits.address, network.String(), perAddress, f.Now())
}

// limitSubject counts an attempt of somebody whom a provider vouches for.
func (f *Function) limitSubject(org tenant.OrgID, provider, claimant string) error {
	return limited(f.limits.subject, string(org)+"\x00"+provider+"\x00"+claimant, perSubject, f.Now())
}

// limitOrg counts an attempt that takes an organization's provider to judge.
func (f *Function) limitOrg(org tenant.OrgID) error {
	return limited(f.limits.org, string(org), perOrg, f.Now())
}

func limited(l *rate.Limit, party, name string, now time.Time) error {
	wait := l.Take(party, now)
	if wait == 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.Exhausted, Message: "too many attempts; the limit is " + name, After: wait,
		Limit: &fault.Limit{Name: name, Value: l.PerMinute()},
	}
}
