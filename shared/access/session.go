package access

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/cookie"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Session is a login, as the browser of who logged in carries it.
type Session struct {
	ID       string
	Subject  string
	Label    string // their name, to show
	Provider string // the provider's own session; empty if it does not say
	Gateway  bool
	Orgs     map[tenant.OrgID]web.Role
	Begun    time.Time
	Seen     time.Time // exact to renewEvery
	Rules    string    // Mapping.Digest of those by which it was made
}

// renewEvery is how exact a session knows when it was last used: a new cookie for
// each request would cost more than the requests.
const renewEvery = time.Minute

// clockSkew is how far the clocks of two replicas may be apart.
const clockSkew = 5 * time.Second

// Ends are the names under which a session may have been ended. The first two are its
// own; a subject has others, so an end of all counts for those that were begun by then.
type Ends struct {
	Session, Provider, Subject []byte
	Begun                      time.Time
}

// endings is the part of the store that tells which sessions have been ended.
type endings interface {
	LoginEnded(ctx context.Context, e Ends) (bool, error)
}

// Sessions are the logins of a gateway. Every process that has the key knows them.
type Sessions struct {
	Key     cookie.Key
	Idle    time.Duration // without a request for so long, it ends
	Whole   time.Duration // and so long after the login in any case
	Origin  string        // scheme, host and port at which browsers find the gateway
	Issuer  string
	Rules   string
	Endings endings
	Now     func() time.Time
}

// box is what carries a session.
var box = cookie.Cookie{Name: "peat-session"}

// csrfHeader carries the proof that a request was made by a page of our own: others
// can have a browser send the cookie, and cannot read what goes here.
const csrfHeader = "X-CSRF-Token"

// ErrTooMany says that somebody's organizations do not fit into a session.
var ErrTooMany = fault.Forbidden.New("this person belongs to more organizations than a login can carry; use a bearer token")

// errEnded is all that is said of a session that is none.
var errEnded = fault.Unauthenticated.New("the session has ended, or was never there; log in again")

// New returns the session of somebody who logged in now. It is another one with each
// login, so that nobody can have set it before.
func (s *Sessions) New(p Principal, id, provider string) Session {
	now := s.Now().UTC().Truncate(time.Second)
	return Session{ID: id, Subject: p.Person.Subject, Label: p.Person.Label, Provider: provider, Gateway: p.Gateway, Orgs: p.Orgs, Begun: now, Seen: now, Rules: s.Rules}
}

// Give hands a session to the browser.
func (s *Sessions) Give(w http.ResponseWriter, r *http.Request, session Session) error {
	text, err := session.encode()
	if err != nil {
		return err
	}
	err = box.Set(w, r, s.Key, text, s.until(session).Sub(s.Now()))
	if errors.Is(err, cookie.ErrLong) {
		return ErrTooMany
	}
	return err
}

// Fits tells whether a session can be handed to a browser: ErrTooMany if not.
func (s *Sessions) Fits(session Session) error {
	text, err := session.encode()
	if err == nil && len(text) > cookie.MaxValue {
		return ErrTooMany
	}
	return err
}

// Take has the browser forget its session.
func (s *Sessions) Take(w http.ResponseWriter, r *http.Request) { box.Clear(w, r) }

// until is when a session ends if nothing more comes.
func (s *Sessions) until(session Session) time.Time {
	idle, whole := session.Seen.Add(s.Idle), s.Until(session)
	if idle.Before(whole) {
		return idle
	}
	return whole
}

// Until is when a session ends whatever comes.
func (s *Sessions) Until(session Session) time.Time { return session.Begun.Add(s.Whole) }

// open reads the session of a request, if it is one of ours and its time is not up.
// Whether it was ended is not asked.
func (s *Sessions) open(r *http.Request) (Session, error) {
	text, err := box.Value(r, s.Key)
	if err != nil {
		return Session{}, errEnded
	}
	session, err := decodeSession(text)
	now := s.Now()
	if err != nil || session.Rules != s.Rules || !now.Before(s.until(session)) || session.Begun.After(now.Add(clockSkew)) {
		return Session{}, errEnded
	}
	return session, nil
}

// Check returns the session that a request is made in: fault.Unauthenticated if there
// is none. It does not tell whether a page of ours made the request.
func (s *Sessions) Check(r *http.Request) (Session, error) {
	session, err := s.open(r)
	if err != nil {
		return Session{}, err
	}
	ended, err := s.Endings.LoginEnded(r.Context(), s.Ends(session))
	if err != nil {
		return Session{}, fault.Unavailable.Wrap(err, "sessions cannot be checked now")
	}
	if ended {
		return Session{}, errEnded
	}
	return session, nil
}

// Ends are the names under which a session can be ended.
func (s *Sessions) Ends(session Session) Ends {
	e := Ends{Session: EndName("session", session.ID), Subject: s.SubjectEnd(session.Subject), Begun: session.Begun.Add(-clockSkew)}
	e.Provider = e.Session
	if session.Provider != "" {
		e.Provider = s.ProviderEnd(session.Provider)
	}
	return e
}

// SubjectEnd is the name under which all sessions of somebody are ended.
func (s *Sessions) SubjectEnd(subject string) []byte { return EndName("subject", s.Issuer, subject) }

// ProviderEnd is the name under which the sessions are ended that came of one at the
// provider.
func (s *Sessions) ProviderEnd(id string) []byte { return EndName("provider", s.Issuer, id) }

// EndName is a name that tells nothing of what it is of.
func EndName(parts ...string) []byte {
	text, _ := json.Marshal(parts) // texts only
	sum := sha256.Sum256(text)
	return sum[:]
}

// CSRF is what pages of ours must send with what changes something.
func (s *Sessions) CSRF(session Session) string { return s.Key.Code("csrf", session.ID) }

// Guard refuses what somebody else's page had the browser send. What only looks needs
// no more than the browser's own rules: the answer is not shown to other pages.
func (s *Sessions) Guard(r *http.Request, session Session) error {
	if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method) {
		return nil
	}
	if origins := r.Header.Values("Origin"); len(origins) > 1 || len(origins) == 1 && origins[0] != s.Origin {
		return errForged
	}
	if sites := r.Header.Values("Sec-Fetch-Site"); len(sites) > 1 || len(sites) == 1 && sites[0] != "same-origin" {
		return errForged
	}
	if sent := r.Header.Values(csrfHeader); len(sent) != 1 || !s.Key.IsCode("csrf", session.ID, sent[0]) {
		return errForged
	}
	return nil
}

var errForged = fault.Forbidden.New("a request in a session that changes something must come from this gateway's own pages, with the header %s", csrfHeader)

// Keep answers by next, and gives sessions that are in use their new cookies. Those
// who log in or out see to their own.
func (s *Sessions) Keep(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if box.Sent(r) && (!strings.HasPrefix(r.URL.Path, "/auth/") || r.URL.Path == "/auth/session") {
			now := s.Now().UTC().Truncate(time.Second)
			// One that was ended stays so: that goes by its id.
			if session, err := s.open(r); err == nil && now.Sub(session.Seen) >= renewEvery {
				session.Seen = now
				_ = s.Give(w, r, session) // it fitted before
			}
		}
		next.ServeHTTP(w, r)
	})
}

// principal is the caller in a session.
func (s Session) principal() Principal {
	return Principal{Name: PersonName(s.Subject), Gateway: s.Gateway, Orgs: s.Orgs, Person: &Person{Subject: s.Subject, Label: s.Label}}
}

// sessionWire is short: a browser sends it with every request.
type sessionWire struct {
	ID       string   `json:"i"`
	Subject  string   `json:"s"`
	Label    string   `json:"n,omitempty"`
	Provider string   `json:"p,omitempty"`
	Gateway  bool     `json:"g,omitempty"`
	Admin    []string `json:"a,omitempty"`
	Viewer   []string `json:"v,omitempty"`
	Begun    int64    `json:"b"`
	Seen     int64    `json:"t"`
	Rules    string   `json:"r"`
}

func (s Session) encode() ([]byte, error) {
	w := sessionWire{ID: s.ID, Subject: s.Subject, Label: s.Label, Provider: s.Provider, Gateway: s.Gateway, Begun: s.Begun.Unix(), Seen: s.Seen.Unix(), Rules: s.Rules}
	for org, role := range s.Orgs {
		if role == web.OrgAdmin {
			w.Admin = append(w.Admin, string(org))
		} else {
			w.Viewer = append(w.Viewer, string(org))
		}
	}
	slices.Sort(w.Admin)
	slices.Sort(w.Viewer)
	return json.Marshal(w)
}

func decodeSession(text []byte) (Session, error) {
	var w sessionWire
	if err := json.Unmarshal(text, &w); err != nil || w.ID == "" || w.Subject == "" {
		return Session{}, errEnded
	}
	s := Session{ID: w.ID, Subject: w.Subject, Label: w.Label, Provider: w.Provider, Gateway: w.Gateway, Begun: time.Unix(w.Begun, 0).UTC(), Seen: time.Unix(w.Seen, 0).UTC(), Rules: w.Rules,
		Orgs: map[tenant.OrgID]web.Role{}}
	for role, orgs := range map[web.Role][]string{web.OrgAdmin: w.Admin, web.Viewer: w.Viewer} {
		for _, name := range orgs {
			org, err := tenant.ParseOrgID(name)
			if err != nil || s.Orgs[org] != "" {
				return Session{}, errEnded
			}
			s.Orgs[org] = role
		}
	}
	return s, nil
}
