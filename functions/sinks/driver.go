package sinks

import (
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
}

// kinds is every kind of sink there is.
var kinds = map[delivery.Kind]kind{
	delivery.Webhook: {webhook.Parse, webhook.Open},
	delivery.NATS:    {nats.Parse, nats.Open},
	delivery.Kafka:   {kafka.Parse, kafka.Open},
	delivery.Redis:   {redis.Parse, redis.Open},
	delivery.File:    {file.Parse, file.Open},
	delivery.Stdout:  {file.ParseStdout, file.OpenStdout},
}
