package tenant_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestVectorsGatewayIdentifier(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors/gateway_identifier.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			ID  string
			In  struct{ Value string }
			Out struct {
				Valid     bool
				ErrorText string `json:"error_text"`
			}
		}
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(file.Vectors), err)
	}
	for _, v := range file.Vectors {
		t.Run(v.ID, func(t *testing.T) {
			org, err := tenant.ParseOrgID(v.In.Value)
			checkID(t, err, v.Out.Valid, v.Out.ErrorText)
			app, err := tenant.ParseAppID(v.In.Value)
			checkID(t, err, v.Out.Valid, strings.ReplaceAll(v.Out.ErrorText, "org_id", "app_id"))
			if v.Out.Valid && (string(org) != v.In.Value || string(app) != v.In.Value) {
				t.Errorf("became %q and %q", org, app)
			}
		})
	}
}

func checkID(t *testing.T, err error, valid bool, text string) {
	t.Helper()
	if valid {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, fault.Invalid) || err.Error() != text {
		t.Fatalf("got %v; want %s", err, text)
	}
	field, detail, _ := strings.Cut(text, " ")
	if diff := cmp.Diff([]fault.Field{{Pointer: "/" + field, Detail: detail}}, fault.Of(err).Fields); diff != "" {
		t.Error(diff)
	}
}

// TestIdentifiers has what the vectors do not.
func TestIdentifiers(t *testing.T) {
	for name, tc := range map[string]struct {
		in string
		ok bool
	}{
		"every character":          {"0aZ-_", true},
		"the longest":              {strings.Repeat("a", 128), true},
		"longer":                   {strings.Repeat("a", 129), false},
		"longer in bytes only":     {"a" + strings.Repeat("é", 64), false},
		"the reserved name inside": {"a_org", true},
		"a slash":                  {"a/b", false},
		"a path":                   {"..", false},
		"a NUL":                    {"a\x00", false},
		"a newline at the end":     {"acme\n", false},
		"not UTF-8":                {"a\xff", false},
		"a digit of another kind":  {"a\u0663", false},
		"a percent sign":           {"a%2f", false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tenant.ParseOrgID(tc.in); (err == nil) != tc.ok || err != nil && !errors.Is(err, fault.Invalid) {
				t.Errorf("ParseOrgID(%q) = %v", tc.in, err)
			}
		})
	}
}

func TestStates(t *testing.T) {
	states := []tenant.State{tenant.Active, tenant.Suspended, tenant.Destroyed}
	allowed := map[tenant.State][]tenant.State{
		tenant.Active:    {tenant.Suspended, tenant.Destroyed},
		tenant.Suspended: {tenant.Active, tenant.Destroyed},
		tenant.Destroyed: nil,
		"no such state":  nil,
	}
	for from, to := range allowed {
		if diff := cmp.Diff(to, from.Moves()); diff != "" {
			t.Errorf("from %s: %s", from, diff)
		}
		for _, next := range append(states, "no such state") {
			got, err := from.Move(next)
			if slices.Contains(to, next) {
				if err != nil || got != next {
					t.Errorf("from %s to %s: %s, %v", from, next, got, err)
				}
			} else if !errors.Is(err, fault.Conflict) || got != from {
				t.Errorf("from %s to %s: %s, %v; want it to stay", from, next, got, err)
			}
		}
	}
	tenant.Active.Moves()[0] = "changed"
	if diff := cmp.Diff(allowed[tenant.Active], tenant.Active.Moves()); diff != "" {
		t.Errorf("a caller changed the table: %s", diff)
	}
}

func TestParseEnrollmentPolicy(t *testing.T) {
	for _, p := range []tenant.EnrollmentPolicy{tenant.Open, tenant.Controlled, tenant.Strict} {
		if got, err := tenant.ParseEnrollmentPolicy(string(p)); err != nil || got != p {
			t.Errorf("%q: %q, %v", p, got, err)
		}
	}
	for _, in := range []string{"", "Open", " open", "closed"} {
		if got, err := tenant.ParseEnrollmentPolicy(in); !errors.Is(err, fault.Invalid) || got != "" {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestKeys(t *testing.T) {
	sorted := []tenant.Key{{"a", "b"}, {"a", "c"}, {"a-b", "a"}, {"b", "a"}}
	keys := []tenant.Key{sorted[3], sorted[1], sorted[2], sorted[0]}
	slices.SortFunc(keys, tenant.Key.Compare)
	if diff := cmp.Diff(sorted, keys); diff != "" {
		t.Error(diff)
	}
	if got := sorted[2].String(); got != "a-b/a" || sorted[0].Compare(sorted[0]) != 0 {
		t.Errorf("String: %s", got)
	}
}

func TestParseDisplayName(t *testing.T) {
	for name, tc := range map[string]struct {
		in string
		ok bool
	}{
		"words":                 {"Task Force 9", true},
		"any script":            {"équipe β 🛰", true},
		"the longest":           {strings.Repeat("a", 1024), true},
		"nothing":               {"", false},
		"longer":                {strings.Repeat("a", 1025), false},
		"longer in bytes only":  {strings.Repeat("é", 513), false},
		"not UTF-8":             {"a\xff", false},
		"a NUL":                 {"a\x00b", false},
		"two lines":             {"a\nb", false},
		"a delete character":    {"a\x7f", false},
		"an escape to terminal": {"\x1b[31mred", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tenant.ParseDisplayName(tc.in)
			if tc.ok && (err != nil || got != tc.in) || !tc.ok && (!errors.Is(err, fault.Invalid) || got != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestQuotas(t *testing.T) {
	if err := tenant.DefaultQuotas().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := (tenant.Quotas{}).Validate(); err != nil {
		t.Errorf("nothing allowed is allowed: %v", err)
	}
	fields := map[string]func(*tenant.Quotas) *int{
		"max_formations":              func(q *tenant.Quotas) *int { return &q.MaxFormations },
		"max_peers_per_formation":     func(q *tenant.Quotas) *int { return &q.MaxPeersPerFormation },
		"max_documents_per_formation": func(q *tenant.Quotas) *int { return &q.MaxDocumentsPerFormation },
		"max_cdc_sinks":               func(q *tenant.Quotas) *int { return &q.MaxCDCSinks },
		"max_enrollments_per_hour":    func(q *tenant.Quotas) *int { return &q.MaxEnrollmentsPerHour },
	}
	for name, field := range fields {
		for n, ok := range map[int]bool{-1: false, 0: true, 1_000_000_000: true, 1_000_000_001: false} {
			q := tenant.DefaultQuotas()
			*field(&q) = n
			err := q.Validate()
			if ok && err == nil {
				continue
			}
			if ok || !errors.Is(err, fault.Invalid) || fault.Of(err).Fields[0].Pointer != "/quotas/"+name {
				t.Errorf("%s of %d: %v", name, n, err)
			}
		}
	}
	b, err := json.Marshal(tenant.Quotas{})
	for name := range fields {
		if !strings.Contains(string(b), `"`+name+`":0`) || err != nil {
			t.Errorf("%s is not called so in %s", name, b)
		}
	}
}
