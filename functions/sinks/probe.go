package sinks

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// test sends an event that means nothing, now, whatever the sink's state, and
// tells what became of it.
func (a *Admin) test(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	e := event.SinkTest(sink.Org, sink.ID, a.Now())
	encoded, err := event.Encode(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Settings.AttemptTimeout)
	defer cancel()
	began := time.Now()
	d, err := a.openSink(ctx, sink)
	if err != nil {
		return fault.Unavailable.Wrap(err, "the sink cannot be opened")
	}
	defer func() { _ = d.Close() }()
	it := driver.Event{ID: e.ID(), Key: tenant.Key{Org: sink.Org, App: driver.TestApp}, Document: sink.ID, Encoded: encoded}
	out := d.Deliver(ctx, []driver.Event{it}, time.Now().Add(a.Settings.AttemptTimeout))[0]
	answer := testWire{Delivered: out.Verdict == driver.Delivered, DurationMS: float64(time.Since(began).Microseconds()) / 1000}
	if !answer.Delivered {
		answer.Error = out.Reason
		if answer.Error == "" {
			answer.Error = "no answer in time"
		}
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}
