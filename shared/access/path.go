package access

import (
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// OrgOf reads the organization of a path. A name that cannot exist is simply not
// found.
func OrgOf(r *http.Request) (tenant.OrgID, error) {
	org, err := tenant.ParseOrgID(r.PathValue("org"))
	if err != nil {
		return "", fault.NotFound.New("no such organization")
	}
	return org, nil
}

// KeyOf reads the formation of a path, likewise.
func KeyOf(r *http.Request) (tenant.Key, error) {
	org, err := OrgOf(r)
	if err != nil {
		return tenant.Key{}, err
	}
	app, err := tenant.ParseAppID(r.PathValue("app"))
	if err != nil {
		return tenant.Key{}, fault.NotFound.New("no such formation")
	}
	return tenant.Key{Org: org, App: app}, nil
}
