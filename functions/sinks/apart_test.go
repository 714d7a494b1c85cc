package sinks

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestSinksThatWouldWriteToOnePlace(t *testing.T) {
	const ofRival = "/orgs/rival/formations/logistics/cdc/sinks"
	const taken = `"config":{"url":"nats://nats.example.com","subject_prefix":"cdc"}`
	const ofMedical = "/orgs/acme/formations/medical/cdc/sinks"
	for name, tc := range map[string]struct {
		path, body string
		want       int
	}{
		"the same again":             {ofFormation, `{"kind":"nats",` + taken + `}`, 409},
		"in a stream of its own":     {ofFormation, `{"kind":"nats","config":{"url":"tls://NATS.example.com:4222","subject_prefix":"cdc","stream":"X"}}`, 409},
		"for all formations":         {ofOrg, `{"kind":"nats","formations":["*"],` + taken + `}`, 409},
		"for this one among several": {ofOrg, `{"kind":"nats","formations":["medical","logistics"],` + taken + `}`, 409},
		"for another formation":      {ofMedical, `{"kind":"nats",` + taken + `}`, 201},
		"of another organization":    {ofRival, `{"kind":"nats",` + taken + `}`, 201},
		"under another prefix":       {ofFormation, `{"kind":"nats","config":{"url":"nats://nats.example.com","subject_prefix":"cdc2"}}`, 201},
		"on another server":          {ofFormation, `{"kind":"nats","config":{"url":"nats://nats.example.org","subject_prefix":"cdc"}}`, 201},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.addFormation(tenant.Key{Org: "acme", App: "medical"})
			o.addFormation(tenant.Key{Org: "rival", App: "logistics"})
			var first sinkWire
			o.call("POST", ofFormation, `{"kind":"nats",`+taken+`}`, 201, &first)
			o.call("POST", tc.path, tc.body, tc.want, nil)
			if tc.want == 409 {
				// The place is free again when the sink is gone.
				o.call("DELETE", ofFormation+"/"+first.ID, "", 204, nil)
				o.call("POST", tc.path, tc.body, 201, nil)
			}
		})
	}
}

func TestASinkIsNotMovedToATakenPlace(t *testing.T) {
	o := newOffice(t)
	make := func(prefix string) sinkWire {
		t.Helper()
		var made sinkWire
		o.call("POST", ofFormation, `{"kind":"nats","config":{"url":"nats://nats.example.com","subject_prefix":"`+prefix+`"}}`, 201, &made)
		return made
	}
	make("one")
	two := ofFormation + "/" + make("two").ID
	o.call("PATCH", two, `{"config":{"subject_prefix":"one"}}`, 409, nil)
	o.call("PATCH", two, `{"config":{"subject_prefix":"two","stream":"X"}}`, 200, nil) // its own place
	o.call("PATCH", two, `{"config":{"subject_prefix":"three"}}`, 200, nil)
	make("two")
}
