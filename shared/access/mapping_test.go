package access_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var mapping = access.Mapping{Admin: "peat-admin", OrgAdmin: "peat-org-admin", Viewer: "peat-viewer", Orgs: "peat.orgs"}

func TestMapping(t *testing.T) {
	type orgs = map[tenant.OrgID]web.Role
	in := func(v any) map[string]any { return map[string]any{"peat": map[string]any{"orgs": v}} }
	for name, tc := range map[string]struct {
		roles, groups []string
		attributes    map[string]any
		gateway       bool
		want          orgs
	}{
		"nothing":                        {nil, nil, nil, false, orgs{}},
		"an organization and no role":    {nil, nil, in([]any{"acme"}), false, orgs{}},
		"a role and no organization":     {[]string{"peat-org-admin"}, nil, nil, false, orgs{}},
		"viewer":                         {[]string{"peat-viewer"}, nil, in([]any{"acme", "bravo"}), false, orgs{"acme": "viewer", "bravo": "viewer"}},
		"the greater role counts":        {[]string{"peat-org-admin", "peat-viewer"}, nil, in("acme"), false, orgs{"acme": "org-admin"}},
		"an object of organizations":     {[]string{"peat-viewer"}, nil, in(map[string]any{"acme": map[string]any{"id": 1}}), false, orgs{"acme": "viewer"}},
		"a name with dots of its own":    {[]string{"peat-viewer"}, nil, map[string]any{"peat.orgs": []any{"acme"}}, false, orgs{"acme": "viewer"}},
		"gateway-admin":                  {[]string{"peat-admin"}, nil, nil, true, orgs{}},
		"by a group":                     {nil, []string{"/peat-admin"}, nil, true, orgs{}},
		"by a group without a path":      {nil, []string{"peat-viewer"}, in("acme"), false, orgs{"acme": "viewer"}},
		"by a group of the organization": {nil, []string{"/acme/peat-org-admin", "/bravo/peat-viewer"}, nil, false, orgs{"acme": "org-admin", "bravo": "viewer"}},
		"by a role for one":              {[]string{"peat-org-admin:acme"}, nil, nil, false, orgs{"acme": "org-admin"}},
		"more in one than in others":     {[]string{"peat-viewer", "peat-org-admin:acme"}, nil, in([]any{"acme", "bravo"}), false, orgs{"acme": "org-admin", "bravo": "viewer"}},

		// What must not count.
		"a group of that name inside":    {nil, []string{"/acme/peat-admin", "/peat-admin/acme", "peat-admin/", "//peat-admin"}, nil, false, orgs{}},
		"a deeper group":                 {nil, []string{"/acme/team/peat-viewer", "/a/acme/peat-viewer"}, nil, false, orgs{}},
		"a role in other letters":        {[]string{"Peat-Admin", "PEAT-ADMIN", " peat-admin", "peat-admin "}, nil, in("acme"), false, orgs{}},
		"gateway-admin of one":           {[]string{"peat-admin:acme", "peat-admin:*"}, nil, nil, false, orgs{}},
		"a group inside for one":         {nil, []string{"/rival/peat-org-admin:acme"}, nil, false, orgs{}},
		"everything":                     {[]string{"peat-viewer"}, nil, in([]any{"*", "", ".", "..", "_org", "_gateway", "a/b", "acme.", strings.Repeat("x", 200)}), false, orgs{}},
		"claims of other types":          {[]string{"peat-viewer"}, nil, in([]any{1.0, true, nil, []any{"acme"}, map[string]any{"acme": 1}}), false, orgs{}},
		"a path through a text":          {[]string{"peat-viewer"}, nil, map[string]any{"peat": "orgs"}, false, orgs{}},
		"roles in the organizations":     {nil, nil, in([]any{"peat-admin", "peat-org-admin:acme"}), false, orgs{}},
		"organizations among the groups": {[]string{"peat-viewer"}, []string{"/acme"}, nil, false, orgs{}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := mapping.Principal(identity.Claims{Subject: "s", Roles: tc.roles, Groups: tc.groups, Attributes: tc.attributes})
			if err != nil || p.Gateway != tc.gateway || p.Name != "person:s" || p.Token != nil {
				t.Errorf("%+v %v", p, err)
			}
			if diff := cmp.Diff(tc.want, p.Orgs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOrganizationsMayBeGroups(t *testing.T) {
	m := mapping
	m.OrgsAreGroups = true
	p, err := m.Principal(identity.Claims{Subject: "s", Groups: []string{"/acme", "/acme/team", "bravo", "peat-viewer"}, Attributes: map[string]any{"peat": map[string]any{"orgs": "rival"}}})
	// peat-viewer could be an organization's name as well as any other: then it is one.
	want := map[tenant.OrgID]web.Role{"acme": "viewer", "bravo": "viewer", "peat-viewer": "viewer"}
	if diff := cmp.Diff(want, p.Orgs); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// TestAMappingOfNothing: names that are not set are nobody's.
func TestAMappingOfNothing(t *testing.T) {
	p, err := access.Mapping{}.Principal(identity.Claims{Subject: "s", Roles: []string{"", ":acme"}, Groups: []string{"", "/", "/acme/", "acme/"}})
	if err != nil || p.Gateway || len(p.Orgs) != 0 {
		t.Errorf("%+v %v", p, err)
	}
}

func TestWhoNobodyIs(t *testing.T) {
	for _, subject := range []string{"", strings.Repeat("x", 256)} {
		if _, err := mapping.Principal(identity.Claims{Subject: subject}); !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("%d bytes: %v", len(subject), err)
		}
	}
}

func TestLabels(t *testing.T) {
	for name, tc := range map[string]struct {
		attributes map[string]any
		want       string
	}{
		"as they log in":           {map[string]any{"preferred_username": "alice", "email": "a@b.c"}, "alice"},
		"by their address":         {map[string]any{"email": "a@b.c", "name": "Alice"}, "a@b.c"},
		"in other letters":         {map[string]any{"name": "Zoë Ångström"}, "Zoë Ångström"},
		"of nothing":               {nil, "s"},
		"that a terminal obeys":    {map[string]any{"preferred_username": "a\x1b[2J", "email": "a\nb", "name": "a\u202eb"}, "s"},
		"that is longer than most": {map[string]any{"name": strings.Repeat("x", 200)}, "s"},
		"that is no text":          {map[string]any{"name": 1.0}, "s"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := mapping.Principal(identity.Claims{Subject: "s", Attributes: tc.attributes})
			if err != nil || p.Person.Label != tc.want {
				t.Errorf("%q %v", p.Person.Label, err)
			}
		})
	}
}

func TestDigestsTellMappingsApart(t *testing.T) {
	seen := map[string]bool{}
	other := mapping
	other.OrgsAreGroups = true
	for _, d := range []string{mapping.Digest("a", "b"), mapping.Digest("ab", ""), mapping.Digest("a", "c"), other.Digest("a", "b"), access.Mapping{Admin: "x"}.Digest("a", "b")} {
		if seen[d] {
			t.Errorf("%s twice", d)
		}
		seen[d] = true
	}
	same := mapping
	if mapping.Digest("a", "b") != same.Digest("a", "b") {
		t.Error("one mapping has two digests")
	}
}

// FuzzMapping: whatever is claimed, a gateway-admin has a role or group of that very
// name, and who is in an organization has something that names it.
func FuzzMapping(f *testing.F) {
	f.Add("peat-viewer", "/acme/peat-org-admin", "acme")
	f.Add("peat-admin:acme", "/peat-admin/", "peat-admin")
	f.Fuzz(func(t *testing.T, role, group, org string) {
		p, err := mapping.Principal(identity.Claims{Subject: "s", Roles: []string{role}, Groups: []string{group}, Attributes: map[string]any{"peat": map[string]any{"orgs": []any{org}}}})
		if err != nil {
			t.Fatal(err)
		}
		if p.Gateway != (role == "peat-admin" || group == "peat-admin" || group == "/peat-admin") {
			t.Errorf("%q %q: gateway-admin %v", role, group, p.Gateway)
		}
		for id := range p.Orgs {
			if _, err := tenant.ParseOrgID(string(id)); err != nil || !strings.Contains(role+" "+group+" "+org, string(id)) || !strings.Contains(role+group, "peat-") {
				t.Errorf("%q %q %q: in %q", role, group, org, id)
			}
		}
	})
}
