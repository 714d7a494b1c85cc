// Package cloudevents is the sink that posts events to anything that takes
// CloudEvents over HTTP: a Knative Broker, a service, another gateway.
package cloudevents

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget"
)

// cloudConfig is what a sink shows.
type cloudConfig struct {
	httptarget.Config
	Mode string `json:"mode"`
}

// The modes, by the HTTP binding of CloudEvents.
const (
	binary     = "binary"     // the attributes are headers, the data is the body
	structured = "structured" // the body is the whole event
)

// Parse checks the configuration of a cloudevents sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var c cloudConfig
	if err := driver.DecodeConfig(in, &c); err != nil {
		return driver.Config{}, err
	}
	switch c.Mode {
	case "":
		c.Mode = binary
	case binary, structured:
	default:
		return driver.Config{}, driver.Invalid("config/mode", "must be binary or structured")
	}
	var kept httptarget.Secrets
	if err := driver.Prior(prior, &kept); err != nil {
		return driver.Config{}, err
	}
	secrets, err := c.Config.Parse(kept, s, "ce-", "traceparent", "tracestate")
	if err != nil {
		return driver.Config{}, err
	}
	return driver.Config{Public: c, Secrets: secrets}, nil
}

// cloud posts events to a URL.
type cloud struct {
	*httptarget.Target // closes and assesses
	structured         bool
}

// Open makes a driver of a configuration.
func Open(o driver.Opening) (driver.Driver, error) {
	var c cloudConfig
	var s httptarget.Secrets
	if err := o.Read(&c, &s); err != nil {
		return nil, err
	}
	target, err := c.Config.Open(s, o.Settings, judge)
	if err != nil {
		return nil, err
	}
	return &cloud{Target: target, structured: c.Mode == structured}, nil
}

// judge follows Knative's rules for what is sent again: 404, 408, 409, 429 and 5xx.
// A Broker answers 404 until it is ready, so that one speaks for all events. 410 is,
// by the specification of CloudEvents' webhooks, a target that was retired.
func judge(status int) driver.Outcome {
	switch {
	case status == http.StatusGone:
		return driver.Outcome{Verdict: driver.Retry, Gone: true}
	case status == http.StatusNotFound, status == http.StatusUnauthorized:
		return driver.Outcome{Verdict: driver.Retry, Unreachable: true}
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooManyRequests, status/100 == 5:
		return driver.Outcome{Verdict: driver.Retry}
	}
	return driver.Outcome{Verdict: driver.Refused}
}

// Deliver posts an event per request, the documents side by side.
func (c *cloud) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	return c.Target.Deliver(ctx, batch, until, c.post)
}

func (c *cloud) post(ctx context.Context, e driver.Event) driver.Outcome {
	h := c.Header()
	if trace := e.Attribute("traceparent"); trace != "" {
		h["Traceparent"] = []string{trace} // for what knows traces and not CloudEvents
	}
	if c.structured {
		h["Content-Type"] = []string{"application/cloudevents+json"}
		return c.Post(ctx, h, e.Structured())
	}
	values := make([]string, 0, len(e.Attributes)) // one piece of memory for all lists
	for _, a := range e.Attributes {
		switch {
		case a.Value == "":
			continue // an attribute is not empty
		case a.Name == "datacontenttype":
			values = append(values, a.Value)
		default:
			values = append(values, escape(a.Value))
		}
		h[headerOf(a.Name)] = values[len(values)-1 : len(values) : len(values)]
	}
	return c.Post(ctx, h, e.Data)
}

// headers are the attributes that events of ours have, written as net/http wants it.
var headers = map[string]string{
	"datacontenttype": "Content-Type", "specversion": "Ce-Specversion", "id": "Ce-Id", "source": "Ce-Source", "type": "Ce-Type",
	"subject": "Ce-Subject", "time": "Ce-Time", "partitionkey": "Ce-Partitionkey", "sequence": "Ce-Sequence",
	"peatapp": "Ce-Peatapp", "peatorg": "Ce-Peatorg", "peatsink": "Ce-Peatsink", "traceparent": "Ce-Traceparent", "replayid": "Ce-Replayid",
}

func headerOf(attribute string) string {
	if h, ok := headers[attribute]; ok {
		return h
	}
	return http.CanonicalHeaderKey("ce-" + attribute)
}

// escape writes a value as the HTTP binding wants it (section 3.1.3.2): space, double
// quote, percent and whatever is not printable ASCII become %XX, byte by byte.
func escape(s string) string {
	if strings.IndexFunc(s, escaped) < 0 {
		return s
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || escaped(rune(c)) {
			out = append(out, '%', hex[c>>4], hex[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

func escaped(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '%' }
