package enroll_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint/faultpointtest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// after is the beginning of a list.
var after store.After

// story does everything that can be done to certificates and authorities.
func story(w *world, v *vouching) {
	first, second := newNode("alpha-1", 1), newNode("alpha-2", 2)
	old := w.issue(first)
	w.issue(second)
	if got := w.enroll(w.wish(newNode("alpha-4", 4), w.entry("t1", 2), nil)); got.Code != 201 {
		w.t.Fatalf("%d %s", got.Code, got.Body)
	}
	w.later(time.Second)
	w.do("POST", base+"/authority/prepare", nil, 200)
	w.later(time.Second)
	w.do("POST", base+"/authority/activate", nil, 200)
	w.later(old.RenewAfter.Sub(w.time()))
	w.renew(first, old.Serial)
	third := w.issue(newNode("alpha-3", 3))
	w.do("POST", base+"/certificates/"+third.Serial+"/revoke", `{"reason":"device_lost"}`, 200)
	w.do("GET", base+"/revocations", nil, 200)
	w.later(time.Second)
	w.do("POST", base+"/authority/retire", map[string]any{"authority_id": "genesis", "force": true}, 200)
	w.later(time.Second)
	w.do("POST", base+"/authority/taint", map[string]any{"authority_id": w.authority("active"), "reason": "stolen"}, 200)
	w.later(time.Second)
	w.issue(second)
	w.people(v)
}

// people does everything that can be done to nodes that somebody vouches for.
func (w *world) people(v *vouching) {
	v.set(func(v *vouching) {
		for shown, claims := range v.people {
			claims.ExpiresAt = w.time().Add(8 * time.Hour)
			v.people[shown] = claims
		}
		once := v.people["ann's token"]
		once.ID, once.Once = "a1", true
		v.people["ann's assertion"] = once
	})
	w.later(time.Second)
	in := func(n node, token string, status int) *httptest.ResponseRecorder {
		w.t.Helper()
		w.later(time.Second)
		got := w.enroll(w.claim(n, token, nil))
		if got.Code != status {
			w.t.Fatalf("%d %s", got.Code, got.Body)
		}
		return got
	}
	in(newNode("ann-1", 21), "ann's assertion", 201)
	in(newNode("ann-2", 22), "ann's assertion", 409)
	v.set(func(v *vouching) { v.decision.Review = true })
	yes := parse[waiting](w.t, in(newNode("ann-3", 23), "ann's token", 202).Body.Bytes())
	no := parse[waiting](w.t, in(newNode("bob-1", 24), "bob's token", 202).Body.Bytes())
	w.decide(yes, "approve", 200)
	w.decide(no, "deny", 200)
	w.do("POST", "/orgs/acme/identity/offboard", `{"provider_id":"idp","subject":"ann","certificates":true}`, 200)
}

// waited fails the test unless each node that waits or waited has what was decided, and
// nothing else.
func (w *world) waited() {
	w.t.Helper()
	ctx := w.t.Context()
	all, err := w.store.Applications(ctx, key, "", w.time(), "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	serials := map[string]bool{}
	for _, a := range all {
		switch a.Standing {
		case enrollment.Accepted:
			c, err := w.store.Certificate(ctx, key, a.Serial)
			if err != nil || !bytes.Equal(c.Subject, a.Subject) || c.AdmittedBy != a.AdmittedBy || a.DecidedBy == "" {
				w.t.Errorf("%s was approved: %+v %v", a.NodeID, c, err)
			}
			serials[a.Serial] = true
		case enrollment.Waiting, enrollment.Rejected:
			if a.Serial != "" {
				w.t.Errorf("%s is %s and has a certificate", a.NodeID, a.Standing)
			}
		}
	}
	list, err := w.store.Certificates(ctx, key, authority.Filter{}, w.time(), after, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range list {
		if v, _, err := w.store.Voucher(ctx, key, c.Subject); err != nil || v.IsSet() != strings.HasPrefix(c.AdmittedBy, "identity:") {
			w.t.Errorf("%s is of %s, and %+v vouched: %v", c.NodeID, c.AdmittedBy, v, err)
		}
	}
	audited := map[string]int{}
	for _, a := range w.trail() {
		audited[a.Action]++
	}
	told := audited["enrollment.pending"] + audited["enrollment.deny"] + audited["enrollment.reject"]
	for _, c := range list {
		if c.AdmittedBy != "" && c.Replaces == "" {
			told++
		}
	}
	if events := slices.DeleteFunc(w.events(), func(e string) bool { return e != "enrollment.decided" }); audited["enrollment.pending"] != len(all) || len(events) != told {
		w.t.Errorf("%d wait or waited, %v are audited, and there are %d events of %d decisions", len(all), audited, len(events), told)
	}
}

// goesOn takes up what a gateway that was killed was about.
func (w *world) goesOn() {
	w.t.Helper()
	list, err := w.store.Applications(w.t.Context(), key, enrollment.Waiting, w.time(), "", 10)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range list {
		if gone, err := w.store.Offboarded(w.t.Context(), key.Org, a.Voucher.Provider, a.Voucher.Claimant); err != nil || !gone {
			w.do("POST", base+"/enrollments/"+a.ID+"/approve", nil, 200)
		}
	}
	w.do("POST", "/orgs/acme/identity/offboard", `{"provider_id":"idp","subject":"ann","certificates":true}`, 200)
	left, err := w.store.Certificates(w.t.Context(), key, authority.Filter{Standing: authority.Good}, w.time(), after, 1000)
	if err != nil || slices.ContainsFunc(left, func(c authority.Certificate) bool { return c.AdmittedBy == "identity:idp/ann" }) {
		w.t.Errorf("ann is gone and has certificates: %v", err)
	}
}

// often is how many times the story passes a step, where that is more than once.
var often = map[string]int{
	"issue/signed": 8, "issue/certificate-kept": 8, "issue/node-bound": 8, "issue/audited": 8, "issue/committed": 8,
	"enroll/challenge-used": 4, "queue/kept": 2, "queue/committed": 2, "offboard/revoked": 2,
	"rotation/changed": 4, "rotation/audited": 4, "rotation/committed": 4,
}

// TestKilledAtEveryStep kills a gateway at each step of issue, revocation and
// rotation. What it leaves fits together, and another goes on with it.
func TestKilledAtEveryStep(t *testing.T) {
	if faultpointtest.Child() {
		story(vouched(t, os.Getenv("WHERE")))
		return
	}
	for engine, url := range engines {
		for _, step := range faultpointtest.Complete(t, ".", "") {
			for nth := 1; nth <= max(1, often[step]); nth++ {
				if engine == "postgres" && nth > 1 && nth < often[step] {
					continue // the first and the last: a server takes its time
				}
				t.Run(fmt.Sprintf("%s/%s/%d", engine, step, nth), func(t *testing.T) {
					t.Parallel()
					where := url(t)
					faultpointtest.Kill(t, step, nth, "WHERE="+where)
					w := openWorld(t, where)
					w.later(30 * time.Second)
					w.whole()
					w.goesOn()
					w.whole()
					w.later(24 * time.Hour)
					w.issue(newNode("beta", 77))
					l, err := cert.DecodeRevocations(w.do("GET", base+"/revocations?format=binary", nil, 200))
					if err != nil || l.Verify() != nil {
						t.Errorf("%v", err)
					}
					w.whole()
				})
			}
		}
	}
}
