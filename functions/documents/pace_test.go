package documents

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// An organization that has fetched more than its quota allows is told when to come
// back, and then is served.
func TestBytesPerSecond(t *testing.T) {
	w := newWorld(t, Settings{})
	now := start
	w.f.Now = func() time.Time { return now }
	w.tx(func(tx *store.Tx) error {
		q := tenant.DefaultQuotas()
		q.MaxCDCBytesPerSecond = 1000
		return tx.UpdateOrg(context.Background(), tenant.Org{ID: key.Org, DisplayName: "x", Quotas: q})
	})
	w.writeSized(5000, "a", "a")
	first := w.page(events + "?limit=1")
	if len(first.Items) != 1 {
		t.Fatalf("%d events", len(first.Items))
	}
	path := events + "?limit=1&cursor=" + first.Next
	refused := w.call("GET", path, "", 429, nil)
	wait, err := strconv.Atoi(refused.Header().Get("Retry-After"))
	if err != nil || wait < 5 || wait > 10 {
		t.Errorf("Retry-After %q after 5 kB at 1 kB/s", refused.Header().Get("Retry-After"))
	}
	w.call("GET", cdc+"/stream", "", 429, nil)
	now = now.Add(time.Duration(wait) * time.Second)
	if second := w.page(path); len(second.Items) != 1 {
		t.Errorf("%d events after the wait", len(second.Items))
	}
}
