package nats

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Whatever the ids, an event's subject is one that its sink's stream takes, and two
// documents, formations or organizations never have one subject.
func FuzzSubject(f *testing.F) {
	f.Add("acme", "logistics", "notes:7", "acme", "logistics", "notes.7")
	f.Add("acme", "a", "b.c", "acme", "a", "b=2Ec")
	f.Add("acme", "a", "", "rival", "a", "")
	f.Add("acme", "a", "x.>", "acme", "b", "x.*")
	f.Fuzz(func(t *testing.T, org1, app1, doc1, org2, app2, doc2 string) {
		of := func(org, app, doc string) (string, bool) {
			o, err1 := tenant.ParseOrgID(org)
			a, err2 := tenant.ParseAppID(app)
			if err1 != nil || err2 != nil {
				return "", false
			}
			d := &natsStream{org: o, config: natsConfig{SubjectPrefix: "cdc.v1"}}
			subject := d.subject(driver.Event{Key: tenant.Key{Org: o, App: a}, Document: doc})
			if strings.Count(subject, ".") != 4 || strings.ContainsAny(subject, " *>\t\r\n") || strings.Contains(subject, "..") || !covers(d.ours(), subject) {
				t.Fatalf("%q", subject)
			}
			return subject, true
		}
		one, ok1 := of(org1, app1, doc1)
		two, ok2 := of(org2, app2, doc2)
		if ok1 && ok2 && (one == two) != (org1 == org2 && app1 == app2 && doc1 == doc2) {
			t.Fatalf("%q for %q and %q", one, []string{org1, app1, doc1}, []string{org2, app2, doc2})
		}
	})
}

func TestSubjectsOfASink(t *testing.T) {
	s := driver.Settings{NATSURL: "nats://user:hush@Embedded:4333"}
	same := func(a, b string) bool {
		return Subjects(json.RawMessage(a), s) == Subjects(json.RawMessage(b), s)
	}
	const plain = `{"url":"nats://example.com","subject_prefix":"cdc"}`
	for name, tc := range map[string]struct {
		other string
		want  bool
	}{
		"the usual port":         {`{"url":"nats://example.com:4222/","subject_prefix":"cdc"}`, true},
		"TLS":                    {`{"url":"tls://Example.COM.","subject_prefix":"cdc","stream":"other"}`, true},
		"another port":           {`{"url":"nats://example.com:4223","subject_prefix":"cdc"}`, false},
		"another prefix":         {`{"url":"nats://example.com","subject_prefix":"cdc2"}`, false},
		"another host":           {`{"url":"nats://example.org","subject_prefix":"cdc"}`, false},
		"the operator's":         {`{"subject_prefix":"cdc"}`, false},
		"an address of colons":   {`{"url":"nats://[2001:4860::1]","subject_prefix":"cdc"}`, false},
		"a configuration broken": {`{`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := same(plain, tc.other); got != tc.want {
				t.Errorf("%q and %q", Subjects(json.RawMessage(plain), s), Subjects(json.RawMessage(tc.other), s))
			}
		})
	}
	if !same(`{"subject_prefix":"cdc"}`, `{"url":"nats://embedded:4333","subject_prefix":"cdc"}`) {
		t.Error("the operator's server by its name is another one")
	}
	if !same(`{"url":"nats://[2001:4860::1]:4222","subject_prefix":"cdc"}`, `{"url":"nats://[2001:4860::1]","subject_prefix":"cdc"}`) {
		t.Error("an address of colons")
	}
}
