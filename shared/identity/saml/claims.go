package saml

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// maxAge bounds how long after it was made an assertion may be shown, whatever the
// provider allows.
const maxAge = time.Hour

// check returns nil if an assertion, and what is around it, is meant for us, now,
// and for what was asked.
func (v *Verifier) check(around envelope, a *assertion, m *Metadata, expect identity.Expect, now time.Time) error {
	switch {
	case a.issuer != m.EntityID || around.issuer != "" && around.issuer != m.EntityID:
		return errors.New("the response is of another issuer than this provider")
	case around.destination != v.acs:
		return errors.New("the response is for another destination than this gateway's")
	case a.recipient != v.acs:
		return errors.New("the assertion is for another recipient than this gateway")
	case len(a.audiences) == 0:
		return errors.New("the assertion does not say whom it is for")
	}
	for _, group := range a.audiences {
		if !slices.Contains(group, v.entityID) {
			return errors.New("the assertion is for another audience than this gateway")
		}
	}
	if err := v.checkRequest(around, a, expect); err != nil {
		return err
	}
	return v.checkTimes(around, a, now)
}

// checkRequest compares what a response answers with what was asked. One that
// answers a request is never taken for one that came by itself.
func (v *Verifier) checkRequest(around envelope, a *assertion, expect identity.Expect) error {
	switch {
	case around.inResponseTo != a.inResponseTo:
		return errors.New("the response answers another request than its assertion")
	case len(expect.InResponseTo) == 0 && a.inResponseTo != "":
		return errors.New("the response answers a request that was not made here, or no longer counts")
	case len(expect.InResponseTo) == 0 && !v.config.Unsolicited:
		return errors.New("the response answers no request, and this provider may not send such")
	case len(expect.InResponseTo) > 0 && (a.inResponseTo == "" || !slices.Contains(expect.InResponseTo, a.inResponseTo)):
		return errors.New("the response answers another request than the one that was made")
	}
	return nil
}

func (v *Verifier) checkTimes(around envelope, a *assertion, now time.Time) error {
	early, late := now.Add(v.skew), now.Add(-v.skew)
	switch {
	case around.issued.After(early) || a.issued.After(early) || a.notBefore.After(early) || a.authenticated.After(early):
		return errors.New("the assertion is not yet valid: one of the clocks may be wrong")
	case !late.Before(a.notOnOrAfter) || !late.Before(a.confirmed) || late.After(a.issued.Add(maxAge)) || late.After(around.issued.Add(maxAge)):
		return errors.New("the assertion has expired")
	case !a.sessionEnd.IsZero() && !late.Before(a.sessionEnd):
		return errors.New("the session that the assertion is of has ended")
	}
	return nil
}

// claims puts a checked assertion into the one shape.
func (v *Verifier) claims(a *assertion, now time.Time) (identity.Claims, error) {
	out := identity.Claims{
		Provider: v.provider, Kind: identity.SAML, Issuer: a.issuer, Subject: a.nameID,
		Attributes: map[string]any{}, ACR: a.context, AMR: methods(a.context),
		AuthenticatedAt: a.authenticated, ExpiresAt: a.sessionEnd, Session: a.session, ID: a.id, Once: true,
	}
	used := map[string]bool{}
	take := func(names []string) []string {
		var values []string
		for _, name := range names {
			used[name] = true
			values = append(values, a.attributes[name]...)
		}
		return tidy(values)
	}
	mapped := v.config.Attributes
	out.Groups, out.Roles = take(mapped.Groups), take(mapped.Roles)
	if mapped.Methods != "" {
		out.AMR = tidy(append(out.AMR, take([]string{mapped.Methods})...))
	}
	switch {
	case mapped.Subject != "":
		values := take([]string{mapped.Subject})
		if len(values) != 1 || !isName(values[0]) {
			return identity.Claims{}, errors.New("the assertion does not name its subject by exactly one value of the attribute that this provider's configuration says")
		}
		out.Subject = values[0]
		out.Attributes["name_id"] = a.nameID
	case a.transient:
		return identity.Claims{}, errors.New("the assertion names its subject by a transient NameID, which is another one at every sign-in")
	}
	for name := range used {
		if a.complex[name] {
			return identity.Claims{}, errors.New("the assertion holds a mapped attribute with a value that is not text")
		}
	}
	for name, values := range a.attributes {
		if !used[name] && !a.complex[name] {
			out.Attributes[name] = list(tidy(values))
		}
	}
	// Not from the sign-in, which may be long ago where sessions are: a provider vouches
	// anew with every assertion. When the session is over the assertion is not accepted
	// any more either, so its ID can be forgotten then.
	if end := a.issued.Add(v.session); out.ExpiresAt.IsZero() || end.Before(out.ExpiresAt) {
		out.ExpiresAt = end
	}
	if !now.Before(out.ExpiresAt) {
		return identity.Claims{}, errors.New("the session that the assertion is of has ended")
	}
	text, err := json.Marshal([]any{out.Attributes, out.Groups, out.Roles})
	if err != nil || len(text) > identity.MaxAttributesBytes {
		// What is left out could be what a rule denies by.
		return identity.Claims{}, fmt.Errorf("the assertion holds attributes of more than %d bytes", identity.MaxAttributesBytes)
	}
	return out, nil
}

// tidy sorts values and leaves out repeats and empty ones.
func tidy(values []string) []string {
	values = slices.DeleteFunc(slices.Clone(values), func(s string) bool { return s == "" })
	slices.Sort(values)
	return slices.Compact(values)
}

// list makes a JSON value of values: always a list, so that a rule holds for one
// value as for two.
func list(values []string) []any {
	out := make([]any, 0, len(values))
	for _, v := range values {
		out = append(out, v)
	}
	return out
}

// methods says in the words of RFC 8176 what a class of authentication means. One
// that is not here means nothing by itself; the class is in ACR.
func methods(class string) []string {
	return slices.Clone(classes[class])
}

var classes = map[string][]string{
	classPrefix + "Password":                    {"pwd"},
	classPrefix + "PasswordProtectedTransport":  {"pwd"},
	classPrefix + "TimeSyncToken":               {"otp"},
	classPrefix + "MobileTwoFactorUnregistered": {"mfa"},
	classPrefix + "MobileTwoFactorContract":     {"mfa"},
	classPrefix + "Smartcard":                   {"sc"},
	classPrefix + "SmartcardPKI":                {"hwk", "sc", "x509"},
	classPrefix + "SoftwarePKI":                 {"swk", "x509"},
	classPrefix + "TLSClient":                   {"x509"},
	classPrefix + "X509":                        {"x509"},
}

const classPrefix = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
