package federation

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/oauth"
	"github.com/defenseunicorns/peat-gateway/shared/login"
	"github.com/defenseunicorns/peat-gateway/shared/platform/cookie"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// Logins is what logging people in needs.
type Logins struct {
	Login    *login.Login
	Mapping  access.Mapping
	Sessions *access.Sessions
}

// flowBox carries a login that was begun; hintBox the token of one that was finished,
// to where it is logged out.
var (
	flowBox = cookie.Cookie{Name: "peat-login"}
	hintBox = cookie.Cookie{Name: "peat-hint", Path: "/auth/logout"}
)

// Logging in of a process, per minute. Each finished login asks the identity provider
// something, and whoever likes can bring back a code that is none.
const (
	exchangesPerMinute = 120
	refusalsPerMinute  = 20 // that are recorded
)

func (f *Function) loginRoutes() []web.Route {
	return []web.Route{
		{Pattern: "GET /auth/login", Need: web.Anyone, Handle: f.beginLogin},
		{Pattern: "GET " + login.CallbackPath, Need: web.Anyone, Handle: f.finishLogin},
		{Pattern: "GET /auth/session", Need: web.Anyone, Handle: f.getSession},
		{Pattern: "POST /auth/logout", Need: web.Anyone, Handle: f.logout},
		{Pattern: "POST /auth/backchannel-logout", Need: web.Anyone, Handle: f.hearLogout},
	}
}

var errNoLogins = fault.NotFound.New("logging in is not set up here")

// beginLogin sends a browser to the identity provider.
func (f *Function) beginLogin(w http.ResponseWriter, r *http.Request) error {
	if f.Logins == nil {
		return errNoLogins
	}
	places := r.URL.Query()["return"]
	if len(places) > 1 {
		return fault.Malformed.New("return must be given once")
	}
	place, err := login.ParsePlace(append(places, "")[0])
	if err != nil {
		return err
	}
	flow, to, err := f.Logins.Login.Begin(r.Context(), place)
	if err != nil {
		return err
	}
	if err := flowBox.Set(w, r, f.Logins.Sessions.Key, flow.Encode(), login.FlowLife); err != nil {
		return err
	}
	return redirect(w, to)
}

func redirect(w http.ResponseWriter, to string) error {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// finishLogin takes what a browser brings back from the identity provider and begins a
// session, one that was never there before.
func (f *Function) finishLogin(w http.ResponseWriter, r *http.Request) error {
	if f.Logins == nil {
		return errNoLogins
	}
	flow, claims, token, err := f.answered(w, r)
	if err != nil {
		return f.refused(r, "anonymous", err)
	}
	who, err := f.Logins.Mapping.Principal(claims)
	if err != nil {
		return f.refused(r, "anonymous", err)
	}
	sessions := f.Logins.Sessions
	session := sessions.New(who, oauth.Chance(), claims.Session)
	if err := sessions.Fits(session); err != nil {
		return f.refused(r, who.Name, err)
	}
	if err := f.begin(r, flow, who, session); err != nil {
		return f.refused(r, who.Name, err)
	}
	if err := sessions.Give(w, r, session); err != nil {
		return err
	}
	// Without it the identity provider asks whether to log out; that is no reason not to log in.
	_ = hintBox.Set(w, r, sessions.Key, []byte(token.Reveal()), sessions.Whole)
	return redirect(w, f.Logins.Login.Address(flow.Place))
}

// answered is the login that the browser was sent away with, and what it brings back.
func (f *Function) answered(w http.ResponseWriter, r *http.Request) (login.Flow, identity.Claims, env.Secret, error) {
	none := func(err error) (login.Flow, identity.Claims, env.Secret, error) {
		return login.Flow{}, identity.Claims{}, env.Secret{}, err
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return none(fault.Malformed.New("the query cannot be read"))
	}
	text, err := flowBox.Value(r, f.Logins.Sessions.Key)
	var flow login.Flow
	if err == nil {
		flow, err = login.DecodeFlow(text)
	}
	if err != nil {
		return none(fault.Unauthenticated.Wrap(err, "this login was not begun in this browser, or too long ago; begin again"))
	}
	if err := f.Logins.Login.Answers(flow, q); err != nil {
		return none(err) // the flow stays: it may be answered yet
	}
	flowBox.Clear(w, r)
	if ok, _ := f.exchanges.take(f.Now(), exchangesPerMinute); !ok {
		return none(fault.RetryIn(fault.Exhausted.New("too many are logging in at once"), time.Minute))
	}
	claims, token, err := f.Logins.Login.Finish(r.Context(), flow, q)
	return flow, claims, token, err
}

// begin writes down that somebody has logged in. A flow begins one session, and a
// browser has one: that before ends.
func (f *Function) begin(r *http.Request, flow login.Flow, who access.Principal, session access.Session) error {
	sessions, now := f.Logins.Sessions, store.Precise(f.Now())
	before, err := sessions.Check(r)
	if err != nil && !errors.Is(err, fault.Unauthenticated) {
		return err
	}
	detail := map[string]any{"name": who.Person.Label, "gateway_admin": who.Gateway, "organizations": who.Orgs}
	err = f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := tx.UseLoginOnce(r.Context(), access.EndName("flow", flow.State), now, flow.Until); err != nil {
			return err
		}
		if before.ID != "" {
			if err := tx.EndLogin(r.Context(), sessions.Ends(before).Session, now, sessions.Until(before)); err != nil {
				return err
			}
		}
		entry := f.act(r, "", "session.begin", who.Person.Subject, detail)
		entry.Actor = who.Name
		return tx.AppendAudit(r.Context(), entry)
	})
	if errors.Is(err, fault.Conflict) {
		return fault.Unauthenticated.Wrap(errors.New("the answer came before"), "the identity provider's answer is not accepted; begin again")
	}
	return err
}

// refused writes down that a login, or word of a log-out, was refused, and returns why.
// Whoever likes can be refused, so only some of it is written.
func (f *Function) refused(r *http.Request, actor string, why error) error {
	if errors.Is(why, fault.Unavailable) || errors.Is(why, fault.Exhausted) || fault.Of(why) == nil {
		return why
	}
	record, missing := f.refusals.take(f.Now(), refusalsPerMinute)
	if !record {
		return why
	}
	reason := fault.Of(why)
	detail := map[string]any{"reason": reason.Message}
	if reason.Cause != nil {
		detail["reason"] = reason.Cause.Error()
	}
	if missing > 0 {
		detail["not_recorded"] = missing
	}
	entry := f.act(r, "", "session.refuse", r.Pattern, detail)
	entry.Actor = actor
	if err := f.append(r.Context(), entry); err != nil {
		return errors.Join(why, err)
	}
	return why
}

func (f *Function) append(ctx context.Context, entry store.Audit) error {
	return f.Store.InTx(ctx, func(tx *store.Tx) error { return tx.AppendAudit(ctx, entry) })
}
