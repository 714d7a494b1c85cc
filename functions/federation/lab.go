package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Prover checks a proof of identity with the organization's providers.
type Prover interface {
	Verify(ctx context.Context, org tenant.OrgID, p identity.Proof, now time.Time) (identity.Claims, identity.Provider, error)
}

// sources are the rules that decide on a formation, with a draft in the place of the
// scope's own if there is one.
func (f *Function) sources(ctx context.Context, scope tenant.Key, app tenant.AppID, draft *policy.Document) (policy.Sources, error) {
	s, err := f.Store.PolicyFor(ctx, tenant.Key{Org: scope.Org, App: app})
	if err != nil || draft == nil {
		return s, err
	}
	if scope.App == "" {
		s.Org = policy.Source{Document: *draft}
	} else {
		s.Formation = policy.Source{Document: *draft}
	}
	return s, nil
}

// compiled is sources made ready. What is wrong with the draft is found first, where
// it is in the request.
func (f *Function) compiled(ctx context.Context, scope tenant.Key, app tenant.AppID, draft *policy.Document) (*policy.Policy, error) {
	if draft != nil {
		if draft.Rules == nil {
			return nil, wrong("/draft/rules", "must be given")
		}
		if _, err := policy.Compile(*draft); err != nil {
			return nil, under("draft", err)
		}
	}
	s, err := f.sources(ctx, scope, app, draft)
	if err != nil {
		return nil, err
	}
	return policy.CompileFor(s)
}

// checkPolicy tells whether a draft would be saved.
func (f *Function) checkPolicy(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	var in policyRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	d, err := in.document()
	if err == nil {
		err = f.checkDocument(r.Context(), scope, d)
	}
	out := checkWire{OK: true, Problems: []fault.Field{}}
	if errors.Is(err, fault.Invalid) {
		out.OK, out.Problems = false, fault.Of(err).Fields
		err = nil
	}
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// evaluatePolicy asks the policy, or a draft of it, about somebody: by claims, by a
// token, or by a decision that was made. It answers with all that led to the decision.
func (f *Function) evaluatePolicy(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	var in evaluateRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	q, err := f.question(r.Context(), scope, in)
	if err != nil {
		return err
	}
	p, err := f.compiled(r.Context(), scope, q.request.Key.App, in.Draft)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, evaluateWire{
		Decision: policy.WriteDecision(p.Explain(q.claims, q.request, q.at)),
		Claims:   policy.WriteClaims(q.claims), Request: policy.WriteRequest(q.request), At: q.at, Recorded: q.recorded,
	})
}

// question is what a policy is asked.
type question struct {
	claims   identity.Claims
	request  policy.Request
	at       time.Time
	recorded *policy.WrittenDecision // what was decided, if this was asked before
}

func (f *Function) question(ctx context.Context, scope tenant.Key, in evaluateRequest) (question, error) {
	q := question{at: f.Now().UTC()}
	given := 0
	for _, one := range []bool{in.Claims != nil, in.Token != nil, in.DecisionID != nil} {
		if one {
			given++
		}
	}
	if given != 1 {
		return q, wrong("/claims", "or token or decision_id must be given, and only one of them")
	}
	if in.At != nil {
		q.at = in.At.UTC()
	}
	if in.DecisionID != nil {
		record, err := f.decision(ctx, scope, *in.DecisionID)
		if err != nil {
			return q, err
		}
		was := policy.WriteDecision(record.Decision)
		q.claims, q.request, q.recorded = record.Claims, record.Request, &was
		if in.At == nil {
			q.at = record.At
		}
		if in.Request != nil {
			return q, wrong("/request", "is that of the decision")
		}
		return q, nil
	}

	var request policy.WrittenRequest
	if in.Request != nil {
		request = *in.Request
	}
	if request.App == "" {
		request.App = scope.App
	}
	if scope.App != "" && request.App != scope.App {
		return q, wrong("/request/app_id", "must be the formation of the path")
	}
	var bad []fault.Field
	if q.request, bad = request.Read(scope.Org); len(bad) > 0 {
		return q, wrong("/request"+bad[0].Pointer, bad[0].Detail)
	}
	if in.Claims != nil {
		if q.claims, bad = in.Claims.Read(); len(bad) > 0 {
			return q, wrong("/claims"+bad[0].Pointer, bad[0].Detail)
		}
		return q, nil
	}
	var err error
	q.claims, err = f.claimsOf(ctx, scope.Org, *in.Token, q.at)
	return q, err
}

// claimsOf are what a token says, if it is good. Whoever asks is an administrator of
// the organization and may know why it is not; it must not look as if they
// themselves were refused.
func (f *Function) claimsOf(ctx context.Context, org tenant.OrgID, token string, at time.Time) (identity.Claims, error) {
	if f.Prover == nil {
		return identity.Claims{}, wrong("/token", "cannot be evaluated here; give its claims")
	}
	claims, _, err := f.Prover.Verify(ctx, org, identity.Proof{Token: token}, at)
	if errors.Is(err, fault.Unauthenticated) {
		why := "is not accepted"
		if known := fault.Of(err); known != nil && known.Message != "" {
			why = "is refused: " + known.Message
		}
		return claims, wrong("/token", why)
	}
	return claims, err
}

// Bounds of a replay.
const (
	replayDecisions = 500
	maxReplay       = policy.MaxDecisions
)

// replayPolicy asks a draft about the last decisions that were made, and tells which
// it would make otherwise.
func (f *Function) replayPolicy(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	var in replayPolicyRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	limit := replayDecisions
	if in.Limit != nil {
		limit = *in.Limit
	}
	if limit < 1 || limit > maxReplay {
		return wrong("/limit", fmt.Sprintf("must be 1 to %d", maxReplay))
	}
	// Also if there is no decision to ask it about.
	if _, err := f.compiled(r.Context(), scope, scope.App, in.Draft); err != nil {
		return err
	}
	records, err := f.Store.Decisions(r.Context(), scope, "", limit)
	if err != nil {
		return err
	}
	replay, err := policy.Ask(records, func(app tenant.AppID) (*policy.Policy, error) {
		return f.compiled(r.Context(), scope, app, in.Draft)
	})
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireReplay(replay))
}

func (f *Function) listDecisions(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	records, err := f.Store.Decisions(r.Context(), scope, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(records, page, func(d policy.Record) string { return d.ID })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, wireDecision))
}

func (f *Function) getDecision(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	record, err := f.decision(r.Context(), scope, r.PathValue("decision"))
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wireDecision(record))
}

// decision finds a decision by its id as it was sent.
func (f *Function) decision(ctx context.Context, scope tenant.Key, text string) (policy.Record, error) {
	id, err := ulid.ParseStrict(text)
	if err != nil {
		return policy.Record{}, fault.NotFound.New("no such decision is kept")
	}
	return f.Store.Decision(ctx, scope, id.String())
}
