package sinks

import (
	"encoding/json"

	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/driver"
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
	// place names where a sink writes, if two that write a formation's documents to
	// one place would spoil each other's order; nil: there is no such harm.
	place func(config json.RawMessage, s driver.Settings) string
}

// kinds is every kind of sink there is.
var kinds = map[delivery.Kind]kind{
	delivery.Webhook: {webhook.Parse, webhook.Open, nil},
	delivery.NATS:    {nats.Parse, nats.Open, nats.Subjects},
	delivery.Kafka:   {kafka.Parse, kafka.Open, nil},
	delivery.Redis:   {redis.Parse, redis.Open, nil},
	delivery.File:    {file.Parse, file.Open, nil},
	delivery.Stdout:  {file.ParseStdout, file.OpenStdout, nil},
}
