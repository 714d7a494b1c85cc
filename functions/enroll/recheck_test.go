package enroll_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/functions/enroll"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/policy"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// renewWith is renew with a proof of identity, or none.
func (w *world) renewWith(n node, serial, token string) *httptest.ResponseRecorder {
	w.t.Helper()
	body := map[string]any{"proof": n.proves(authority.ForRenewal, serial, w.time())}
	if token != "" {
		body["identity"] = map[string]any{"token": token}
	}
	return w.call("POST", base+"/certificates/"+serial+"/renew", body, "Authorization", "")
}

// guest is a world with a node of ann's, whose certificates are good for an hour and
// whose session ends in eight, and the certificate that it has, which it may renew.
func guest(t *testing.T, change ...func(*enroll.Deps)) (*world, *vouching, node, certificate) {
	t.Helper()
	w, v := vouched(t, engines["sqlite"](t), change...)
	v.decision.Validity = time.Hour
	if err := w.store.InTx(t.Context(), func(tx *store.Tx) error {
		return tx.CreateProvider(t.Context(), identity.Provider{
			Key: identity.Key{Org: key.Org, ID: "idp"}, Kind: identity.OIDC, Issuer: "https://idp.example", Enabled: true, Config: []byte(`{}`),
			Version: 1, CreatedAt: store.Precise(w.time()), UpdatedAt: store.Precise(w.time()),
		})
	}); err != nil {
		t.Fatal(err)
	}
	n := newNode("alpha-1", 1)
	got := w.enroll(w.claim(n, "ann's token", nil))
	if got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	c := parse[certificate](t, got.Body.Bytes())
	w.later(c.RenewAfter.Sub(w.time()))
	return w, v, n, c
}

// last tells whether a certificate is the last until a time.
func (w *world) last(c certificate, until time.Time) bool {
	return until.Sub(c.ExpiresAt).Abs() < time.Second
}

// again renews a certificate until one is good until a time, and returns it, when it
// may be renewed.
func (w *world) again(n node, c certificate, until time.Time) certificate {
	w.t.Helper()
	for !w.last(c, until) && w.time().Before(until) {
		got := w.renewWith(n, c.Serial, "")
		if got.Code != 201 {
			w.t.Fatalf("%d %s", got.Code, got.Body)
		}
		c = parse[certificate](w.t, got.Body.Bytes())
		w.later(c.RenewAfter.Sub(w.time()))
	}
	return c
}

// TestRenewalNeedsNoProvider for as long as what it said is believed, and nothing that
// is given on the strength of it outlives that.
func TestRenewalNeedsNoProvider(t *testing.T) {
	w, v, n, c := guest(t)
	end := v.people["ann's token"].ExpiresAt
	asked := v.asked
	c = w.again(n, c, end)
	if c.ExpiresAt.After(end) {
		t.Errorf("good until %s, and the session ends %s", c.ExpiresAt, end)
	}
	if v.asked != asked || v.checked != 0 {
		t.Errorf("the provider was asked %d times more, and checked %d", v.asked-asked, v.checked)
	}
	// What it has lasts until the session ends: another would give it nothing.
	if !w.last(c, end) {
		t.Errorf("good until %s, and the session ends %s", c.ExpiresAt, end)
	}
	if got := w.renewWith(n, c.Serial, ""); got.Code != 403 || !strings.Contains(got.Body.String(), "must vouch for the node again") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if denied := w.denials(); len(denied) != 1 || denied[0].Actor != "node:alpha-1" {
		t.Errorf("%+v", denied)
	}
}

// denials are the entries of those who were not let in.
func (w *world) denials() []store.Audit {
	w.t.Helper()
	return slices.DeleteFunc(w.trail(), func(a store.Audit) bool { return a.Action != "enrollment.deny" })
}

// TestARuleSaysWhenToAskAgain, which may be after the session is over.
func TestARuleSaysWhenToAskAgain(t *testing.T) {
	w, v, n, c := guest(t, func(*enroll.Deps) {})
	v.decision.RefreshAfter = 48 * time.Hour
	got := w.renewWith(n, c.Serial, "ann's token")
	if got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	end, asked := w.time().Add(48*time.Hour), v.asked
	c = parse[certificate](t, got.Body.Bytes())
	w.later(c.RenewAfter.Sub(w.time()))
	c = w.again(n, c, end)
	if !w.last(c, end) || v.asked != asked {
		t.Errorf("good until %s, want %s; asked %d times", c.ExpiresAt, end, v.asked-asked)
	}
	if got := w.renewWith(n, c.Serial, ""); got.Code != 403 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// TestTheProviderVouchesAgain: with a fresh proof the policy decides anew, on the claims
// of now.
func TestTheProviderVouchesAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*world, *vouching)
		token  string
		status int
		says   string
	}{
		"as before":               {nil, "ann's token", 201, `"tier":"tactical"`},
		"with another grant":      {func(_ *world, v *vouching) { v.decision.Grant.Tier = cert.Edge }, "ann's token", 201, `"tier":"edge"`},
		"to a policy that denies": {func(_ *world, v *vouching) { v.decision = policy.Decision{Rule: "nobody"} }, "ann's token", 403, "policy does not let"},
		"of somebody else":        {nil, "bob's token", 401, "not accepted"},
		"that is not good":        {nil, "x", 401, "not accepted"},
		"though one is to agree":  {func(_ *world, v *vouching) { v.decision.Review = true }, "ann's token", 201, `"tier":"tactical"`},
		"once offboarded": {func(w *world, _ *vouching) {
			w.do("POST", "/orgs/acme/identity/offboard", `{"provider_id":"idp","subject":"ann"}`, 200)
		}, "ann's token", 403, "policy does not let"},
	} {
		t.Run(name, func(t *testing.T) {
			w, v, n, c := guest(t)
			if tc.change != nil {
				tc.change(w, v)
			}
			claims := v.people["ann's token"]
			claims.ExpiresAt = w.time().Add(20 * time.Hour)
			v.people["ann's token"] = claims
			got := w.renewWith(n, c.Serial, tc.token)
			if got.Code != tc.status || !strings.Contains(got.Body.String(), tc.says) {
				t.Fatalf("%d, want %d and %q: %s", got.Code, tc.status, tc.says, got.Body)
			}
			r := v.requests[len(v.requests)-1]
			if tc.status != 201 {
				if denied := w.denials(); len(denied) != 1 {
					t.Errorf("%+v", denied)
				}
				return
			}
			if !r.Renewal || r.Wants.Tier != cert.Tactical {
				t.Errorf("the policy was asked %+v", r)
			}
			// What it said now is believed from now on.
			next := parse[certificate](t, got.Body.Bytes())
			w.later(next.RenewAfter.Sub(w.time()))
			w.again(n, next, c.IssuedAt.Add(12*time.Hour))
		})
	}
}

// TestAnOutage: while a provider that should vouch again does not answer, renewals go on
// within the grace, visibly, and no longer.
func TestAnOutage(t *testing.T) {
	for name, token := range map[string]string{"with a proof that cannot be checked": "ann's token", "without one": ""} {
		t.Run(name, func(t *testing.T) {
			w, v, n, c := guest(t, func(d *enroll.Deps) { d.Grace = 2 * time.Hour })
			end := v.people["ann's token"].ExpiresAt
			c = w.again(n, c, end)
			v.set(func(v *vouching) { v.down = true })
			renewals := 0
			for {
				got := w.renewWith(n, c.Serial, token)
				if got.Code == 503 && strings.Contains(got.Body.String(), "does not answer") {
					break
				}
				if got.Code != 201 || renewals > 10 {
					t.Fatalf("%d %s", got.Code, got.Body)
				}
				renewals++
				c = parse[certificate](t, got.Body.Bytes())
				if c.ExpiresAt.After(end.Add(2 * time.Hour)) {
					t.Errorf("good until %s: past the grace", c.ExpiresAt)
				}
				w.later(c.RenewAfter.Sub(w.time()))
			}
			if renewals < 2 {
				t.Errorf("renewed %d times", renewals)
			}
			graced := 0
			for _, a := range w.trail() {
				if a.Action == "certificate.renew" && a.Detail["grace_until"] != nil {
					graced++
				}
			}
			if graced != renewals || strings.Count(w.log.String(), "although its identity provider does not answer") != renewals {
				t.Errorf("%d renewals, %d in the trail: %s", renewals, graced, w.log.String())
			}
			if strings.Contains(w.log.String(), "10.1.2.3") {
				t.Error("the log has the provider's address")
			}
			// It answers again: nothing but its word will do.
			v.set(func(v *vouching) { v.down = false })
			w.later(time.Minute)
			if got := w.renewWith(n, c.Serial, ""); got.Code != 403 {
				t.Errorf("%d %s", got.Code, got.Body)
			}
		})
	}
}

// TestNoGrace: a provider that answers, that was disabled or that is no more is no
// outage, and without a grace there is none.
func TestNoGrace(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*world, *vouching)
		deps   func(*enroll.Deps)
		status int
	}{
		"it answers":     {func(*world, *vouching) {}, func(*enroll.Deps) {}, 403},
		"it is disabled": {func(w *world, v *vouching) { v.down = true; w.alter(`UPDATE identity_providers SET enabled = FALSE`) }, func(*enroll.Deps) {}, 403},
		"it was deleted": {func(w *world, v *vouching) { v.down = true; w.alter(`DELETE FROM identity_providers`) }, func(*enroll.Deps) {}, 403},
		"no grace":       {func(_ *world, v *vouching) { v.down = true }, func(d *enroll.Deps) { d.Grace = 0 }, 503},
	} {
		t.Run(name, func(t *testing.T) {
			w, v, n, c := guest(t, tc.deps)
			end := v.people["ann's token"].ExpiresAt
			c = w.again(n, c, end)
			tc.change(w, v)
			if got := w.renewWith(n, c.Serial, ""); got.Code != tc.status {
				t.Errorf("%d, want %d: %s", got.Code, tc.status, got.Body)
			}
		})
	}
}

// TestOthersNeedNoProof: a node that a token let in is renewed as before, and a proof of
// identity is nothing to it.
func TestOthersNeedNoProof(t *testing.T) {
	w, v := vouched(t, engines["sqlite"](t))
	n := newNode("alpha-1", 1)
	c := w.issue(n)
	w.later(c.RenewAfter.Sub(w.time()))
	if got := w.renewWith(n, c.Serial, "ann's token"); got.Code != 422 || !strings.Contains(got.Body.String(), "/identity") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := w.renewWith(n, c.Serial, ""); got.Code != 201 || v.asked != 0 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// TestOffboarding: no node of somebody who has left is let in or renewed, what they have
// is revoked if asked, and it can be taken back.
func TestOffboarding(t *testing.T) {
	w, _, n, c := guest(t)
	w.later(time.Second)
	if got := w.enroll(w.claim(newNode("alpha-2", 2), "ann's token", nil)); got.Code != 201 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	other := w.enroll(w.claim(newNode("beta-1", 3), "bob's token", nil))
	offboard := func(more string) map[string]any {
		return parse[map[string]any](t, w.do("POST", "/orgs/acme/identity/offboard", `{"provider_id":"idp","subject":"ann","reason":"left"`+more+`}`, 200))
	}
	if out := offboard(""); out["revoked_certificates"] != nil {
		t.Errorf("%v", out)
	}
	if got := w.renewWith(n, c.Serial, ""); got.Code != 403 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := w.enroll(w.claim(newNode("alpha-3", 4), "ann's token", nil)); got.Code != 403 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if w.get(c.Serial).State != "active" {
		t.Error("revoked, and nobody asked for that")
	}
	if out := offboard(`,"certificates":true`); fmt.Sprint(out["revoked_certificates"]) != "2" {
		t.Errorf("%v", out)
	}
	if out := offboard(`,"certificates":true`); fmt.Sprint(out["revoked_certificates"]) != "0" {
		t.Errorf("again: %v", out)
	}
	if got := w.get(c.Serial); got.State != "revoked" || got.Reason != "withdrawn" {
		t.Errorf("%+v", got)
	}
	if got := w.get(parse[certificate](t, other.Body.Bytes()).Serial); got.State != "active" {
		t.Errorf("somebody else's: %+v", got)
	}
	list := parse[struct{ Items []map[string]any }](t, w.do("GET", "/orgs/acme/identity/offboarded", nil, 200)).Items
	if len(list) != 1 || list[0]["subject"] != "ann" || list[0]["reason"] != "left" || list[0]["offboarded_by"] != "bootstrap-admin" {
		t.Errorf("%v", list)
	}
	w.do("POST", "/orgs/acme/identity/reinstate", `{"provider_id":"idp","subject":"ann"}`, 204)
	w.do("POST", "/orgs/acme/identity/reinstate", `{"provider_id":"idp","subject":"ann"}`, 404)
	if got := w.enroll(w.claim(newNode("alpha-3", 5), "ann's token", nil)); got.Code != 201 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	for name, body := range map[string]string{
		"no provider": `{"subject":"ann"}`, "no subject": `{"provider_id":"idp"}`, "a long one": `{"provider_id":"idp","subject":"` + strings.Repeat("x", 513) + `"}`,
		"a NUL": `{"provider_id":"idp","subject":"a\u0000"}`, "a long reason": `{"provider_id":"idp","subject":"a","reason":"` + strings.Repeat("x", 300) + `"}`,
	} {
		if got := w.call("POST", "/orgs/acme/identity/offboard", body); got.Code != 422 {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
}
