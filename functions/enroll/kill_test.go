package enroll_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/faultpoint/faultpointtest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// after is the beginning of a list.
var after store.After

// story does everything that can be done to certificates and authorities.
func story(w *world) {
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
}

// often is how many times the story passes a step, where that is more than once.
var often = map[string]int{
	"issue/signed": 6, "issue/certificate-kept": 6, "issue/node-bound": 6, "issue/audited": 6, "issue/committed": 6,
	"rotation/changed": 4, "rotation/audited": 4, "rotation/committed": 4,
}

// TestKilledAtEveryStep kills a gateway at each step of issue, revocation and
// rotation. What it leaves fits together, and another goes on with it.
func TestKilledAtEveryStep(t *testing.T) {
	if faultpointtest.Child() {
		story(openWorld(t, os.Getenv("WHERE")))
		return
	}
	for engine, url := range engines {
		for _, step := range faultpointtest.Complete(t, ".", "") {
			for nth := 1; nth <= max(1, often[step]); nth++ {
				t.Run(fmt.Sprintf("%s/%s/%d", engine, step, nth), func(t *testing.T) {
					t.Parallel()
					where := url(t)
					faultpointtest.Kill(t, step, nth, "WHERE="+where)
					w := openWorld(t, where)
					w.later(30 * time.Second)
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
