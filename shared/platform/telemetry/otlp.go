package telemetry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/encoding/protowire"
)

// otlp sends spans to a collector by OTLP over HTTP, in protobuf. The library's
// exporter would bring gRPC along, which it does not use for this: a third more
// program for three message types that have not changed for years.
type otlp struct {
	url     string
	headers map[string]string
	client  *http.Client
	retry   time.Duration // before the first retry; doubles
}

func newOTLP(endpoint *url.URL, headers map[string]string) *otlp {
	return &otlp{url: endpoint.String(), headers: headers, retry: time.Second, client: &http.Client{
		Timeout: exportTimeout, // of one attempt
		// Where spans go is for the operator to say, not for whoever answers there.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ExportSpans sends spans, and again while the collector says that it is busy and
// ctx lasts.
func (o *otlp) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	body := appendSpans(nil, spans)
	for pause := o.retry; ; pause *= 2 {
		wait, err := o.send(ctx, body)
		if err == nil || wait < 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(max(wait, pause)):
		}
	}
}

// send makes one attempt. After a failure it returns how long the collector wants
// to be left alone, or less than nothing if the same need not be sent again.
func (o *otlp) send(ctx context.Context, body []byte) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return -1, errors.New("the collector's address cannot be used")
	}
	for name, value := range o.headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := o.client.Do(req)
	if err != nil {
		if asURL, ok := errors.AsType[*url.Error](err); ok {
			err = asURL.Err // without the address, which may hold a password
		}
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
		return time.Duration(seconds) * time.Second, fmt.Errorf("the collector answered %d", resp.StatusCode)
	}
	return -1, fmt.Errorf("the collector answered %d", resp.StatusCode)
}

// Shutdown lets the connections go.
func (o *otlp) Shutdown(context.Context) error {
	o.client.CloseIdleConnections()
	return nil
}

// The rest writes opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest.
// Numbers are those of its fields. Of what a span can have, events are left out, as
// ours have none.

// appendSpans appends spans of one process, which have one resource and one scope.
func appendSpans(b []byte, spans []sdktrace.ReadOnlySpan) []byte {
	if len(spans) == 0 {
		return b
	}
	return appendMessage(b, 1, func(b []byte) []byte { // ResourceSpans
		b = appendMessage(b, 1, func(b []byte) []byte { // Resource
			return appendAttributes(b, 1, spans[0].Resource().Attributes())
		})
		return appendMessage(b, 2, func(b []byte) []byte { // ScopeSpans
			b = appendMessage(b, 1, func(b []byte) []byte {
				return appendText(b, 1, spans[0].InstrumentationScope().Name)
			})
			for _, s := range spans {
				b = appendMessage(b, 2, func(b []byte) []byte { return appendSpan(b, s) })
			}
			return b
		})
	})
}

func appendSpan(b []byte, s sdktrace.ReadOnlySpan) []byte {
	b = appendContext(b, s.SpanContext())
	if s.Parent().HasSpanID() {
		id := s.Parent().SpanID()
		b = appendBytes(b, 4, id[:])
	}
	b = appendText(b, 5, s.Name())
	b = appendNumber(b, 6, uint64(s.SpanKind()))
	b = appendTime(b, 7, s.StartTime())
	b = appendTime(b, 8, s.EndTime())
	b = appendAttributes(b, 9, s.Attributes())
	b = appendNumber(b, 10, uint64(s.DroppedAttributes()))
	for _, l := range s.Links() {
		b = appendMessage(b, 13, func(b []byte) []byte {
			b = appendAttributes(appendContext(b, l.SpanContext), 4, l.Attributes)
			return appendFlags(b, 6, l.SpanContext)
		})
	}
	b = appendNumber(b, 14, uint64(s.DroppedLinks()))
	b = appendMessage(b, 15, func(b []byte) []byte {
		b = appendText(b, 2, s.Status().Description)
		return appendNumber(b, 3, statusCode(s.Status().Code))
	})
	return appendFlags(b, 16, s.SpanContext())
}

// appendContext appends what spans and links begin with.
func appendContext(b []byte, c trace.SpanContext) []byte {
	traceID, spanID := c.TraceID(), c.SpanID()
	b = appendBytes(b, 1, traceID[:])
	b = appendBytes(b, 2, spanID[:])
	return appendText(b, 3, c.TraceState().String())
}

func appendFlags(b []byte, field protowire.Number, c trace.SpanContext) []byte {
	b = protowire.AppendTag(b, field, protowire.Fixed32Type)
	return binary.LittleEndian.AppendUint32(b, uint32(c.TraceFlags()))
}

// statusCode is not the number that the library uses.
func statusCode(c codes.Code) uint64 {
	switch c {
	case codes.Ok:
		return 1
	case codes.Error:
		return 2
	}
	return 0
}

func appendAttributes(b []byte, field protowire.Number, attributes []attribute.KeyValue) []byte {
	for _, a := range attributes {
		b = appendMessage(b, field, func(b []byte) []byte {
			b = appendText(b, 1, string(a.Key))
			return appendMessage(b, 2, func(b []byte) []byte { return appendValue(b, a.Value) })
		})
	}
	return b
}

// appendValue appends an AnyValue, whose fields are written even if they are zero:
// which one is there is its type.
func appendValue(b []byte, v attribute.Value) []byte {
	switch v.Type() {
	case attribute.BOOL:
		b = protowire.AppendTag(b, 2, protowire.VarintType)
		return protowire.AppendVarint(b, protowire.EncodeBool(v.AsBool()))
	case attribute.INT64:
		b = protowire.AppendTag(b, 3, protowire.VarintType)
		return protowire.AppendVarint(b, uint64(v.AsInt64()))
	case attribute.FLOAT64:
		b = protowire.AppendTag(b, 4, protowire.Fixed64Type)
		return protowire.AppendFixed64(b, math.Float64bits(v.AsFloat64()))
	}
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	return protowire.AppendString(b, v.String()) // lists as text: we have none
}

func appendMessage(b []byte, field protowire.Number, content func([]byte) []byte) []byte {
	return appendBytes(b, field, content(nil))
}

func appendBytes(b []byte, field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), content)
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendTime(b []byte, field protowire.Number, t time.Time) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), uint64(t.UnixNano()))
}
