package sinks

import (
	"encoding/json"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/cloudevents"
	"github.com/defenseunicorns/peat-gateway/shared/driver/file"
	"github.com/defenseunicorns/peat-gateway/shared/driver/kafka"
	"github.com/defenseunicorns/peat-gateway/shared/driver/nats"
	"github.com/defenseunicorns/peat-gateway/shared/driver/redis"
	"github.com/defenseunicorns/peat-gateway/shared/driver/webhook"
)

// kind is what the gateway must know of a kind of sink.
type kind struct {
	parse driver.Parse
	open  driver.Open

	// Optional.
	rotate func(prior []byte, overlap time.Duration, now time.Time) (driver.Config, error) // replaces a secret that the gateway made
	signs  func(config json.RawMessage) bool                                               // whether it needs the organization's keys
	// place names where a sink writes, if two that write a formation's documents to
	// one place would spoil each other's order; nil: there is no such harm.
	place func(config json.RawMessage, s driver.Settings) string
}

// kinds is every kind of sink there is.
var kinds = map[delivery.Kind]kind{
	delivery.Webhook:     {parse: webhook.Parse, open: webhook.Open, rotate: webhook.Rotate, signs: webhook.UsesOrgKeys},
	delivery.CloudEvents: {parse: cloudevents.Parse, open: cloudevents.Open},
	delivery.NATS:        {parse: nats.Parse, open: nats.Open, place: nats.Subjects},
	delivery.Kafka:       {parse: kafka.Parse, open: kafka.Open},
	delivery.Redis:       {parse: redis.Parse, open: redis.Open},
	delivery.File:        {parse: file.Parse, open: file.Open},
	delivery.Stdout:      {parse: file.ParseStdout, open: file.OpenStdout},
}
