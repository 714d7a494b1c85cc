package test

import (
	"encoding/json"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/cloudevents"
	"github.com/defenseunicorns/peat-gateway/shared/driver/file"
	"github.com/defenseunicorns/peat-gateway/shared/driver/kafka"
	"github.com/defenseunicorns/peat-gateway/shared/driver/nats"
	"github.com/defenseunicorns/peat-gateway/shared/driver/redis"
	hooks "github.com/defenseunicorns/peat-gateway/shared/driver/webhook"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var driverKinds = map[string]struct {
	parse driver.Parse
	open  driver.Open
}{
	"webhook": {hooks.Parse, hooks.Open}, "cloudevents": {cloudevents.Parse, cloudevents.Open}, "nats": {nats.Parse, nats.Open},
	"kafka": {kafka.Parse, kafka.Open}, "redis": {redis.Parse, redis.Open}, "file": {file.Parse, file.Open},
}

// direct hands the payloads, as events, to a driver in batches, with no log before
// it and no cursor behind it.
func (d *deliveryBench) direct(kind string, config map[string]any) time.Duration {
	d.b.Helper()
	settings := driver.Settings{
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AttemptTimeout: 15 * time.Second, SinkDir: d.dir, Now: time.Now,
	}
	in, err := json.Marshal(config)
	if err != nil {
		d.b.Fatal(err)
	}
	divided, err := driverKinds[kind].parse(in, nil, settings)
	if err != nil {
		d.b.Fatal(err)
	}
	o := driver.Opening{Org: "bench", Sink: "direct", Settings: settings}
	if o.Config, err = json.Marshal(divided.Public); err != nil {
		d.b.Fatal(err)
	}
	if divided.Secrets != nil {
		if o.Secrets, err = json.Marshal(divided.Secrets); err != nil {
			d.b.Fatal(err)
		}
	}
	opened, err := driverKinds[kind].open(o)
	if err != nil {
		d.b.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	events := d.events()
	runtime.GC() // of what making them left
	begin := time.Now()
	for batch := range slices.Chunk(events, benchBatch) {
		for _, o := range opened.Deliver(d.b.Context(), batch, begin.Add(5*time.Minute)) {
			if o.Verdict != driver.Delivered {
				d.b.Fatalf("the %s driver: %+v", kind, o)
			}
		}
	}
	return time.Since(begin)
}

// events are the payloads as a driver gets them.
func (d *deliveryBench) events() []driver.Event {
	out := make([]driver.Event, 0, len(d.payloads))
	for _, payload := range d.payloads {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(payload, &members); err != nil {
			d.b.Fatal(err)
		}
		e := driver.Event{Key: tenant.Key{Org: "bench", App: "log"}}
		e.Data = members["data"]
		delete(members, "data")
		for name, raw := range members {
			var value string
			if err := json.Unmarshal(raw, &value); err != nil {
				d.b.Fatal(err)
			}
			e.Attributes = append(e.Attributes, event.Attribute{Name: name, Value: value})
		}
		e.ID, e.Document = e.Attribute("id"), e.Attribute("subject")
		out = append(out, e)
	}
	return out
}

// sinkDir is a folder for the files of drivers that stand alone.
func sinkDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(b.TempDir(), "sinks")
	if err != nil {
		b.Fatal(err)
	}
	return dir
}
