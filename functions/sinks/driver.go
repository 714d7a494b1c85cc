package sinks

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// driver sends events to one sink. Several formations may use it at once.
type driver interface {
	// Deliver sends a batch in which the events of one document are in order, and
	// answers for each. It never sends an event after an earlier one of the same
	// document that was not delivered: such an event is untried. It begins nothing
	// new after until; when ctx is cancelled it also breaks off what it began.
	Deliver(ctx context.Context, batch []item, until time.Time) []outcome
	Close() error
}

// item is one event as it goes over the wire.
type item struct {
	id       string // of the event: receivers tell repeats by it
	key      tenant.Key
	document string // what the order is kept within; a test event has the sink's id here
	body     []byte // a CloudEvent, structured JSON
}

// documentOf names an item's document across formations.
func documentOf(it item) string { return it.key.String() + "/" + it.document }

// kind is what the gateway must know of a kind of sink.
type kind struct {
	// parse checks a configuration and divides it.
	parse func(in json.RawMessage, s Settings) (config, error)
	// open makes a driver ready. What it cannot reach now it may also reach later,
	// in Deliver.
	open func(o opening) (driver, error)
}

// config is a configuration, divided by who may see it.
type config struct {
	public  any    // returned by the API
	secrets any    // sealed; nil if there are none
	once    string // a secret the gateway made, told once; empty if it made none
	claims  string // no two sinks may claim the same; empty claims nothing
}

// opening is what a driver is made of.
type opening struct {
	sink     delivery.Sink
	secrets  []byte // as parse gave them, in JSON; nil if there are none
	settings Settings
	now      func() time.Time
}

// kinds is every kind of sink there is.
var kinds = map[delivery.Kind]kind{
	delivery.Webhook: {parseWebhook, openWebhook},
	delivery.NATS:    {parseNATS, openNATS},
	delivery.Kafka:   {parseKafka, openKafka},
	delivery.Redis:   {parseRedis, openRedis},
	delivery.File:    {parseFile, openFile},
	delivery.Stdout:  {parseStdout, openStdout},
}

// decodeConfig reads a configuration strictly: an option that is misspelt must
// not be silently without effect.
func decodeConfig(in json.RawMessage, into any) error {
	if len(bytes.TrimSpace(in)) == 0 || string(bytes.TrimSpace(in)) == "null" {
		in = json.RawMessage("{}")
	}
	err := web.DecodeJSON(in, into)
	f := fault.Of(err)
	if f == nil {
		return err
	}
	inside := *f
	inside.Message, inside.Fields = "config: "+f.Message, slices.Clone(f.Fields)
	for i := range inside.Fields {
		inside.Fields[i].Pointer = "/config" + inside.Fields[i].Pointer
	}
	return &inside
}

func invalid(pointer, detail string) error {
	return &fault.Error{
		Kind: fault.Invalid, Message: pointer + " " + detail,
		Fields: []fault.Field{{Pointer: "/" + pointer, Detail: detail}},
	}
}

// byDocument groups the places of a batch by document, documents in the order in
// which they first come.
func byDocument(batch []item) [][]int {
	var groups [][]int
	seen := make(map[string]int, len(batch))
	for i, it := range batch {
		name := it.key.String() + "/" + it.document
		g, ok := seen[name]
		if !ok {
			g = len(groups)
			seen[name] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}
