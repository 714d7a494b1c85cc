package event_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var (
	now = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	key = tenant.Key{Org: "acme", App: "logistics"}
)

func settled() change.Settled {
	prev := change.Hash{0xaa}
	return change.Settled{
		Change: change.Change{
			Hash: change.Hash{0x01, 0x02}, Deps: []change.Hash{{0xbb}}, Actor: "c0ffee", ActorSeq: 7, StartOp: 42,
			Time: 1_700_000_000, Message: "half \"full\"", Raw: []byte{0x85, 0x6f}, Patches: []byte(`[{"action":"put","path":["n"],"value":1}]`),
		},
		Document: "4NMNnkMhL8jXrdJ9jamS58PAVdXu", Seq: 3, Position: 99, Prev: &prev, Concurrent: true, ReceivedAt: now, Origin: change.Sync,
	}
}

// every is one event of each type.
func every() map[string]cloudevents.Event {
	org := tenant.Org{ID: "acme", DisplayName: "Acme", Quotas: tenant.DefaultQuotas()}
	formation := tenant.Formation{Org: "acme", App: "logistics", MeshID: "C5EB1329"}
	sink := event.SinkData{Org: "acme", Sink: "01SINK", Kind: "webhook"}
	letter := event.DeadLetterData{Org: "acme", App: "logistics", Sink: "01SINK", Kind: "webhook", ID: "01DEAD", Document: "d", Seq: 3, Hash: "ab"}
	certificate := event.CertificateData{Org: "acme", App: "logistics", Serial: "abcd", NodeID: "alpha-1", PublicKey: "ef", ExpiresAt: now.Add(time.Hour)}
	renewed, revoked := certificate, certificate
	renewed.Replaces, revoked.Reason = "0123", "device_lost"
	provider := event.ProviderData{Org: "acme", Provider: "01PROVIDER", Kind: "oidc", Enabled: true}
	return map[string]cloudevents.Event{
		event.ProviderCreatedType:    event.Provider(event.ProviderCreatedType, provider, now),
		event.ProviderChangedType:    event.Provider(event.ProviderChangedType, provider, now),
		event.ProviderDeletedType:    event.Provider(event.ProviderDeletedType, provider, now),
		event.OrgCreatedType:         event.OrgCreated(org, now),
		event.OrgUpdatedType:         event.OrgUpdated(org, now),
		event.OrgDeletedType:         event.OrgDeleted(org, now),
		event.FormationCreatedType:   event.FormationCreated(formation, now),
		event.FormationUpdatedType:   event.FormationUpdated(formation, now),
		event.FormationSuspendedType: event.FormationSuspended(formation, now),
		event.FormationResumedType:   event.FormationResumed(formation, now),
		event.FormationDeletedType:   event.FormationDeleted(formation, now),
		event.TicketRevokedType:      event.TicketRevoked(key, "01TICKET", now),
		event.LogAppendedType:        event.LogAppended(key, 99, now),
		event.DocumentChangedType:    event.DocumentChanged(key, settled(), delivery.Both),
		event.ChangeSkippedType:      event.ChangeSkipped(key, "01SINK", settled()),
		event.SinkTestType:           event.SinkTest("acme", "01SINK", now),
		event.SinkCreatedType:        event.Sink(event.SinkCreatedType, sink, now),
		event.SinkChangedType:        event.Sink(event.SinkChangedType, sink, now),
		event.SinkResumedType:        event.Sink(event.SinkResumedType, sink, now),
		event.SinkDeletedType:        event.Sink(event.SinkDeletedType, sink, now),
		event.DeadLetterParkedType:   event.DeadLetter(event.DeadLetterParkedType, letter, now),
		event.DeadLetterRedriveType:  event.DeadLetter(event.DeadLetterRedriveType, letter, now),

		event.CertificateIssuedType:  event.Certificate(event.CertificateIssuedType, certificate, now),
		event.CertificateRenewedType: event.Certificate(event.CertificateRenewedType, renewed, now),
		event.CertificateRevokedType: event.Certificate(event.CertificateRevokedType, revoked, now),
		event.AuthorityChangedType: event.Authority(event.AuthorityData{
			Org: "acme", App: "logistics", Authority: "01AUTHORITY", PublicKey: "ef", State: "active",
		}, now),
		event.EnrollmentDecidedType: event.EnrollmentDecided(event.EnrollmentData{
			Org: "acme", App: "logistics", Outcome: event.EnrollmentApproved, NodeID: "alpha-1", PublicKey: "ab", Rule: "policy:contractors",
			Provider: "01PROVIDER", Enrollment: "01ENROLLMENT", Serial: "cd",
		}, now),
		event.AuditLinkedType:   event.AuditLinked("acme", now),
		event.AuditRecordedType: recorded(),
	}
}

// recorded is an entry of an audit trail as its receiver reads it.
func recorded() cloudevents.Event {
	e, err := event.EncodeAudit(audit.Entry{
		Org: "acme", ID: "01ENTRY", At: now, Actor: "bootstrap-admin", Action: "formation.create", Target: "logistics", RequestID: "01REQUEST",
		Detail: json.RawMessage(`{"app_id":"logistics"}`),
	}.Link(2, audit.Hash{0xcc}))
	var out cloudevents.Event
	if err = errors.Join(err, out.UnmarshalJSON(e.AppendJSON(nil))); err != nil {
		panic(err)
	}
	return out
}

func TestEveryTypeIsValidAndByteForByte(t *testing.T) {
	events := every()
	for _, typ := range event.Types() {
		e, ok := events[typ]
		if !ok {
			t.Errorf("no example of %s", typ)
			continue
		}
		if err := e.Validate(); err != nil || e.Type() != typ {
			t.Errorf("%s: type %s, %v", typ, e.Type(), err)
		}
		if typ != event.DocumentChangedType && typ != event.ChangeSkippedType && typ != event.AuditRecordedType {
			e.SetID("01UNIQUE") // the only part that differs each time
		}
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(typ, "com.defenseunicorns.peat.gateway."), ".v1")
		goldentest.Check(t, "testdata/"+name+".json", goldentest.JSON(t, text))
	}
	if len(events) != len(event.Types()) {
		t.Errorf("%d examples of %d types", len(events), len(event.Types()))
	}
}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestAChangeLeavesInTheTraceThatItCameIn(t *testing.T) {
	c := settled()
	c.Trace = traceparent
	e := event.DocumentChanged(key, c, delivery.Patches)
	text, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, "testdata/document.changed.traced.json", goldentest.JSON(t, text))
	if got := event.EncodeChange(key, c, delivery.Patches, nil).Attribute("traceparent"); got != traceparent {
		t.Errorf("encoded: %q", got)
	}
	if got := event.ChangeSkipped(key, "01SINK", c).Extensions()["traceparent"]; got != traceparent {
		t.Errorf("a marker: %q", got)
	}
}

func TestADocumentsEventIsTheSameHoweverOftenItIsMade(t *testing.T) {
	first, again := event.DocumentChanged(key, settled(), delivery.Both), event.DocumentChanged(key, settled(), delivery.Raw)
	if first.ID() != again.ID() {
		t.Error("the id depends on the format")
	}
	ids := map[string]string{}
	for name, id := range map[string]string{
		"itself":             event.DocumentChangedID(key, "d", change.Hash{1}),
		"another change":     event.DocumentChangedID(key, "d", change.Hash{2}),
		"another document":   event.DocumentChangedID(key, "e", change.Hash{1}),
		"another formation":  event.DocumentChangedID(tenant.Key{Org: "acme", App: "x"}, "d", change.Hash{1}),
		"names that overlap": event.DocumentChangedID(tenant.Key{Org: "acmelog", App: "istics"}, "d", change.Hash{1}),
		"overlap elsewhere":  event.DocumentChangedID(tenant.Key{Org: "acme", App: "logisticsd"}, "", change.Hash{1}),
	} {
		if other, ok := ids[id]; ok {
			t.Errorf("%s and %s have one id", name, other)
		}
		ids[id] = name
	}
}

func TestFormats(t *testing.T) {
	for format, want := range map[delivery.Format][2]bool{
		delivery.Patches: {true, false}, delivery.Raw: {false, true}, delivery.Both: {true, true},
	} {
		data := string(event.DocumentChanged(key, settled(), format).Data())
		if got := [2]bool{strings.Contains(data, `"patches"`), strings.Contains(data, `"change":`)}; got != want {
			t.Errorf("%s has patches and change: %v", format, got)
		}
	}
	bare := settled()
	bare.Deps, bare.Prev = nil, nil
	data := string(event.DocumentChanged(key, bare, delivery.Raw).Data())
	if !strings.Contains(data, `"deps":[]`) || !strings.Contains(data, `"prev":null`) {
		t.Errorf("a first change: %s", data)
	}
}
