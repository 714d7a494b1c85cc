package kafka

import (
	"encoding/binary"
	"errors"
	"math"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

const initProducerKey = 22 // of the protocol

func answerProducer(code int16) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(in kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the fake's order
		resp := in.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = code
		return resp, nil, true
	}
}

func TestProducerWithoutNumbers(t *testing.T) {
	var over atomic.Bool // others, who read, are answered as usual
	for name, prepare := range map[string]func(c *kfake.Cluster){
		"not allowed": func(c *kfake.Cluster) {
			c.ControlKey(initProducerKey, func(in kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the fake's order
				c.KeepControl()
				return answerProducer(31)(in)
			})
		},
		"not offered": func(c *kfake.Cluster) {
			c.ControlKey(18, func(in kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the fake's order
				c.KeepControl()
				if over.Load() {
					return nil, nil, false
				}
				resp := in.ResponseKind().(*kmsg.ApiVersionsResponse)
				for key, most := range map[int16]int16{0: 8, 3: 8, 18: 3} {
					k := kmsg.NewApiVersionsResponseApiKey()
					k.ApiKey, k.MinVersion, k.MaxVersion = key, 0, most
					resp.ApiKeys = append(resp.ApiKeys, k)
				}
				return resp, nil, true
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
			prepare(c)
			d := openTo(t, c)
			drivertest.DeliverAll(t, d, "a/1", "b/1", "a/2")
			// What breaks is sent again all the same.
			c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("gone"), true })
			drivertest.DeliverAll(t, d, "a/3", "a/4")
			over.Store(true)
			defer over.Store(false)
			produced(t, c, 5)
			if at := d.producer.at(place{"acme.logistics", 0}); at.numbering != (numbering{-1, -1, -1}) || !d.producer.denied {
				t.Errorf("%+v", at.numbering)
			}
		})
	}
}

func TestProducerIsAskedForAgain(t *testing.T) {
	c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
	d := openTo(t, c)
	c.ControlKey(initProducerKey, answerProducer(14)) // about to be ready
	drivertest.DeliverAll(t, d, "a/1")
	c.ControlKey(initProducerKey, answerProducer(29)) // not asked while there is one
	drivertest.DeliverAll(t, d, "a/2")
	produced(t, c, 2)
}

// Numbers end. The broker takes them from the beginning in another epoch, and after
// the last epoch by another producer.
func TestProducerRunsOutOfNumbers(t *testing.T) {
	for name, from := range map[string]numbering{
		"of records": {first: math.MaxInt32 - 1},
		"of epochs":  {epoch: math.MaxInt16, first: math.MaxInt32 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
			d := openTo(t, c)
			drivertest.DeliverAll(t, d, "a/1")
			at := d.producer.at(place{"acme.logistics", 0})
			id := at.producer
			at.renew()
			at.epoch = max(at.epoch, from.epoch)
			drivertest.DeliverAll(t, d, "a/2", "a/3")
			at.first = from.first
			at.settle(2)
			drivertest.DeliverAll(t, d, "a/4", "a/5")
			drivertest.DeliverAll(t, d, "a/6")
			produced(t, c, 6)
			if another := at.producer != id; another != (from.epoch == math.MaxInt16) || at.first != 3 {
				t.Errorf("%+v, after %d", at.numbering, id)
			}
		})
	}
}

// What comes in place of a batch in doubt is not taken for it.
func TestProducerInDoubt(t *testing.T) {
	for name, second := range map[string][]string{
		"the same": {"a/1", "b/1"}, "the same and more": {"a/1", "b/1", "a/2"}, "the same, of another order": {"b/1", "a/1"},
		"less": {"a/1"}, "others": {"c/1", "d/1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startKafka(t, kfake.SeedTopics(1, "acme.logistics"))
			d := openTo(t, c)
			drivertest.DeliverAll(t, d, "z/1")
			c.ControlKey(produceKey, answerProduce(7))
			if outs := d.Deliver(t.Context(), drivertest.Events("a/1", "b/1"), drivertest.Soon()); drivertest.Verdicts(outs) != "rr" {
				t.Fatalf("%+v", outs)
			}
			drivertest.DeliverAll(t, d, second...)
			drivertest.DeliverAll(t, d, "z/2")
			produced(t, c, 2+len(second))
			epoch := int16(1)
			if len(second) >= 2 && second[0] == "a/1" {
				epoch = 0
			}
			if at := d.producer.at(place{"acme.logistics", 0}); at.doubt != nil || at.epoch != epoch {
				t.Errorf("%+v", at)
			}
		})
	}
}

func TestVarintSizes(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 8191, 8192, 1<<20 - 1, 1 << 20, math.MaxInt32} {
		if got, want := varintSize(n), len(binary.AppendVarint(nil, int64(n))); got != want {
			t.Errorf("%d: %d, not %d", n, got, want)
		}
	}
}
