// Package event is the catalogue of every CloudEvent the gateway emits: its type,
// its data and its constructor. docs/events.md lists them for readers; testdata
// holds one of each, byte for byte.
package event

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/oklog/ulid/v2"

	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// prefix and version are the two ends of every type's name.
const (
	prefix  = "com.defenseunicorns.peat.gateway."
	version = ".v1"
)

// The types.
const (
	OrgCreatedType         = prefix + "org.created" + version
	OrgUpdatedType         = prefix + "org.updated" + version
	OrgDeletedType         = prefix + "org.deleted" + version
	FormationCreatedType   = prefix + "formation.created" + version
	FormationUpdatedType   = prefix + "formation.updated" + version
	FormationSuspendedType = prefix + "formation.suspended" + version
	FormationResumedType   = prefix + "formation.resumed" + version
	FormationDeletedType   = prefix + "formation.deleted" + version
	TicketRevokedType      = prefix + "ticket.revoked" + version
	LogAppendedType        = prefix + "log.appended" + version
	DocumentChangedType    = prefix + "document.changed" + version
	ChangeSkippedType      = prefix + "change.skipped" + version
	SinkTestType           = prefix + "sink.test" + version
	SinkCreatedType        = prefix + "sink.created" + version
	SinkChangedType        = prefix + "sink.changed" + version
	SinkResumedType        = prefix + "sink.resumed" + version
	SinkDeletedType        = prefix + "sink.deleted" + version
	DeadLetterParkedType   = prefix + "deadletter.parked" + version
	DeadLetterRedriveType  = prefix + "deadletter.redriven" + version

	CertificateIssuedType  = prefix + "certificate.issued" + version
	CertificateRenewedType = prefix + "certificate.renewed" + version
	CertificateRevokedType = prefix + "certificate.revoked" + version
	AuthorityChangedType   = prefix + "authority.changed" + version

	EnrollmentDecidedType = prefix + "enrollment.decided" + version

	AuditLinkedType   = prefix + "audit.linked" + version
	AuditRecordedType = prefix + "audit.recorded" + version

	// PingType is what a Knative PingSource sends. A PingSource cannot name its
	// own type, so the sweep is heard under this one.
	PingType = "dev.knative.sources.ping"
)

// Types lists every type the gateway emits, in the order of the catalogue.
func Types() []string {
	return []string{
		OrgCreatedType, OrgUpdatedType, OrgDeletedType,
		FormationCreatedType, FormationUpdatedType, FormationSuspendedType, FormationResumedType, FormationDeletedType, TicketRevokedType,
		LogAppendedType, DocumentChangedType, ChangeSkippedType,
		SinkTestType, SinkCreatedType, SinkChangedType, SinkResumedType, SinkDeletedType,
		DeadLetterParkedType, DeadLetterRedriveType,
		ProviderCreatedType, ProviderChangedType, ProviderDeletedType,
		CertificateIssuedType, CertificateRenewedType, CertificateRevokedType, AuthorityChangedType, EnrollmentDecidedType,
		AuditLinkedType, AuditRecordedType,
	}
}

// OrgData tells of an organization.
type OrgData struct {
	Org         tenant.OrgID  `json:"org_id"`
	DisplayName string        `json:"display_name,omitempty"`
	Quotas      tenant.Quotas `json:"quotas"`
}

// FormationData tells of a formation.
type FormationData struct {
	Org    tenant.OrgID `json:"org_id"`
	App    tenant.AppID `json:"app_id"`
	MeshID string       `json:"mesh_id"`
}

// TicketData tells of a sync ticket, never of its secret.
type TicketData struct {
	Org    tenant.OrgID `json:"org_id"`
	App    tenant.AppID `json:"app_id"`
	Ticket string       `json:"ticket_id"`
}

// LogData is a doorbell: the formation's log reaches up to Position. Whoever
// hears it reads the log from its own cursor.
type LogData struct {
	Org      tenant.OrgID `json:"org_id"`
	App      tenant.AppID `json:"app_id"`
	Position uint64       `json:"position"`
}

// SinkData tells of a sink, without its configuration: that may hold addresses
// that are nobody else's business.
type SinkData struct {
	Org  tenant.OrgID `json:"org_id"`
	Sink string       `json:"sink_id"`
	Kind string       `json:"kind"`
}

// DeadLetterData tells of a document that waits for an operator.
type DeadLetterData struct {
	Org      tenant.OrgID `json:"org_id"`
	App      tenant.AppID `json:"app_id"`
	Sink     string       `json:"sink_id"`
	Kind     string       `json:"kind"`
	ID       string       `json:"id"`
	Document string       `json:"document_id"`
	Seq      uint64       `json:"seq"`
	Hash     string       `json:"change_hash"`
}

// OrgCreated says that an organization exists now.
func OrgCreated(o tenant.Org, now time.Time) cloudevents.Event {
	return orgEvent(OrgCreatedType, o, now)
}

// OrgUpdated says that an organization's name or quotas changed.
func OrgUpdated(o tenant.Org, now time.Time) cloudevents.Event {
	return orgEvent(OrgUpdatedType, o, now)
}

// OrgDeleted says that an organization is gone.
func OrgDeleted(o tenant.Org, now time.Time) cloudevents.Event {
	return orgEvent(OrgDeletedType, o, now)
}

func orgEvent(eventType string, o tenant.Org, now time.Time) cloudevents.Event {
	e := newEvent(eventType, OrgSource(o.ID), string(o.ID), now)
	e.SetExtension("peatorg", string(o.ID))
	return with(e, OrgData{o.ID, o.DisplayName, o.Quotas})
}

// FormationCreated says that a formation exists now.
func FormationCreated(f tenant.Formation, now time.Time) cloudevents.Event {
	return formationEvent(FormationCreatedType, f, now)
}

// FormationUpdated says that a formation's enrollment policy changed.
func FormationUpdated(f tenant.Formation, now time.Time) cloudevents.Event {
	return formationEvent(FormationUpdatedType, f, now)
}

// FormationSuspended says that issue, capture and delivery stop in a formation.
func FormationSuspended(f tenant.Formation, now time.Time) cloudevents.Event {
	return formationEvent(FormationSuspendedType, f, now)
}

// FormationResumed says that a formation goes on where it was suspended.
func FormationResumed(f tenant.Formation, now time.Time) cloudevents.Event {
	return formationEvent(FormationResumedType, f, now)
}

// FormationDeleted says that a formation, its keys and its log are gone.
func FormationDeleted(f tenant.Formation, now time.Time) cloudevents.Event {
	return formationEvent(FormationDeletedType, f, now)
}

func formationEvent(eventType string, f tenant.Formation, now time.Time) cloudevents.Event {
	e := inFormation(eventType, f.Org, f.App, string(f.App), now)
	return with(e, FormationData{f.Org, f.App, f.MeshID})
}

// TicketRevoked says that sessions opened with the ticket must end.
func TicketRevoked(key tenant.Key, ticket string, now time.Time) cloudevents.Event {
	e := inFormation(TicketRevokedType, key.Org, key.App, ticket, now)
	return with(e, TicketData{key.Org, key.App, ticket})
}

// LogAppended rings for the sinks of a formation.
func LogAppended(key tenant.Key, position uint64, now time.Time) cloudevents.Event {
	e := inFormation(LogAppendedType, key.Org, key.App, string(key.App), now)
	return with(e, LogData{key.Org, key.App, position})
}

// Sink returns the event of the given type (SinkCreatedType …) about a sink.
func Sink(eventType string, d SinkData, now time.Time) cloudevents.Event {
	e := newEvent(eventType, OrgSource(d.Org), d.Sink, now)
	e.SetExtension("peatorg", string(d.Org))
	e.SetExtension("peatsink", d.Kind)
	return with(e, d)
}

// DeadLetter returns the event of the given type (DeadLetterParkedType or
// DeadLetterRedriveType) about a held document.
func DeadLetter(eventType string, d DeadLetterData, now time.Time) cloudevents.Event {
	e := inFormation(eventType, d.Org, d.App, d.ID, now)
	e.SetExtension("peatsink", d.Kind)
	return with(e, d)
}

// OrgSource is the CloudEvents source of what happens to an organization.
func OrgSource(org tenant.OrgID) string { return "/orgs/" + string(org) }

// FormationSource is the CloudEvents source of what happens in a formation.
func FormationSource(org tenant.OrgID, app tenant.AppID) string {
	return "/orgs/" + string(org) + "/formations/" + string(app)
}

func inFormation(eventType string, org tenant.OrgID, app tenant.AppID, subject string, now time.Time) cloudevents.Event {
	e := newEvent(eventType, FormationSource(org, app), subject, now)
	e.SetExtension("peatorg", string(org))
	e.SetExtension("peatapp", string(app))
	return e
}

// newEvent gives the event an id that is unique everywhere: some brokers look at
// the id alone when they drop duplicates.
func newEvent(eventType, source, subject string, now time.Time) cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetType(eventType)
	e.SetSource(source)
	e.SetSubject(subject)
	e.SetTime(now.UTC())
	e.SetID(ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String())
	return e
}

// with sets the data; every data type here is plain JSON, so failing is a
// mistake in this package.
func with(e cloudevents.Event, data any) cloudevents.Event {
	if err := e.SetData(cloudevents.ApplicationJSON, data); err != nil {
		panic(fmt.Sprintf("event %s: %v", e.Type(), err))
	}
	return e
}

// deterministicID names the same thing by the same text for ever. Lengths are
// part of what is hashed, so that no two lists of parts run into each other.
func deterministicID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)))
}

// Ping is what a PingSource sends; a single process makes its own.
func Ping(now time.Time) cloudevents.Event {
	return with(newEvent(PingType, "/sweep", "", now), map[string]string{"sweep": "due"})
}
