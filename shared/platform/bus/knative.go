package bus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// Knative publishes to the address that Knative puts into K_SINK.
type Knative struct {
	sink   string
	client *http.Client
}

// NewKnative returns a publisher to the given address.
//
// Some brokers answer only after every subscriber has, so the limit is long; the
// caller's context may shorten it.
func NewKnative(sink string) *Knative {
	return &Knative{sink: sink, client: &http.Client{Timeout: 2 * time.Minute}}
}

// Publish posts the event in structured mode.
func (k *Knative) Publish(ctx context.Context, e cloudevents.Event) error {
	body, err := InTrace(ctx, e).MarshalJSON()
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.sink, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("address of the broker: %w", err)
	}
	req.Header.Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
	resp, err := k.client.Do(req)
	if err != nil {
		return fault.Unavailable.Wrap(err, "the broker does not answer")
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fault.Unavailable.New("the broker answered %d", resp.StatusCode)
	}
	return nil
}
