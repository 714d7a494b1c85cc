package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
)

func (a *Admin) pause(w http.ResponseWriter, r *http.Request) error {
	return a.move(w, r, delivery.Paused, "", "sink.pause", event.SinkChangedType)
}

// resume also forgets what the sink was waiting for: whoever resumes it means now.
func (a *Admin) resume(w http.ResponseWriter, r *http.Request) error {
	return a.move(w, r, delivery.Active, "", "sink.resume", event.SinkResumedType)
}

// maxReason is longer than what anybody writes.
const maxReason = 1000

// disable is pause with a reason, for a sink that is not to be resumed lightly.
func (a *Admin) disable(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Reason string `json:"reason"`
	}
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	if in.Reason == "" || len(in.Reason) > maxReason {
		return driver.Invalid("reason", "must be one to 1000 bytes")
	}
	return a.move(w, r, delivery.Disabled, in.Reason, "sink.disable", event.SinkChangedType)
}

func (a *Admin) move(w http.ResponseWriter, r *http.Request, to delivery.State, reason, action, eventType string) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		now, err := tx.LockSink(r.Context(), sink.Org, sink.ID)
		if err != nil {
			return err
		}
		if err := web.IfMatch(r, tag(now)); err != nil {
			return err
		}
		if err := tx.SetSinkState(r.Context(), sink.Org, sink.ID, to, reason); err != nil {
			return err
		}
		if to == delivery.Active {
			if err := tx.WakeSink(r.Context(), sink.Org, sink.ID); err != nil {
				return err
			}
		}
		after := sink
		after.State, after.Reason = to, reason
		return a.note(tx, r, &sink, &after, action, eventType)
	}); err != nil {
		return err
	}
	a.Notify()
	sink.State, sink.Reason = to, reason
	return a.show(w, r, http.StatusOK, sink, "")
}

// patch changes a sink's configuration, format, filter or ladder. What was sent
// and not yet recorded under the old ones is sent again under the new.
func (a *Admin) patch(w http.ResponseWriter, r *http.Request) error {
	sink, err := a.find(r)
	if err != nil {
		return err
	}
	if err := web.IfMatch(r, tag(sink)); err != nil {
		return err
	}
	var in sinkPatch
	if err := web.ReadJSON(r, &in); err != nil {
		return err
	}
	if sink.Source == delivery.AuditTrail && (in.Format != nil || in.Filter != nil) {
		return driver.Invalid("filter", "and format mean nothing for the audit trail, which leaves nothing out")
	}
	before := sink
	if in.Format != nil {
		if sink.Format, err = delivery.ParseFormat(*in.Format); err != nil {
			return err
		}
	}
	if in.Retry != nil {
		if sink.Retry, err = delivery.ParseRetry(in.Retry); err != nil {
			return err
		}
	}
	if in.Filter != nil {
		if _, err = filter.Compile(*in.Filter); err != nil {
			return err
		}
		sink.Filter = *in.Filter
	}
	once := ""
	if in.Config != nil {
		if once, err = a.reconfigure(r.Context(), &sink, in.Config); err != nil {
			return err
		}
	}
	if err := a.Store.InTx(r.Context(), func(tx *store.Tx) error {
		if in.Config != nil {
			if _, err := tx.LockOrg(r.Context(), sink.Org); err != nil {
				return err
			}
			if err := a.apart(r.Context(), tx, sink); err != nil {
				return err
			}
		}
		now, err := tx.LockSink(r.Context(), sink.Org, sink.ID)
		if err != nil {
			return err
		}
		if err := web.IfMatch(r, tag(now)); err != nil {
			return err
		}
		update := tx.UpdateSink
		if in.Config != nil {
			update = tx.UpdateSinkAndSecrets
		}
		changed, err := update(r.Context(), sink)
		if errors.Is(err, fault.Stale) {
			return fault.Conflict.New("sink %q was changed by somebody else meanwhile; look at it again", sink.ID)
		}
		if err != nil {
			return err
		}
		if in.Filter != nil {
			if err := tx.OweAnew(r.Context(), sink.Org, sink.ID); err != nil {
				return err
			}
		}
		sink = changed
		return a.note(tx, r, &before, &sink, "sink.update", event.SinkChangedType)
	}); err != nil {
		return err
	}
	a.Notify()
	return a.show(w, r, http.StatusOK, sink, once)
}

// reconfigure merges a patch into a sink's configuration. Secrets that the patch
// does not mention stay what they were, as long as they go to where they went: else
// whoever may change a sink could have them sent to himself. It returns a secret
// that was made anew.
func (a *Admin) reconfigure(ctx context.Context, sink *delivery.Sink, patch json.RawMessage) (string, error) {
	merged, ok := web.MergePatch(sink.Config, patch)
	if !ok {
		return "", driver.Invalid("config", "must be an object")
	}
	prior, err := a.unseal(ctx, *sink)
	if err != nil {
		return "", err
	}
	defer clear(prior)
	if leadsElsewhere(sink.Config, merged) {
		prior = ownSecrets(prior)
	}
	made, err := kinds[sink.Kind].parse(merged, prior, a.Settings.Settings)
	if err != nil {
		return "", err
	}
	if sink.Sealed, err = a.seal(ctx, sink.Org, sink.ID, made.Secrets); err != nil {
		return "", err
	}
	sink.Claim = made.Claims
	sink.Config, err = json.Marshal(made.Public)
	return made.Once, err
}

// unseal opens a sink's secrets; nil if it has none.
func (d Deps) unseal(ctx context.Context, sink delivery.Sink) ([]byte, error) {
	if sink.Sealed == nil {
		return nil, nil
	}
	return d.Keys.Open(ctx, keyring.OfSink(sink.Org, sink.ID), sink.Sealed)
}

// leadsElsewhere reports whether a configuration names a host that the one before
// did not.
func leadsElsewhere(before, after json.RawMessage) bool {
	known := map[string]bool{}
	for _, h := range hosts(before) {
		known[h] = true
	}
	return slices.ContainsFunc(hosts(after), func(h string) bool { return !known[h] })
}

// hosts is every host, with its port, that a configuration of any kind names.
func hosts(config json.RawMessage) []string {
	var out []string
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, inside := range v {
				walk(name, inside)
			}
		case []any:
			for _, inside := range v {
				walk(name, inside)
			}
		case string:
			switch name {
			case "url", "urls", "token_url":
				if u, err := url.Parse(v); err == nil {
					out = append(out, u.Scheme+"://"+u.Host)
				}
			case "brokers", "server_name":
				out = append(out, v)
			}
		}
	}
	var v any
	_ = json.Unmarshal(config, &v)
	walk("", v)
	return out
}

// ownSecrets is what of a sink's secrets never leaves us: keys that sign.
func ownSecrets(secrets []byte) []byte {
	var all, own map[string]json.RawMessage
	if secrets == nil || json.Unmarshal(secrets, &all) != nil {
		return nil
	}
	own = map[string]json.RawMessage{}
	for _, name := range []string{"secret", "previous"} {
		if v, ok := all[name]; ok {
			own[name] = v
		}
	}
	out, err := json.Marshal(own)
	if err != nil {
		return nil
	}
	return out
}
