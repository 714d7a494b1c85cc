package kafka

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/testenv"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// A broker that we reach through a proxy, which it advertises; its topics can be
// made read-only.
func TestKafkaKeepsThePromises(t *testing.T) {
	proxy := drivertest.NewProxy(t, "127.0.0.1:1")
	k := testenv.KafkaBehind(t, proxy.Addr(), "message.max.bytes=1200000", "default.replication.factor=1", "num.partitions=6",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS", "allow.everyone.if.no.acl.found=true")
	proxy.Target(k.Behind)
	runs := 0
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		runs++
		h := &promised{t: t, k: k, proxy: proxy, name: fmt.Sprintf("promise%d", runs), user: fmt.Sprintf("sink%d", runs)}
		h.rotate()
		return drivertest.Harness{
			Kind: "kafka", Open: h.open, Received: h.received, Proxy: proxy, Kill: k.Kill, Restart: func() { k.Restart(t) },
			Busy: h.readOnly, MaxEvent: 1_000_000, Rotate: h.rotate, Denies: true, Secrets: []string{h.password}, Slow: 2,
			Cannot: map[drivertest.Promise]string{
				drivertest.DropsRepeats:   "A broker drops what one run of the gateway sends again after a lost answer. What comes again otherwise, as after a crash of the gateway, is there twice; receivers tell by `ce_id`.",
				drivertest.HeedsNotBefore: "A broker does not say when it wants to be asked again.",
			},
		}
	})
}

type promised struct {
	t              *testing.T
	k              *testenv.KafkaServer
	proxy          *drivertest.Proxy
	name           string
	user, password string
}

func (h *promised) topic(key tenant.Key) string {
	return fmt.Sprintf("%s.%s.%s", h.name, key.Org, key.App)
}

func (h *promised) rotate() {
	h.password = rand.Text()
	h.k.SetPassword(h.t, h.user, h.password)
}

func (h *promised) open(t testing.TB, o drivertest.Options) driver.Driver {
	password := h.password
	if o.Wrong {
		password = "not " + password[:5]
	}
	config := fields{
		"brokers": []string{h.proxy.Addr()}, "topic": h.name + ".{org}.{app}",
		"sasl": fields{"mechanism": "scram-sha-256", "username": h.user, "password": password},
	}
	s := o.Settings()
	if o.Guarded {
		// What was allowed when the sink was made may be forbidden later.
		c, err := Parse(encode(t, config), nil, drivertest.Options{}.Settings())
		if err != nil {
			t.Fatal(err)
		}
		return openParsed(t, c, s)
	}
	return openByConfig(t, config, s)
}

func (h *promised) received(t testing.TB) []drivertest.Received {
	var out []drivertest.Received
	for _, key := range []tenant.Key{drivertest.Key, drivertest.Other} {
		for _, r := range records(t, h.k.Plaintext, h.topic(key)) {
			out = append(out, receivedOf(r, key))
		}
	}
	return out
}

func receivedOf(r *kgo.Record, key tenant.Key) drivertest.Received {
	out := drivertest.Received{Document: string(r.Key), Key: key, Data: r.Value, Attributes: map[string]string{}}
	for _, h := range r.Headers {
		name, ok := strings.CutPrefix(h.Key, "ce_")
		if !ok && h.Key == "content-type" {
			name = "datacontenttype"
		}
		out.Attributes[name] = string(h.Value)
	}
	out.ID = out.Attributes["id"]
	return out
}

// readOnly forbids the user to write, or allows it again.
func (h *promised) readOnly(on bool) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.k.Plaintext))
	if err != nil {
		h.t.Fatal(err)
	}
	defer cl.Close()
	const topics, prefixed, write, deny = 2, 4, 4, 2
	if on {
		req := kmsg.NewPtrCreateACLsRequest()
		acl := kmsg.NewCreateACLsRequestCreation()
		acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = topics, h.name, prefixed
		acl.Principal, acl.Host, acl.Operation, acl.PermissionType = "User:"+h.user, "*", write, deny
		req.Creations = append(req.Creations, acl)
		_, err = req.RequestWith(h.t.Context(), cl)
	} else {
		req := kmsg.NewPtrDeleteACLsRequest()
		filter := kmsg.NewDeleteACLsRequestFilter()
		filter.ResourceType, filter.ResourceName, filter.ResourcePatternType = topics, &h.name, prefixed
		filter.Operation, filter.PermissionType = 1, 1 // any
		req.Filters = append(req.Filters, filter)
		_, err = req.RequestWith(h.t.Context(), cl)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	// The controller answers; the broker learns of it a moment later.
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		req := kmsg.NewPtrDescribeACLsRequest()
		req.ResourceType, req.ResourceName, req.ResourcePatternType, req.Operation, req.PermissionType = topics, &h.name, prefixed, 1, 1
		resp, err := req.RequestWith(h.t.Context(), cl)
		if err == nil && (len(resp.Resources) > 0) == on {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("the broker does not learn that it is read-only, or not: %v", err)
		}
	}
}
