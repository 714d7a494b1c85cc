package federation

import (
	"math"
	"net/http"
	"strconv"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
)

func (f *Function) listPolicyVersions(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	before := int64(math.MaxInt64)
	if page.After != "" {
		if before, err = parseVersion(page.After); err != nil {
			return fault.Malformed.New("cursor is not one that this API gave out")
		}
	}
	versions, err := f.Store.PolicyVersions(r.Context(), scope, before, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(versions, page, func(v policy.Version) string { return policyTag(v.Number) })
	return web.WriteJSON(w, http.StatusOK, web.MapList(list, wireVersion))
}

func (f *Function) getPolicyVersion(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	number, err := web.Path(r, "version", parseVersion)
	if err != nil {
		return err
	}
	v, err := f.Store.PolicyVersion(r.Context(), scope, number)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, wirePolicy(v))
}

func parseVersion(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && n < 1 {
		err = strconv.ErrRange
	}
	return n, err
}

// diffPolicy compares two versions: by default the newest with the one before it.
// Version 0 has no rules.
func (f *Function) diffPolicy(w http.ResponseWriter, r *http.Request) error {
	scope, err := f.policyScope(r)
	if err != nil {
		return err
	}
	latest, err := f.Store.LatestPolicy(r.Context(), scope)
	if err != nil {
		return err
	}
	to, err := versionOf(r, "to", latest.Number)
	if err != nil {
		return err
	}
	from, err := versionOf(r, "from", max(to-1, 0))
	if err != nil {
		return err
	}
	var docs [2]policy.Document
	for i, n := range []int64{from, to} {
		if n == 0 {
			continue
		}
		v, err := f.Store.PolicyVersion(r.Context(), scope, n)
		if err != nil {
			return err
		}
		docs[i] = v.Document
	}
	return web.WriteJSON(w, http.StatusOK, wireDiff(from, to, policy.Compare(docs[0], docs[1])))
}

func versionOf(r *http.Request, name string, otherwise int64) (int64, error) {
	text := r.URL.Query().Get(name)
	switch text {
	case "":
		return otherwise, nil
	case "0":
		return 0, nil
	}
	n, err := parseVersion(text)
	if err != nil {
		return 0, fault.Malformed.New("%s must be the number of a version", name)
	}
	return n, nil
}
