package sinks

import (
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

// note writes the audit entry and the event of an act on a sink, as it was before
// and is after; either is nil if there was or is none.
func (a *Admin) note(tx *store.Tx, r *http.Request, before, after *delivery.Sink, action, eventType string) error {
	sink := after
	if sink == nil {
		sink = before
	}
	entry := a.audit(r, *sink, action, sink.ID)
	if before != nil {
		entry.Detail["before"] = told(*before)
	}
	if after != nil {
		entry.Detail["after"] = told(*after)
	}
	if err := tx.AppendAudit(r.Context(), entry); err != nil {
		return err
	}
	return tx.Enqueue(r.Context(), event.Sink(eventType, sinkData(*sink), a.Now()))
}

// told is what the audit trail says of a sink. Its secrets are in an envelope, of
// which there is nothing to say but whether there is one.
func told(s delivery.Sink) map[string]any {
	out := map[string]any{
		"source": s.Source, "formations": s.Formations, "config": s.Config, "format": s.Format, "filter": s.Filter, "state": s.State, "has_secrets": s.Sealed != nil,
	}
	if s.Retry != nil {
		out["retry"] = s.Retry
	}
	if s.Reason != "" {
		out["reason"] = s.Reason
	}
	return out
}

// audit begins the entry of an act on a sink by the request's caller.
func (a *Admin) audit(r *http.Request, sink delivery.Sink, action, target string) store.Audit {
	return store.Audit{
		Org: sink.Org, At: a.Now(), Actor: access.FromContext(r.Context()).Name, Action: action, Target: target,
		RequestID: web.RequestID(r.Context()), Detail: map[string]any{"kind": sink.Kind},
	}
}

// sent writes the audit entry of an event that was sent because somebody asked.
func (a *Admin) sent(r *http.Request, sink delivery.Sink, action string, ok bool) error {
	entry := a.audit(r, sink, action, sink.ID)
	entry.Detail["ok"] = ok
	return a.Store.InTx(r.Context(), func(tx *store.Tx) error { return tx.AppendAudit(r.Context(), entry) })
}
