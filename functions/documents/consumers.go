package documents

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// maxConsumers bounds how many consumers a formation may have.
const maxConsumers = 100

// seenEvery is how exactly it is known when a consumer was last seen. To write
// with every request would make reading as dear as writing.
const seenEvery = time.Minute

// putConsumer makes a consumer, or changes its format and filter if it is there
// already and they are said. Where it is, only acknowledging changes: the same request twice must not throw it back.
func (f *Function) putConsumer(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	log, err := f.open(r)
	if err != nil {
		return err
	}
	name, err := delivery.ParseConsumerName(r.PathValue("name"))
	if err != nil {
		return err
	}
	in := consumerRequest{Start: now}
	if err := web.ReadOptionalJSON(r, &in); err != nil {
		return err
	}
	format, err := delivery.ParseFormat(in.Format)
	if err != nil {
		return err
	}
	if in.Filter != nil {
		if _, err := filter.Compile(*in.Filter); err != nil {
			return err
		}
	}
	var c delivery.Consumer
	status := http.StatusOK
	err = f.Store.InTx(ctx, func(tx *store.Tx) error {
		// Locked, so that two requests cannot both take the last place.
		if _, err := tx.LockOrg(ctx, log.key.Org); err != nil {
			return err
		}
		if err := log.still(ctx, tx); err != nil {
			return err
		}
		status = http.StatusOK
		if c, err = tx.Consumer(ctx, log.key, name); err == nil {
			before := c
			if in.Format != "" {
				c.Format = format
			}
			if in.Filter != nil {
				c.Filter = *in.Filter
			}
			if err := tx.UpdateConsumer(ctx, c); err != nil || reflect.DeepEqual(before, c) {
				return err // who only makes sure that it is there does nothing that need be remembered
			}
			return tx.AppendAudit(ctx, f.audit(r, "consumer.update", &before, &c))
		} else if !errors.Is(err, fault.NotFound) {
			return err
		}
		status = http.StatusCreated
		c = delivery.Consumer{Org: log.key.Org, App: log.key.App, Name: name, Format: format, CreatedAt: store.Precise(f.Now())}
		if in.Filter != nil {
			c.Filter = *in.Filter
		}
		if c.Position, err = log.place(ctx, tx, in.Start, "start"); err != nil {
			return err
		}
		return f.keep(ctx, tx, r, c)
	})
	if err != nil {
		return err
	}
	return f.writeConsumer(w, r, log, c, status)
}

// keep writes a new consumer down, if there may be one more.
func (f *Function) keep(ctx context.Context, tx *store.Tx, r *http.Request, c delivery.Consumer) error {
	n, err := tx.CountConsumers(ctx, c.Key())
	if err != nil {
		return err
	}
	if n >= maxConsumers {
		return fault.Exhausted.New("the formation has %d consumers, which is the most it may", maxConsumers)
	}
	if err := tx.CreateConsumer(ctx, c); err != nil {
		return err
	}
	return tx.AppendAudit(ctx, f.audit(r, "consumer.create", nil, &c))
}

// find returns the path's consumer and a reader of its formation's log, in the
// consumer's format.
func (f *Function) find(r *http.Request) (delivery.Consumer, *reader, error) {
	log, err := f.open(r)
	if err != nil {
		return delivery.Consumer{}, nil, err
	}
	name, err := web.Path(r, "name", delivery.ParseConsumerName)
	if err != nil {
		return delivery.Consumer{}, nil, err
	}
	c, err := f.Store.Consumer(r.Context(), log.key, name)
	if err != nil {
		return delivery.Consumer{}, nil, err
	}
	log.format = c.Format
	log.filter, err = filter.Compile(c.Filter)
	return c, log, err
}

func (f *Function) getConsumer(w http.ResponseWriter, r *http.Request) error {
	c, log, err := f.find(r)
	if err != nil {
		return err
	}
	return f.writeConsumer(w, r, log, c, http.StatusOK)
}

func (f *Function) writeConsumer(w http.ResponseWriter, r *http.Request, log *reader, c delivery.Consumer, status int) error {
	lag, err := f.Store.LagAfter(r.Context(), log.key, c.Position, f.Now())
	if err != nil {
		return err
	}
	return web.WriteJSON(w, status, wireConsumer(c, log, lag))
}

func (f *Function) listConsumers(w http.ResponseWriter, r *http.Request) error {
	log, err := f.open(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	found, err := f.Store.Consumers(r.Context(), log.key, page.After, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, func(c delivery.Consumer) string { return c.Name })
	out := web.List[consumerWire]{Items: []consumerWire{}, Next: list.Next}
	for _, c := range list.Items {
		lag, err := f.Store.LagAfter(r.Context(), log.key, c.Position, f.Now())
		if err != nil {
			return err
		}
		out.Items = append(out.Items, wireConsumer(c, log, lag))
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

func (f *Function) deleteConsumer(w http.ResponseWriter, r *http.Request) error {
	c, _, err := f.find(r)
	if err != nil {
		return err
	}
	if err := f.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if err := tx.DeleteConsumer(r.Context(), c.Key(), c.Name); err != nil {
			return err
		}
		return tx.AppendAudit(r.Context(), f.audit(r, "consumer.delete", &c, nil))
	}); err != nil {
		return err
	}
	return web.NoContent(w)
}

// ackConsumer moves a consumer to a cursor: everything up to it is processed.
//
// Acknowledgements may overtake each other, so one that is behind changes nothing
// and is no mistake; the answer says where the consumer is. Only who says rewind
// means back.
func (f *Function) ackConsumer(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	c, log, err := f.find(r)
	if err != nil {
		return err
	}
	var in ackRequest
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	err = f.Store.InTx(ctx, func(tx *store.Tx) error {
		// Locked before the formation is looked at: both are of one time then.
		if c, err = tx.Consumer(ctx, log.key, c.Name); err != nil {
			return err
		}
		if err := log.still(ctx, tx); err != nil {
			return err
		}
		to, err := log.place(ctx, tx, in.Cursor, "cursor")
		if err != nil {
			return err
		}
		before := c
		back := to < c.Position
		if !back || in.Rewind {
			c.Position = to
		}
		c.SeenAt = store.Precise(f.Now())
		if err := tx.UpdateConsumer(ctx, c); err != nil || !back || !in.Rewind {
			return err
		}
		return tx.AppendAudit(ctx, f.audit(r, "consumer.rewind", &before, &c))
	})
	if err != nil {
		return err
	}
	return f.writeConsumer(w, r, log, c, http.StatusOK)
}

// getConsumerEvents answers with the events after what the consumer has
// acknowledged. It moves nothing: who asks again is given the same again.
func (f *Function) getConsumerEvents(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	c, log, err := f.find(r)
	if err != nil {
		return err
	}
	if err := f.see(r.Context(), c); err != nil {
		return err
	}
	return f.page(w, r, log, c.Position, q)
}

// getConsumerStream sends the events after what the consumer has acknowledged, or
// after the last one that a broken stream brought.
func (f *Function) getConsumerStream(w http.ResponseWriter, r *http.Request) error {
	c, log, err := f.find(r)
	if err != nil {
		return err
	}
	from, resumed, err := f.resumed(r, log)
	if err != nil {
		return err
	}
	if !resumed {
		from = c.Position
	}
	if err := f.see(r.Context(), c); err != nil {
		return err
	}
	return f.stream(w, r, log, from)
}

// see records that a consumer was here, if that is not known anyhow.
func (f *Function) see(ctx context.Context, c delivery.Consumer) error {
	now := store.Precise(f.Now())
	if now.Sub(c.SeenAt) < seenEvery {
		return nil
	}
	return f.Store.InTx(ctx, func(tx *store.Tx) error { return tx.SeeConsumer(ctx, c.Key(), c.Name, now) })
}

// audit is the entry of an act on a consumer, as it was before and is after; either
// is nil if there was or is none.
func (f *Function) audit(r *http.Request, action string, before, after *delivery.Consumer) store.Audit {
	detail := map[string]any{}
	var c delivery.Consumer
	for name, told := range map[string]*delivery.Consumer{"before": before, "after": after} {
		if told != nil {
			c = *told
			detail[name] = map[string]any{"position": c.Position, "format": c.Format, "filter": c.Filter}
		}
	}
	return store.Audit{
		Org: c.Org, At: f.Now(), Actor: access.FromContext(r.Context()).Name, Action: action,
		Target: string(c.App) + "/" + c.Name, RequestID: web.RequestID(r.Context()), Detail: detail,
	}
}
