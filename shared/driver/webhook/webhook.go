// Package webhook is the sink that posts events to a URL, signed by Standard
// Webhooks 1.0, one per request or several.
package webhook

import (
	"context"
	"net/http"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget"
	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

// webhook posts events to a URL.
type webhook struct {
	*httptarget.Target // closes and assesses
	signer             *signer
	batch              *batchConfig
}

// Open makes a driver of a configuration.
func Open(o driver.Opening) (driver.Driver, error) {
	var c webhookConfig
	var s webhookSecrets
	if err := o.Read(&c, &s); err != nil {
		return nil, err
	}
	sign, err := newSigner(c, s, o)
	if err != nil {
		return nil, err
	}
	target, err := c.Config.Open(s.Secrets, o.Settings, judge)
	if err != nil {
		return nil, err
	}
	return &webhook{Target: target, signer: sign, batch: c.Batch}, nil
}

// judge says what a status means. Most of 4xx is about the event; 401 is about us,
// and no event can do better than the one that met it.
func judge(status int) driver.Outcome {
	switch {
	case status == http.StatusGone:
		return driver.Outcome{Verdict: driver.Retry, Gone: true}
	case status == http.StatusUnauthorized:
		return driver.Outcome{Verdict: driver.Retry, Unreachable: true}
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status/100 == 5:
		return driver.Outcome{Verdict: driver.Retry}
	}
	return driver.Outcome{Verdict: driver.Refused}
}

// Deliver posts the documents side by side, each document's events in order.
func (w *webhook) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	if w.batch != nil {
		return w.deliverBatches(ctx, batch, until)
	}
	return w.Target.Deliver(ctx, batch, until, w.post)
}

func (w *webhook) post(ctx context.Context, e driver.Event) driver.Outcome {
	m := w.signer.begin(e.ID, e.Size()+64)
	m.text = e.AppendJSON(m.text)
	return w.send(ctx, e.ID, "application/cloudevents+json", m)
}

// send posts a message under the headers of Standard Webhooks 1.0.
func (w *webhook) send(ctx context.Context, id, contentType string, m message) driver.Outcome {
	h := w.Header()
	values := [...]string{contentType, id, m.stamp, w.signer.sign(m)} // one piece of memory for four lists
	h["Content-Type"] = values[0:1:1]
	h["Webhook-Id"] = values[1:2:2]
	h["Webhook-Timestamp"] = values[2:3:3]
	h["Webhook-Signature"] = values[3:4:4]
	tracing.Inject(ctx, h)
	return w.Post(ctx, h, m.text[m.body:])
}
