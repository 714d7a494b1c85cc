package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func policyVersion(n int64, rules ...string) policy.Version {
	v := policy.Version{Number: n, At: store.Precise(now), By: "ann", Note: fmt.Sprint("note ", n), Document: policy.Document{Version: n, Rules: []policy.Rule{}}}
	for _, id := range rules {
		v.Document.Rules = append(v.Document.Rules, policy.Rule{ID: id, Effect: policy.Deny})
	}
	return v
}

func putPolicy(t *testing.T, s *store.Store, scope tenant.Key, v policy.Version) error {
	t.Helper()
	return s.InTx(t.Context(), func(tx *store.Tx) error { return tx.PutPolicy(context.Background(), scope, v) })
}

func testPolicies(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addOrg(t, s, "rival")
	addFormation(t, s, key)
	org := tenant.Key{Org: key.Org}
	if d, err := s.Policy(ctx, key.Org); d.Version != 0 || d.Rules != nil || err != nil {
		t.Errorf("before there is one: %+v %v", d, err)
	}
	first, second, own := policyVersion(1, "one"), policyVersion(2, "one", "two"), policyVersion(1, "own")
	second.Restores = 1
	for _, v := range []policy.Version{first, second} {
		if err := putPolicy(t, s, org, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := putPolicy(t, s, key, own); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{1, 2, 4} {
		wantFault(t, putPolicy(t, s, org, policyVersion(n)), fault.Conflict)
	}
	wantFault(t, putPolicy(t, s, tenant.Key{Org: "acme", App: "nowhere"}, own), fault.NotFound)
	wantFault(t, putPolicy(t, s, tenant.Key{Org: "nobody"}, own), fault.NotFound)

	if d, err := s.Policy(ctx, key.Org); err != nil || !cmp.Equal(second.Document, d) {
		t.Errorf("%v %s", err, cmp.Diff(second.Document, d))
	}
	if v, err := s.LatestPolicy(ctx, key); err != nil || !cmp.Equal(own, v) {
		t.Errorf("%v %s", err, cmp.Diff(own, v))
	}
	if v, err := s.PolicyVersion(ctx, org, 1); err != nil || !cmp.Equal(first, v) {
		t.Errorf("%v %s", err, cmp.Diff(first, v))
	}
	_, err := s.PolicyVersion(ctx, key, 2)
	wantFault(t, err, fault.NotFound)
	if list, err := s.PolicyVersions(ctx, org, 1<<62, 10); err != nil || !cmp.Equal([]policy.Version{second, first}, list) {
		t.Errorf("%v %v", err, list)
	}
	if list, err := s.PolicyVersions(ctx, org, 2, 1); err != nil || !cmp.Equal([]policy.Version{first}, list) {
		t.Errorf("%v %v", err, list)
	}

	// What decides on a formation is both.
	both, err := s.PolicyFor(ctx, key)
	if err != nil || !cmp.Equal(second.Document, both.Org.Document) || !cmp.Equal(own.Document, both.Formation.Document) {
		t.Errorf("%v %+v", err, both)
	}
	digests, err := s.PolicyDigests(ctx, key)
	if err != nil || digests.Org.Digest == "" || digests.Org.Digest != both.Org.Digest || digests.Formation.Digest != both.Formation.Digest || digests.Org.Digest == digests.Formation.Digest {
		t.Errorf("%v %+v", err, digests)
	}
	other, err := s.PolicyFor(ctx, tenant.Key{Org: "acme", App: "medevac"})
	if err != nil || other.Org.Digest != both.Org.Digest || other.Formation.Digest != "" {
		t.Errorf("of a formation without its own: %v %+v", err, other)
	}
	if theirs, err := s.PolicyFor(ctx, tenant.Key{Org: "rival", App: key.App}); err != nil || theirs.Org.Digest+theirs.Formation.Digest != "" {
		t.Errorf("another's: %v %+v", err, theirs)
	}

	// Old versions go, the newest stay.
	inTx(t, s, func(tx *store.Tx) error {
		for n := int64(3); n <= store.MaxPolicyVersions+2; n++ {
			if err := tx.PutPolicy(ctx, org, policyVersion(n)); err != nil {
				return err
			}
		}
		return nil
	})
	list, err := s.PolicyVersions(ctx, org, 1<<62, 1000)
	if err != nil || len(list) != store.MaxPolicyVersions || list[len(list)-1].Number != 3 {
		t.Errorf("%d are kept, %v", len(list), err)
	}

	// A formation takes its own with it, and made anew it gets nothing back.
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	addFormation(t, s, key)
	if v, err := s.LatestPolicy(ctx, key); v.Number != 0 || err != nil {
		t.Errorf("%+v %v", v, err)
	}
}

func decided(id string, app tenant.AppID) policy.Record {
	return policy.Record{
		ID: id, At: store.Precise(now),
		Claims: identity.Claims{
			Provider: "keycloak", Kind: identity.OIDC, Issuer: "https://id.example", Subject: "u-1", Groups: []string{"trucks"}, Roles: []string{"driver"},
			Attributes: map[string]any{"level": "3"}, ACR: "gold", AMR: []string{"mfa"}, ExpiresAt: store.Precise(now.Add(time.Hour)),
		},
		Request: policy.Request{Key: tenant.Key{Org: "acme", App: app}, Enrollment: tenant.Strict, NodeID: "n1",
			Wants: enrollment.Grant{Tier: cert.Tactical, Permissions: cert.Relay}, Address: netip.MustParseAddr("192.0.2.7")},
		Decision: policy.Decision{Allowed: true, Rule: "trucks", Version: 3, Grant: enrollment.Grant{Tier: cert.Tactical, Permissions: cert.NoPermission},
			Validity: time.Hour, Review: true, Reasons: []policy.Reason{{Rule: "trucks", Matched: true}}},
	}
}

func testDecisions(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	addFormation(t, s, key)
	medevac := tenant.Key{Org: "acme", App: "medevac"}
	addFormation(t, s, medevac)
	record := func(records ...policy.Record) error {
		return s.InTx(ctx, func(tx *store.Tx) error {
			for _, r := range records {
				if err := tx.RecordDecision(ctx, "acme", r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	a, b := decided("01A", key.App), decided("01B", medevac.App)
	b.Decision = policy.Decision{Version: 3, Reasons: []policy.Reason{{Rule: "trucks", Detail: "no"}}}
	secret := a
	secret.Claims.ID, secret.Claims.Session = "the proof's id", "the session"
	secret.Claims.Attributes = map[string]any{"level": "3", "access_token": "hush"}
	if err := record(secret, b); err != nil {
		t.Fatal(err)
	}
	wantFault(t, record(decided("01C", "nowhere")), fault.NotFound)

	got, err := s.Decision(ctx, key, "01A")
	a.Claims = policy.Redact(secret.Claims)
	if diff := cmp.Diff(a, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if text := fmt.Sprint(got); strings.Contains(text, "hush") || strings.Contains(text, "the session") {
		t.Errorf("%s", text)
	}
	_, err = s.Decision(ctx, medevac, "01A")
	wantFault(t, err, fault.NotFound)
	_, err = s.Decision(ctx, tenant.Key{Org: "rival"}, "01A")
	wantFault(t, err, fault.NotFound)
	ids := func(scope tenant.Key, before string, limit int) (out []string) {
		t.Helper()
		list, err := s.Decisions(ctx, scope, before, limit)
		if err != nil {
			t.Error(err)
		}
		for _, d := range list {
			out = append(out, d.ID)
		}
		return out
	}
	for _, tc := range []struct {
		scope  tenant.Key
		before string
		limit  int
		want   []string
	}{
		{tenant.Key{Org: "acme"}, "", 10, []string{"01B", "01A"}},
		{tenant.Key{Org: "acme"}, "", 1, []string{"01B"}},
		{tenant.Key{Org: "acme"}, "01B", 10, []string{"01A"}},
		{key, "", 10, []string{"01A"}},
		{tenant.Key{Org: "rival"}, "", 10, nil},
	} {
		if diff := cmp.Diff(tc.want, ids(tc.scope, tc.before, tc.limit)); diff != "" {
			t.Errorf("%+v: %s", tc, diff)
		}
	}

	// The oldest go, and the newest stay.
	var many []policy.Record
	for i := range policy.MaxDecisions + 100 {
		many = append(many, decided(fmt.Sprintf("02%06d", i), key.App))
	}
	if err := record(many...); err != nil {
		t.Fatal(err)
	}
	left := ids(tenant.Key{Org: "acme"}, "", 10_000)
	if len(left) < policy.MaxDecisions || len(left) >= policy.MaxDecisions+32 || left[0] != many[len(many)-1].ID {
		t.Errorf("%d are kept, the newest %s", len(left), left[0])
	}

	// They go with their formation.
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	if left := ids(tenant.Key{Org: "acme"}, "", 10); len(left) != 0 {
		t.Errorf("left are %v", left)
	}

	// Without an id it gets one of its time.
	if err := record(decided("", medevac.App)); err != nil || len(ids(medevac, "", 10)) != 1 {
		t.Error(err)
	}
}

func testPoliciesOfALargeFormation(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addOrg(t, s, "acme")
	large(t, s, key)
	if err := putPolicy(t, s, key, policyVersion(1, "own")); err != nil {
		t.Fatal(err)
	}
	inTx(t, s, func(tx *store.Tx) error { return tx.RecordDecision(ctx, "acme", decided("01A", key.App)) })
	inTx(t, s, func(tx *store.Tx) error { return tx.DestroyFormation(ctx, key) })
	if v, err := s.LatestPolicy(ctx, key); v.Number != 0 || err != nil {
		t.Errorf("%+v %v", v, err)
	}
	if list, err := s.Decisions(ctx, key, "", 10); len(list) != 0 || err != nil {
		t.Errorf("%v %v", list, err)
	}
	wantFault(t, putPolicy(t, s, key, policyVersion(1, "own")), fault.NotFound)
}
