package mtls

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// knowledge is what is known of whether a chain was revoked in part.
type knowledge struct {
	looked  bool
	unknown bool      // of at least one certificate nothing could be found out
	until   time.Time // when the first of what is known ends; zero: nothing does
	grace   time.Time // until when a list that has ended is believed; zero: none has
}

// word is how policies see it.
func (k knowledge) word() string {
	switch {
	case !k.looked:
		return "unchecked"
	case k.unknown:
		return "unknown"
	case !k.grace.IsZero():
		return "stale"
	}
	return "good"
}

// verdict is what one source says of one certificate.
type verdict struct {
	state state
	until time.Time // for how long it is so
	grace time.Time // set if it is so only because a list is believed past its end
	why   string    // if it is unknown, or later is
}

type state int

const (
	noSource state = iota // nothing says anything of such certificates
	unknown               // what would, does not now
	good
	revoked
)

// standing finds out whether a chain is revoked anywhere below its anchor. A list is
// looked at first, for it costs nothing; then the responder has its say, for it knows
// more. One that says revoked is believed against all others.
func (v *verifier) standing(ctx context.Context, chain []*x509.Certificate, now time.Time) (knowledge, error) {
	var k knowledge
	if v.config.Revocation.Mode == off {
		return k, nil
	}
	k.looked = true
	lists := v.known()
	depth := len(chain) - 1
	if v.config.Revocation.Scope == leafAlone {
		depth = min(depth, 1)
	}
	for i := range depth {
		cert, issuer := chain[i], chain[i+1]
		whose := "it"
		if i > 0 {
			whose = "an authority in its chain"
		}
		said := lists.ask(cert, issuer, now, v.grace)
		if said.state != revoked && v.responder != nil {
			said = better(said, v.responder.ask(ctx, cert, issuer, now))
		}
		switch {
		case said.state == revoked:
			return k, refuse("%s was revoked", whose)
		case said.state == good:
			k.hold(said)
		case v.config.Revocation.Mode == soft:
			k.unknown = true
		case said.state == noSource:
			return k, refuse("nothing says whether %s was revoked: there is no list of its issuer, and no responder", whose)
		default:
			return k, fault.Unavailable.New("client certificate: whether %s was revoked cannot be found out: %s", whose, said.why)
		}
	}
	return k, nil
}

// known are all lists that there are now.
func (v *verifier) known() lists {
	if v.files == nil {
		return v.lists
	}
	return v.files.lists()
}

// hold takes in that a certificate is good for a while.
func (k *knowledge) hold(v verdict) {
	if k.until.IsZero() || v.until.Before(k.until) {
		k.until = v.until
	}
	if !v.grace.IsZero() && (k.grace.IsZero() || v.grace.Before(k.grace)) {
		k.grace = v.grace
	}
}

// better is what is believed of what a list and the responder say.
func better(list, responder verdict) verdict {
	switch {
	case responder.state == revoked, responder.state == good:
		return responder
	case list.state == good, responder.state == noSource:
		return list
	case list.state == unknown && responder.state == unknown:
		responder.why = list.why + "; " + responder.why
	}
	return responder
}
