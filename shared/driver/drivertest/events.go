// Package drivertest gives the tests of drivers what they have in common, and holds
// what every driver must show.
package drivertest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// What the tests' events are of.
var (
	Key   = tenant.Key{Org: "acme", App: "logistics"}
	Start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

// Loopback is what a driver's settings must allow to reach a server of a test.
var Loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// Soon is later than anything that a test waits for.
func Soon() time.Time { return time.Now().Add(time.Minute) }

// Events makes events "document/number" that carry their name.
func Events(names ...string) []driver.Event {
	var out []driver.Event
	for _, n := range names {
		document, _, _ := strings.Cut(n, "/")
		out = append(out, driver.Event{ID: "id-" + n, Key: Key, Document: document, Encoded: event.Encoded{
			Attributes: []event.Attribute{
				{Name: "specversion", Value: "1.0"}, {Name: "id", Value: "id-" + n}, {Name: "source", Value: "/orgs/acme"},
				{Name: "type", Value: "changed"}, {Name: "subject", Value: document}, {Name: "datacontenttype", Value: "application/json"},
				{Name: "time", Value: "2026-03-04T05:06:07Z"}, {Name: "sequence", Value: "7"},
			},
			Data: []byte(`{"name":"` + n + `"}`),
		}})
	}
	return out
}

// WantDelivered fails the test unless everything was delivered.
func WantDelivered(t testing.TB, outs []driver.Outcome) {
	t.Helper()
	for i, o := range outs {
		if o.Verdict != driver.Delivered {
			t.Fatalf("%d: %+v", i, o)
		}
	}
}

// Verdicts is a letter for each outcome: u, d, r or R (refused).
func Verdicts(outs []driver.Outcome) string {
	var out strings.Builder
	for _, o := range outs {
		out.WriteByte("udrR"[o.Verdict])
	}
	return out.String()
}

// DeliverAll delivers the events named, and fails the test unless all of them are.
func DeliverAll(t testing.TB, d driver.Driver, names ...string) {
	t.Helper()
	WantDelivered(t, d.Deliver(t.Context(), Events(names...), Soon()))
}

// Swell makes an event larger.
func Swell(e driver.Event, bytes int) driver.Event {
	e.Data = []byte(`{"name":"` + strings.Repeat("x", bytes) + `"}`)
	return e
}
