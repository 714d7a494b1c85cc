package federation

import (
	"cmp"
	"errors"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// getSession says who is logged in, and what their pages must send with what they change.
func (f *Function) getSession(w http.ResponseWriter, r *http.Request) error {
	if f.Logins == nil {
		return errNoLogins
	}
	session, err := f.Logins.Sessions.Check(r)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, f.wireSession(session))
}

// logout ends the caller's session here, and says where to go to end it at the
// identity provider.
func (f *Function) logout(w http.ResponseWriter, r *http.Request) error {
	if f.Logins == nil {
		return errNoLogins
	}
	sessions := f.Logins.Sessions
	session, err := sessions.Check(r)
	switch {
	case err == nil:
		if err := sessions.Guard(r, session); err != nil {
			return err
		}
		if err := f.end(r, session); err != nil {
			return err
		}
	case !errors.Is(err, fault.Unauthenticated):
		return err
	}
	to := f.Logins.Login.Address("/")
	if err == nil {
		hint, _ := hintBox.Value(r, sessions.Key) // without it the identity provider asks
		at, err := f.Logins.Login.EndSession(r.Context(), env.NewSecret(string(hint)))
		if err != nil {
			f.Log.WarnContext(r.Context(), "logged out here and not at the identity provider", "err", err, "request_id", web.RequestID(r.Context()))
		} else if at != "" {
			to = at
		}
	}
	sessions.Take(w, r)
	hintBox.Clear(w, r)
	return web.WriteJSON(w, http.StatusOK, logoutWire{Location: to})
}

// end ends a session in every process.
func (f *Function) end(r *http.Request, session access.Session) error {
	sessions, now := f.Logins.Sessions, store.Precise(f.Now())
	return f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := tx.EndLogin(r.Context(), sessions.Ends(session).Session, now, sessions.Until(session)); err != nil {
			return err
		}
		entry := f.act(r, "", "session.end", session.Subject, nil)
		entry.Actor = access.PersonName(session.Subject)
		return tx.AppendAudit(r.Context(), entry)
	})
}

// hearLogout takes a logout token: the identity provider says, with nobody's browser
// between, that somebody has logged out there.
func (f *Function) hearLogout(w http.ResponseWriter, r *http.Request) error {
	if f.Logins == nil {
		return errNoLogins
	}
	token, err := readLogoutToken(r)
	if err != nil {
		return err
	}
	n, err := f.Logins.Login.Notice(r.Context(), token)
	if err != nil {
		return f.refused(r, "anonymous", err)
	}
	sessions, now := f.Logins.Sessions, store.Precise(f.Now())
	name := sessions.SubjectEnd(n.Subject)
	if n.Session != "" {
		name = sessions.ProviderEnd(n.Session)
	}
	err = f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := tx.UseLoginOnce(r.Context(), access.EndName("notice", sessions.Issuer, n.ID), now, n.Until); err != nil {
			return err
		}
		if err := tx.EndLogin(r.Context(), name, now, now.Add(sessions.Whole+time.Minute)); err != nil {
			return err
		}
		entry := f.act(r, "", "session.end", cmp.Or(n.Subject, "a session"), map[string]any{"all": n.Session == ""})
		entry.Actor = "identity-provider"
		return tx.AppendAudit(r.Context(), entry)
	})
	if errors.Is(err, fault.Conflict) {
		return f.refused(r, "anonymous", fault.Malformed.Wrap(errors.New("the logout token came before"), "the logout token is not accepted"))
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// readLogoutToken reads the form in which a logout token comes.
func readLogoutToken(r *http.Request) (string, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return "", fault.UnsupportedMedia.New("the content type must be application/x-www-form-urlencoded")
	}
	r.Body = http.MaxBytesReader(nil, r.Body, 2*identity.MaxTokenBytes)
	err := r.ParseForm()
	if long, is := errors.AsType[*http.MaxBytesError](err); is {
		return "", fault.TooLarge.New("the body is longer than %d bytes", long.Limit)
	}
	tokens := r.PostForm["logout_token"]
	if err != nil || len(tokens) != 1 || tokens[0] == "" || len(tokens[0]) > identity.MaxTokenBytes {
		return "", fault.Malformed.New("the body must hold one logout_token")
	}
	return tokens[0], nil
}

// sessionWire is who is logged in.
type sessionWire struct {
	Subject       string           `json:"subject"`
	Name          string           `json:"name"`
	GatewayAdmin  bool             `json:"gateway_admin"`
	Organizations []membershipWire `json:"organizations"`
	CSRFToken     string           `json:"csrf_token"`
	BegunAt       time.Time        `json:"begun_at"`
	ExpiresAt     time.Time        `json:"expires_at"`
	IdleSeconds   int              `json:"idle_seconds"`
}

type membershipWire struct {
	Org  tenant.OrgID `json:"org_id"`
	Role web.Role     `json:"role"`
}

type logoutWire struct {
	Location string `json:"location"`
}

func (f *Function) wireSession(s access.Session) sessionWire {
	sessions := f.Logins.Sessions
	out := sessionWire{
		Subject: s.Subject, Name: s.Label, GatewayAdmin: s.Gateway, Organizations: []membershipWire{}, CSRFToken: sessions.CSRF(s),
		BegunAt: s.Begun, ExpiresAt: sessions.Until(s), IdleSeconds: int(sessions.Idle.Seconds()),
	}
	for org, role := range s.Orgs {
		out.Organizations = append(out.Organizations, membershipWire{org, role})
	}
	slices.SortFunc(out.Organizations, func(a, b membershipWire) int {
		if a.Org < b.Org {
			return -1
		}
		return 1
	})
	return out
}
