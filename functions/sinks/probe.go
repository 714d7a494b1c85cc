package sinks

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// test sends an event that means nothing, now, whatever the sink's state, and
// tells what became of it.
func (a *Admin) test(w http.ResponseWriter, r *http.Request) error {
	sink, it, err := a.testEvent(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Settings.AttemptTimeout)
	defer cancel()
	began := time.Now()
	d, err := a.openSink(ctx, sink)
	if err != nil {
		return fault.Unavailable.Wrap(err, "the sink cannot be opened")
	}
	defer func() { _ = d.Close() }()
	out := a.send(ctx, d, it)
	answer := testWire{Delivered: out.Verdict == driver.Delivered, DurationMS: millis(time.Since(began))}
	if !answer.Delivered {
		answer.Error = why(out)
	}
	if err := a.sent(r, sink, "sink.test", answer.Delivered); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}

// testEvent finds the sink of the path and makes an event for it.
func (a *Admin) testEvent(r *http.Request) (delivery.Sink, driver.Event, error) {
	sink, err := a.find(r)
	if err != nil {
		return sink, driver.Event{}, err
	}
	e := event.SinkTest(sink.Org, sink.ID, a.Now())
	encoded, err := event.Encode(e)
	if err != nil {
		return sink, driver.Event{}, fmt.Errorf("encode event: %w", err)
	}
	return sink, driver.Event{ID: e.ID(), Key: tenant.Key{Org: sink.Org, App: driver.TestApp}, Document: sink.ID, Encoded: encoded}, nil
}

func (a *Admin) send(ctx context.Context, d driver.Driver, it driver.Event) driver.Outcome {
	return d.Deliver(ctx, []driver.Event{it}, time.Now().Add(a.Settings.AttemptTimeout))[0]
}

// why is the reason for an event that was not delivered.
func why(out driver.Outcome) string {
	if out.Reason == "" {
		return "no answer in time"
	}
	return out.Reason
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// check opens a sink, reaches it, grades how it keeps what it acknowledges and
// sends a test event, as far as it gets.
func (a *Admin) check(w http.ResponseWriter, r *http.Request) error {
	sink, it, err := a.testEvent(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Settings.AttemptTimeout)
	defer cancel()
	began := time.Now()
	d, err := a.openSink(ctx, sink)
	open := stepWire{Name: "open", OK: err == nil, DurationMS: millis(time.Since(began))}
	if err != nil {
		a.Log.ErrorContext(ctx, "sink cannot be opened", "org", sink.Org, "sink", sink.ID, "err", err)
		open.Detail = "the sink's configuration or secrets cannot be opened"
		if err := a.sent(r, sink, "sink.check", false); err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, checkWire{Steps: []stepWire{open}, Reasons: []string{}})
	}
	defer func() { _ = d.Close() }()
	out := a.examine(ctx, d, it)
	out.Steps = append([]stepWire{open}, out.Steps...)
	if err := a.sent(r, sink, "sink.check", !slices.ContainsFunc(out.Steps, func(s stepWire) bool { return !s.OK })); err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// examine is check on an open driver.
func (a *Admin) examine(ctx context.Context, d driver.Driver, it driver.Event) checkWire {
	out := checkWire{Reasons: []string{}}
	reach, durability := stepWire{Name: "reach"}, stepWire{Name: "durability"}
	assessor, assesses := d.(driver.Assessor)
	if assesses {
		began := time.Now()
		found, err := assessor.Assess(ctx)
		reach.DurationMS = millis(time.Since(began))
		if reach.OK = err == nil; err == nil {
			out.Grade, out.Reasons = found.Grade, append(out.Reasons, found.Reasons...)
			durability.OK, durability.Detail = true, "grade "+string(found.Grade)
		} else {
			reach.Detail = err.Error()
			durability.Detail = "could not be learned"
		}
	} else {
		durability.Detail = "this kind of sink does not tell how it keeps events"
		out.Reasons = append(out.Reasons, durability.Detail)
	}
	began := time.Now()
	sent := a.send(ctx, d, it)
	test := stepWire{Name: "test_event", OK: sent.Verdict == driver.Delivered, DurationMS: millis(time.Since(began))}
	if !test.OK {
		test.Detail = why(sent)
	}
	if !assesses {
		reach.OK, reach.DurationMS = !sent.Unreachable && sent.Verdict != driver.Untried, test.DurationMS
		if !reach.OK {
			reach.Detail = test.Detail
		}
	}
	out.Steps = []stepWire{reach, durability, test}
	out.OK = reach.OK && test.OK
	return out
}

// testWire tells what became of a test event.
type testWire struct {
	Delivered  bool    `json:"delivered"`
	Error      string  `json:"error,omitempty"`
	DurationMS float64 `json:"duration_ms"`
}

// checkWire tells how far a check got. It is not ok if events cannot be delivered,
// whatever the grade.
type checkWire struct {
	OK      bool         `json:"ok"`
	Grade   driver.Grade `json:"grade,omitempty"` // left out if it could not be learned
	Reasons []string     `json:"reasons"`         // what speaks against a better grade
	Steps   []stepWire   `json:"steps"`
}

type stepWire struct {
	Name       string  `json:"name"`
	OK         bool    `json:"ok"`
	Detail     string  `json:"detail,omitempty"`
	DurationMS float64 `json:"duration_ms"`
}
