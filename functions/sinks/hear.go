package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Events is what delivery hears. An event only says where to look; what is to be
// done is in the store.
func (d *Delivery) Events() []bus.Subscription {
	return []bus.Subscription{
		{Type: event.LogAppendedType, Handle: d.onLogAppended},
		{Type: event.FormationResumedType, Handle: d.onLogAppended}, // there may be much behind the cursors
		{Type: event.SinkCreatedType, Handle: d.onSink},
		{Type: event.SinkResumedType, Handle: d.onSink},
		{Type: event.SinkChangedType, Handle: d.onSink},
		{Type: event.SinkDeletedType, Handle: d.onSink},
		{Type: event.DeadLetterRedriveType, Handle: d.onRedrive},
		{Type: event.AuditLinkedType, Handle: d.onAuditLinked},
	}
}

func (d *Delivery) onLogAppended(ctx context.Context, e cloudevents.Event) error {
	var data event.LogData
	if err := read(e, &data); err != nil {
		return err
	}
	key := tenant.Key{Org: data.Org, App: data.App}
	sinks, err := allSinks(ctx, d.Store, key.Org)
	if err != nil {
		return err
	}
	var pairs []pair
	for _, s := range sinks {
		if d.serves(s.Kind) && s.State.Served() && s.Covers(key.App) {
			pairs = append(pairs, pair{key, s.ID})
		}
	}
	return d.start(ctx, pairs)
}

func (d *Delivery) onSink(ctx context.Context, e cloudevents.Event) error {
	var data event.SinkData
	if err := read(e, &data); err != nil || !d.serves(delivery.Kind(data.Kind)) {
		return err
	}
	// Whatever it was waiting for, it is to be asked now.
	d.breakers.report(sinkKey{data.Org, data.Sink}, time.Time{})
	sink, err := d.Store.Sink(ctx, data.Org, data.Sink)
	if err != nil || !sink.State.Served() {
		d.connections.drop(sinkKey{data.Org, data.Sink})
		if errors.Is(err, fault.NotFound) {
			err = nil
		}
		return err
	}
	if sink.Source == delivery.AuditTrail {
		return d.start(ctx, []pair{trailOf(sink)})
	}
	lags, err := d.Store.Lag(ctx, sink, d.Now())
	if err != nil {
		return err
	}
	replaying, err := d.Store.RunningReplays(ctx, sink.Org, sink.ID)
	if err != nil {
		return err
	}
	var pairs []pair
	for _, l := range lags {
		if l.Events > 0 || slices.Contains(replaying, l.App) {
			pairs = append(pairs, pair{tenant.Key{Org: sink.Org, App: l.App}, sink.ID})
		}
	}
	return d.start(ctx, pairs)
}

func (d *Delivery) onRedrive(ctx context.Context, e cloudevents.Event) error {
	var data event.DeadLetterData
	if err := read(e, &data); err != nil || !d.serves(delivery.Kind(data.Kind)) {
		return err
	}
	return d.start(ctx, []pair{{tenant.Key{Org: data.Org, App: data.App}, data.Sink}})
}

func (d *Delivery) serves(k delivery.Kind) bool { return slices.Contains(d.Kinds, k) }

// read reads the data of an event; one that cannot be read never can be.
func read(e cloudevents.Event, into any) error {
	if err := json.Unmarshal(e.Data(), into); err != nil {
		return fault.Invalid.Wrap(err, "the event's data cannot be read")
	}
	return nil
}

// allSinks lists every sink of an organization.
func allSinks(ctx context.Context, s *store.Store, org tenant.OrgID) ([]delivery.Sink, error) {
	const page = 200
	var out []delivery.Sink
	for after := ""; ; after = out[len(out)-1].ID {
		sinks, err := s.Sinks(ctx, org, after, page)
		if err != nil {
			return nil, err
		}
		out = append(out, sinks...)
		if len(sinks) < page {
			return out, nil
		}
	}
}
