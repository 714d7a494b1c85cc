package tokenclaims

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// refuse is why a token is not accepted.
func refuse(format string, args ...any) error {
	return fault.Unauthenticated.New("the token is not accepted: "+format, args...)
}

// Case is what a token is judged on besides the rules.
type Case struct {
	Issuer    string        // whom it must name as its issuer; empty: nobody
	Audiences []string      // one of them must be the token's; none: any may
	Nonce     string        // if not empty, the token answers a login with this nonce
	NoExpiry  time.Duration // how long a token without an end is good; zero: it is not
}

// Judge returns what the claims say if they are to be accepted.
func (r *Rules) Judge(s Set, c Case, now time.Time) (identity.Claims, error) {
	for name := range s {
		// Readers of JSON that do not look at case would take it for the other.
		if lower := strings.ToLower(name); lower != name && spoken[lower] {
			return identity.Claims{}, refuse("its claim %s can be taken for %s", identity.Shown(name), lower)
		}
	}
	var out identity.Claims
	var err error
	if out.Issuer, err = s.text("iss"); err != nil {
		return identity.Claims{}, err
	}
	switch {
	case c.Issuer != "" && out.Issuer == "":
		return identity.Claims{}, refuse("it names no issuer")
	case c.Issuer != "" && out.Issuer != c.Issuer:
		return identity.Claims{}, refuse("it is from another issuer, %s", identity.Shown(out.Issuer))
	}
	for _, judge := range []func(Set, Case, time.Time, *identity.Claims) error{r.purpose, r.audience, r.times, r.who, r.memberships, r.rest} {
		if err := judge(s, c, now, &out); err != nil {
			return identity.Claims{}, err
		}
	}
	return out, nil
}

// purpose refuses tokens that are made for something else than to be shown here.
func (r *Rules) purpose(s Set, c Case, _ time.Time, _ *identity.Claims) error {
	if _, ok := s["events"]; ok {
		return refuse("it tells of an event, such as a log-out, and of nobody's identity")
	}
	if _, ok := s["cnf"]; ok {
		return refuse("it is bound to a key (cnf), and no proof of that key comes with it")
	}
	nonce, err := s.text("nonce")
	if err != nil {
		return err
	}
	if c.Nonce != "" && nonce != c.Nonce {
		return refuse("it answers another login: its nonce is not the one that was sent")
	}
	return nil
}

// audience checks whom the token is for, and to whom it was given.
func (r *Rules) audience(s Set, c Case, _ time.Time, _ *identity.Claims) error {
	audiences, err := s.texts("aud")
	if err != nil {
		return err
	}
	if len(c.Audiences) > 0 && !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(c.Audiences, a) }) {
		return refuse("it is for another audience, %s", identity.Shown(strings.Join(audiences, " ")))
	}
	azp, err := s.text("azp")
	if err != nil {
		return err
	}
	// A login is ours alone (OpenID Connect Core, 3.1.3.7).
	if c.Nonce != "" && len(r.Parties) == 0 && azp != "" && !slices.Contains(c.Audiences, azp) {
		return refuse("it was given to another party, %s", identity.Shown(azp))
	}
	if len(r.Parties) == 0 {
		return nil
	}
	for _, name := range []string{"client_id", "cid", "appid"} { // of RFC 9068, of Okta and of Entra ID
		if azp != "" {
			break
		}
		if azp, err = s.text(name); err != nil {
			return err
		}
	}
	if !slices.Contains(r.Parties, azp) {
		return refuse("it was given to another party, %s", identity.Shown(azp))
	}
	return nil
}

func (r *Rules) times(s Set, c Case, now time.Time, out *identity.Claims) error {
	var exp, nbf, iat time.Time
	for name, to := range map[string]*time.Time{"exp": &exp, "nbf": &nbf, "iat": &iat, "auth_time": &out.AuthenticatedAt} {
		var err error
		if *to, err = s.time(name); err != nil {
			return err
		}
	}
	late := now.Add(r.skew)
	switch {
	case exp.IsZero() && c.NoExpiry == 0:
		return refuse("it does not say when it ends")
	case !exp.IsZero() && !now.Before(exp.Add(r.skew)):
		return refuse("it expired at %s", exp.Format(time.RFC3339))
	case nbf.After(late):
		return refuse("it is not valid before %s", nbf.Format(time.RFC3339))
	case iat.After(late):
		return refuse("it was issued in the future, at %s: one of the clocks is wrong", iat.Format(time.RFC3339))
	case r.age > 0 && iat.IsZero():
		return refuse("it does not say when it was issued")
	case r.age > 0 && now.Sub(iat) > r.age+r.skew:
		return refuse("it is too old: it was issued at %s", iat.Format(time.RFC3339))
	}
	out.ExpiresAt = exp.Add(r.skew)
	if exp.IsZero() {
		out.ExpiresAt = now.Add(c.NoExpiry)
	}
	if began := iat; r.session > 0 {
		if began.IsZero() || began.After(now) {
			began = now
		}
		if end := began.Add(r.session); end.After(out.ExpiresAt) {
			out.ExpiresAt = end
		}
	}
	out.ExpiresAt = out.ExpiresAt.UTC()
	return nil
}

// maxSubject and maxID are longer than what providers give out.
const (
	maxSubject = 512
	maxID      = 512
)

func (r *Rules) who(s Set, _ Case, _ time.Time, out *identity.Claims) error {
	if json.Unmarshal(r.subject.in(s), &out.Subject) != nil || out.Subject == "" || len(out.Subject) > maxSubject || strings.ContainsFunc(out.Subject, isControl) {
		return refuse("it names no subject that can be used")
	}
	var err error
	for name, to := range map[string]*string{"acr": &out.ACR, "sid": &out.Session, "jti": &out.ID} {
		if *to, err = s.text(name); err != nil {
			return err
		}
		if len(*to) > maxID {
			return refuse("its claim %s is longer than %d bytes", name, maxID)
		}
	}
	if out.AMR, err = s.texts("amr"); err != nil {
		return err
	}
	out.AMR = sorted(out.AMR)
	if out.Once = r.SingleUse; out.Once && out.ID == "" {
		return refuse("it may be used once only, and has no id (jti) by which to see that")
	}
	return nil
}

func (r *Rules) memberships(s Set, _ Case, _ time.Time, out *identity.Claims) error {
	for _, to := range []struct {
		path path
		list *[]string
	}{{r.groups, &out.Groups}, {r.roles, &out.Roles}} {
		// Where there are too many, some providers name another place to look. That the
		// list is missing must not pass for membership of nothing: rules may deny by it.
		var elsewhere map[string]json.RawMessage
		if raw, ok := s["_claim_names"]; ok && json.Unmarshal(raw, &elsewhere) == nil {
			if _, ok := elsewhere[to.path.top(s)]; ok {
				return refuse("it has too many of %s to hold them; have the provider send fewer", to.path.top(s))
			}
		}
		raw := to.path.in(s)
		if raw == nil {
			continue
		}
		list, ok := texts(raw)
		if !ok {
			return refuse("its claim %s is neither a text nor a list of texts", to.path.top(s))
		}
		*to.list = sorted(list)
	}
	return nil
}

// spoken are claims that are told elsewhere, or on which nothing may depend.
var spoken = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true, "nonce": true, "sid": true, "acr": true, "amr": true,
	"auth_time": true, "at_hash": true, "c_hash": true, "s_hash": true, "rt_hash": true, "active": true, "_claim_names": true, "_claim_sources": true,
}

// rest is every other claim, or those that the mapping names.
func (r *Rules) rest(s Set, _ Case, _ time.Time, out *identity.Claims) error {
	size := 2
	keep := func(name string, raw json.RawMessage) error {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return refuse("its claims cannot be read")
		}
		if size += len(name) + len(raw) + 6; size > identity.MaxAttributesBytes {
			return refuse("its claims are longer than %d bytes", identity.MaxAttributesBytes)
		}
		if out.Attributes == nil {
			out.Attributes = map[string]any{}
		}
		out.Attributes[name] = v
		return nil
	}
	if r.attributes != nil {
		for name, p := range r.attributes {
			if raw := p.in(s); raw != nil {
				if err := keep(name, raw); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for name, raw := range s {
		if spoken[name] || name == r.groups.text || name == r.roles.text {
			continue
		}
		if err := keep(name, raw); err != nil {
			return err
		}
	}
	return nil
}

// text is a claim that is one text; empty if there is none.
func (s Set) text(name string) (out string, err error) {
	raw, ok := s[name]
	if ok && string(raw) != "null" && json.Unmarshal(raw, &out) != nil {
		return "", refuse("its claim %s is not a text", name)
	}
	return out, nil
}

// texts is a claim that is one text or a list of them.
func (s Set) texts(name string) ([]string, error) {
	raw, ok := s[name]
	if !ok {
		return nil, nil
	}
	list, ok := texts(raw)
	if !ok {
		return nil, refuse("its claim %s is neither a text nor a list of texts", name)
	}
	return list, nil
}

func texts(raw json.RawMessage) ([]string, bool) {
	var one string
	if string(raw) != "null" && json.Unmarshal(raw, &one) == nil {
		return []string{one}, true
	}
	var list []*string
	if json.Unmarshal(raw, &list) != nil || slices.Contains(list, nil) {
		return nil, false
	}
	var out []string
	for _, p := range list {
		out = append(out, *p)
	}
	return out, true
}

// latest is a second that a time can be without any reader of it being surprised: the
// end of the year 9999.
const latest = 253402300799

// time is a claim that is a time; the zero time if there is none.
func (s Set) time(name string) (time.Time, error) {
	raw, ok := s[name]
	if !ok || string(raw) == "null" {
		return time.Time{}, nil
	}
	var seconds float64
	if json.Unmarshal(raw, &seconds) != nil || seconds < 0 || seconds > latest {
		return time.Time{}, refuse("its claim %s is not a time", name)
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e6)*1e3).UTC(), nil
}

func sorted(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
