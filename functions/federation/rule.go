package federation

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func (f *Function) policyRoutes() []web.Route {
	var out []web.Route
	for _, base := range []string{"/orgs/{org}/policy", "/orgs/{org}/formations/{app}/policy"} {
		out = append(out, []web.Route{
			{Pattern: "GET " + base, Need: web.Viewer, Handle: f.getPolicy},
			{Pattern: "PUT " + base, Need: web.OrgAdmin, Handle: f.putPolicy},
			{Pattern: "GET " + base + "/versions", Need: web.Viewer, Handle: f.listPolicyVersions},
			{Pattern: "GET " + base + "/versions/{version}", Need: web.Viewer, Handle: f.getPolicyVersion},
			{Pattern: "GET " + base + "/diff", Need: web.Viewer, Handle: f.diffPolicy},
			{Pattern: "POST " + base + "/rollback", Need: web.OrgAdmin, Handle: f.rollbackPolicy},

			// The lab changes nothing.
			{Pattern: "POST " + base + "/check", Need: web.Viewer, Handle: f.checkPolicy},
			{Pattern: "POST " + base + "/evaluate", Need: web.Viewer, Handle: f.evaluatePolicy},
			{Pattern: "POST " + base + "/replay", Need: web.Viewer, Handle: f.replayPolicy},
			{Pattern: "GET " + base + "/decisions", Need: web.Viewer, Handle: f.listDecisions},
			{Pattern: "GET " + base + "/decisions/{decision}", Need: web.Viewer, Handle: f.getDecision},
		}...)
	}
	return out
}

// policyScope is whose rules a path is about: an organization's, or, with App, a
// formation's own. It fails if there is no such thing.
func (f *Function) policyScope(r *http.Request) (tenant.Key, error) {
	if r.PathValue("app") == "" {
		org, err := access.OrgOf(r)
		if err != nil {
			return tenant.Key{}, err
		}
		_, err = f.Store.Org(r.Context(), org)
		return tenant.Key{Org: org}, err
	}
	key, err := keyOf(r)
	if err != nil {
		return tenant.Key{}, err
	}
	_, err = f.Store.Formation(r.Context(), key)
	return key, err
}

// policyTag names the state of a policy. Where there is none yet it is that of
// version 0.
func policyTag(version int64) string { return strconv.FormatInt(version, 10) }

func (f *Function) getPolicy(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	v, err := f.Store.LatestPolicy(r.Context(), scope)
	if err != nil {
		return err
	}
	web.SetETag(w, policyTag(v.Number))
	return web.WriteJSON(w, http.StatusOK, wirePolicy(v))
}

func (f *Function) putPolicy(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	var in policyRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	d, err := in.document()
	if err != nil {
		return err
	}
	return f.savePolicy(w, r, scope, policy.Version{Document: d, Note: in.Note}, "policy.change")
}

// rollbackPolicy makes what an old version said the newest one. The versions between
// them stay.
func (f *Function) rollbackPolicy(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	var in rollbackRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	old, err := f.Store.PolicyVersion(r.Context(), scope, in.Version)
	if errors.Is(err, fault.NotFound) {
		return wrong("/version", "is none that is kept")
	}
	if err != nil {
		return err
	}
	return f.savePolicy(w, r, scope, policy.Version{Document: old.Document, Note: in.Note, Restores: old.Number}, "policy.rollback")
}

// saveAttempts bounds how often a policy is checked anew because another was saved
// meanwhile.
const saveAttempts = 3

// savePolicy makes a version the one that counts, if it keeps what its tests promise.
func (f *Function) savePolicy(w http.ResponseWriter, r *http.Request, scope tenant.Key, v policy.Version, action string) error {
	if v.Note != "" {
		if _, err := tenant.ParseDisplayName(v.Note); err != nil {
			return wrong("/note", fault.Of(err).Fields[0].Detail)
		}
	}
	v.At, v.By = store.Precise(f.Now()), access.FromContext(r.Context()).Name
	var err error
	for range saveAttempts {
		var before policy.Version
		if before, err = f.Store.LatestPolicy(r.Context(), scope); err != nil {
			return err
		}
		if err := web.IfMatch(r, policyTag(before.Number)); err != nil {
			return err
		}
		v.Number = before.Number + 1
		v.Document.Version = v.Number
		// Before the transaction: to compile rules and to run their tests takes a while.
		if err := f.checkDocument(r.Context(), scope, v.Document); err != nil {
			return err
		}
		err = f.Store.InTx(r.Context(), func(tx *store.Tx) error {
			if err := tx.PutPolicy(r.Context(), scope, v); err != nil {
				return err
			}
			return tx.AppendAudit(r.Context(), f.act(r, scope.Org, action, policyTarget(scope), policyDetail(before, v)))
		})
		if !errors.Is(err, fault.Conflict) {
			break
		}
	}
	if err != nil {
		return err
	}
	web.SetETag(w, policyTag(v.Number))
	return web.WriteJSON(w, http.StatusOK, wirePolicy(v))
}

// checkDocument compiles a document and runs its tests: an organization's on its
// rules, a formation's on both, as they will decide.
func (f *Function) checkDocument(ctx context.Context, scope tenant.Key, d policy.Document) error {
	if scope.App == "" {
		return policy.Check(d, scope.Org, f.Now())
	}
	s, err := f.sources(ctx, scope, scope.App, &d)
	if err != nil {
		return err
	}
	return policy.CheckFor(s, scope.Org, f.Now())
}

// policyTarget names a policy in the audit trail.
func policyTarget(scope tenant.Key) string {
	if scope.App == "" {
		return "policy"
	}
	return string(scope.App) + "/policy"
}

// maxAuditedDiff is how long a difference is written into the audit trail whole.
const maxAuditedDiff = 64 << 10

// policyDetail tells what was changed. The rules before and after are in it unless
// they are long; the versions are kept beside the trail for a while.
func policyDetail(before, after policy.Version) map[string]any {
	d := policy.Compare(before.Document, after.Document)
	detail := map[string]any{"before": before.Number, "after": after.Number, "note": after.Note}
	if after.Restores != 0 {
		detail["restores"] = after.Restores
	}
	wire := wireDiff(before.Number, after.Number, d)
	if text, err := json.Marshal(wire); err == nil && len(text) <= maxAuditedDiff {
		detail["diff"] = wire
		return detail
	}
	id := func(r policy.Rule) string { return r.ID }
	changed := map[string][]string{}
	for _, c := range d.Changed {
		changed[c.After.ID] = c.Fields
	}
	detail["diff"] = map[string]any{"added": mapped(d.Added, id), "removed": mapped(d.Removed, id), "changed": changed, "moved": d.Moved, "tests_changed": d.Tests}
	return detail
}

func mapped[T, U any](list []T, f func(T) U) []U {
	out := make([]U, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

// wrong is what is wrong with one field of a body.
func wrong(pointer, detail string) error {
	return &fault.Error{Kind: fault.Invalid, Message: pointer[1:] + " " + detail, Fields: []fault.Field{{Pointer: pointer, Detail: detail}}}
}

// under puts what is wrong with a document below the field that it came in.
func under(field string, err error) error {
	f := fault.Of(err)
	if f == nil || len(f.Fields) == 0 {
		return err
	}
	out := *f
	out.Message = field + "/" + f.Message
	out.Fields = slices.Clone(f.Fields)
	for i := range out.Fields {
		out.Fields[i].Pointer = "/" + field + out.Fields[i].Pointer
	}
	return &out
}
