package watcher

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/bus"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestWhatIsAcknowledgedIsStored(t *testing.T) {
	b := setup(t, Settings{})
	p := b.join(t, "p")
	doc, chunks := history(3)
	p.offer(documentID(1), doc.Heads(), chunks...)
	p.heads(documentID(1), doc.Heads())
	log := b.log()
	if len(log) != 3 {
		t.Fatalf("acknowledged, and %d of 3 are in the log", len(log))
	}
	for i, c := range log {
		if c.Seq != uint64(i+1) || c.Position != uint64(i+1) || string(c.Raw) != string(chunks[i]) || c.Concurrent {
			t.Errorf("entry %d: %+v", i, c)
		}
		if (c.Prev == nil) != (i == 0) || i > 0 && *c.Prev != log[i-1].Hash {
			t.Errorf("entry %d: prev = %v", i, c.Prev)
		}
		if !json.Valid(c.Patches) || !strings.Contains(string(c.Patches), `"action":"put"`) {
			t.Errorf("entry %d: patches %s", i, c.Patches)
		}
	}
	// The same again changes nothing.
	p.offer(documentID(1), doc.Heads(), chunks...)
	p.offer(documentID(1), doc.Heads())
	if log = b.log(); len(log) != 3 {
		t.Errorf("sent twice: %d entries", len(log))
	}
	// The bell rings after the acknowledgement, by itself.
	eventually(t, func() bool {
		b.counted.mu.Lock()
		defer b.counted.mu.Unlock()
		return b.counted.captured == 3 && len(b.counted.rung) > 0 && b.counted.rung[len(b.counted.rung)-1] == 3
	})
}

func TestAChangeWaitsForItsCauses(t *testing.T) {
	b := setup(t, Settings{})
	p := b.join(t, "p")
	doc, chunks := history(4)
	p.offer(documentID(1), doc.Heads(), chunks[3], chunks[1])
	m := p.heads(documentID(1), nil)
	if len(m.Need) == 0 || len(b.log()) != 0 {
		t.Errorf("asked for %d changes, %d in the log", len(m.Need), len(b.log()))
	}
	p.offer(documentID(1), doc.Heads(), chunks[2], chunks[0])
	p.heads(documentID(1), doc.Heads())
	for i, c := range b.log() {
		if string(c.Raw) != string(chunks[i]) {
			t.Errorf("entry %d is not change %d", i, i)
		}
	}
}

func TestWhatOnePeerWritesAnotherHears(t *testing.T) {
	b := setup(t, Settings{})
	writer, reader := b.join(t, "writer"), b.join(t, "reader")
	doc, chunks := history(2)
	ask := automerge.SyncMessage{Have: []automerge.Have{{}}}
	reader.send(message{Type: typeRequest, SenderID: "reader", DocumentID: string(documentID(1)), Data: ask.Encode()})
	if m := reader.next(); m.Type != typeUnavailable || m.DocumentID != string(documentID(1)) {
		t.Fatalf("a document nobody has: %+v", m)
	}
	writer.offer(documentID(1), doc.Heads(), chunks...)
	if m := reader.heads(documentID(1), doc.Heads()); len(m.Changes) != 2 {
		t.Errorf("heard %d changes, want 2", len(m.Changes))
	}
}

func TestDocumentsLeaveMemoryAndComeBack(t *testing.T) {
	b := setup(t, Settings{LeaseLife: 90 * time.Millisecond, DocumentIdle: time.Millisecond})
	p := b.join(t, "p")
	doc := automerge.NewDoc()
	a := automergetest.NewAuthor("aa")
	for i := range 3 {
		chunk := a.Commit(doc, automergetest.Put(i, "n"))
		p.offer(documentID(1), doc.Heads(), chunk)
		p.heads(documentID(1), doc.Heads())
		time.Sleep(100 * time.Millisecond) // more than one round of housekeeping
	}
	if log := b.log(); len(log) != 3 || log[2].Seq != 3 {
		t.Errorf("%d entries", len(log))
	}
}

func TestALostLeaseStoresNothing(t *testing.T) {
	b := setup(t, Settings{LeaseLife: time.Hour})
	p := b.join(t, "p")
	doc, chunks := history(2)
	p.offer(documentID(1), nil, chunks[0])
	for len(b.log()) == 0 {
		time.Sleep(time.Millisecond)
	}
	// Another replica finds the lease expired, as it would if we had been paused.
	if _, err := b.store.TakeLease(t.Context(), "watch/"+key.String(), "two", "", time.Now().Add(2*time.Hour), time.Hour); err != nil {
		t.Fatal(err)
	}
	p.offer(documentID(1), doc.Heads(), chunks[1])
	if reason := p.ended(); !strings.Contains(reason, "cannot be stored") {
		t.Errorf("reason = %q", reason)
	}
	if n := len(b.log()); n != 1 {
		t.Errorf("%d entries: a watcher without the lease has written", n)
	}
}

func TestADeletedFormationEndsItsSessions(t *testing.T) {
	b := setup(t, Settings{})
	p := b.join(t, "p")
	doc, chunks := history(1)
	b.tx(func(tx *store.Tx) error { return tx.DestroyFormation(context.Background(), key) })
	// The event may be late; the store refuses by itself.
	p.offer(documentID(1), doc.Heads(), chunks...)
	if reason := p.ended(); reason != reasonDestroyed {
		t.Errorf("reason = %q", reason)
	}
}

func TestEventsEndSessions(t *testing.T) {
	b := setup(t, Settings{})
	id, url := b.ticket(t, `{"peer_id":"p"}`)
	p := b.connect(t, url, "p")
	p.next()
	if err := bus.Dispatch(t.Context(), b.f.Events(), event.TicketRevoked(key, id, time.Now())); err != nil {
		t.Fatal(err)
	}
	if reason := p.ended(); reason != "the ticket was revoked" {
		t.Errorf("reason = %q", reason)
	}
	formation := tenant.Formation{Org: key.Org, App: key.App}
	for reason, e := range map[string]cloudevents.Event{
		reasonDestroyed: event.FormationDeleted(formation, time.Now()),
		reasonSuspended: event.FormationSuspended(formation, time.Now()),
	} {
		q := b.join(t, "q")
		if err := bus.Dispatch(t.Context(), b.f.Events(), e); err != nil {
			t.Fatal(err)
		}
		if got := q.ended(); got != reason {
			t.Errorf("reason = %q, want %q", got, reason)
		}
	}
}

func TestTheQuotaOnDocuments(t *testing.T) {
	b := setup(t, Settings{})
	p := b.join(t, "p")
	doc, chunks := history(1)
	for i := range byte(3) {
		p.offer(documentID(i), doc.Heads(), chunks...)
		p.heads(documentID(i), doc.Heads())
	}
	p.offer(documentID(9), doc.Heads(), chunks...)
	if m := p.next(); m.Type != typeUnavailable || m.DocumentID != string(documentID(9)) {
		t.Errorf("the fourth document: %+v", m)
	}
	// The session and its other documents go on.
	a := automergetest.NewAuthor("bb")
	chunk := a.Commit(doc, automergetest.Put(true, "more"))
	p.offer(documentID(1), doc.Heads(), chunk)
	p.heads(documentID(1), doc.Heads())
	if n := len(b.log()); n != 4 {
		t.Errorf("%d entries", n)
	}
}

func TestARefusedChangeEndsOnlyItsSession(t *testing.T) {
	b := setup(t, Settings{})
	good, bad := b.join(t, "good"), b.join(t, "bad")
	doc, chunks := history(3)
	good.offer(documentID(1), nil, chunks[0])
	broken := append([]byte(nil), chunks[1]...)
	broken[len(broken)-1] ^= 1
	bad.offer(documentID(1), doc.Heads(), broken)
	if reason := bad.ended(); !strings.Contains(reason, "decode change") {
		t.Errorf("reason = %q", reason)
	}
	// A second history under the same author's name cannot follow the first.
	_, other := history(1)
	fake := automerge.NewDoc()
	forged := automergetest.NewAuthor("aa").Commit(fake, automergetest.Put("forged", "n"))
	if string(forged) == string(other[0]) {
		t.Fatal("the forged change is the same")
	}
	bad = b.join(t, "bad")
	bad.offer(documentID(1), fake.Heads(), forged)
	if reason := bad.ended(); !strings.Contains(reason, "sequence") {
		t.Errorf("reason = %q", reason)
	}
	good.offer(documentID(1), doc.Heads(), chunks[1:]...)
	good.heads(documentID(1), doc.Heads())
	if n := len(b.log()); n != 3 {
		t.Errorf("%d entries", n)
	}
}

func TestAPeerThatConnectsAgain(t *testing.T) {
	b := setup(t, Settings{})
	_, url := b.ticket(t, `{}`)
	first := b.connect(t, url, "p")
	first.next()
	second := b.connect(t, url, "p")
	second.next()
	if reason := first.ended(); reason != "the peer has connected again" {
		t.Errorf("reason = %q", reason)
	}
	doc, chunks := history(1)
	second.offer(documentID(1), doc.Heads(), chunks...)
	second.heads(documentID(1), doc.Heads())

	stranger := b.connect(t, url, "stranger")
	if reason := stranger.ended(); reason != "the ticket belongs to another peer id" {
		t.Errorf("reason = %q", reason)
	}
}

func TestATicketsExpiryEndsTheSession(t *testing.T) {
	b := setup(t, Settings{})
	_, url := b.ticket(t, `{"ttl_seconds":1}`)
	p := b.connect(t, url, "p")
	p.next()
	if reason := p.ended(); reason != "the ticket has expired" {
		t.Errorf("reason = %q", reason)
	}
}

func TestFramesDoNotFillMemory(t *testing.T) {
	b := setup(t, Settings{FrameBudget: readChunk * 2, MaxMessageBytes: 1 << 20})
	p := b.join(t, "p")
	p.offer(documentID(1), nil, make([]byte, readChunk*3))
	if reason := p.ended(); reason != errBusy.Error() {
		t.Errorf("reason = %q", reason)
	}
	// What was set aside is given back, also by messages that were worked on.
	q := b.join(t, "q")
	doc, chunks := history(50)
	for i := range chunks {
		q.offer(documentID(2), doc.Heads(), chunks[i])
	}
	q.heads(documentID(2), doc.Heads())
	if !b.f.budget.TryAcquire(readChunk * 2) {
		t.Error("part of the budget was not given back")
	}
}

func TestTooManyDocumentsThatNobodyHas(t *testing.T) {
	b := setup(t, Settings{})
	p := b.join(t, "p")
	ask := (&automerge.SyncMessage{}).Encode()
	for i := range maxDocsUnstored + 1 {
		id := automerge.NewDocumentID([16]byte{1, byte(i), byte(i >> 8)})
		p.send(message{Type: typeRequest, SenderID: "p", DocumentID: string(id), Data: ask})
	}
	if reason := p.ended(); !strings.Contains(reason, "too many documents") {
		t.Errorf("reason = %q", reason)
	}
}

func TestAPanicCostsOneFormationsSessionsAndNothingElse(t *testing.T) {
	b := setup(t, Settings{})
	p := b.join(t, "p")
	b.counted.mu.Lock()
	b.counted.explode = true
	b.counted.mu.Unlock()
	doc, chunks := history(2)
	p.offer(documentID(1), nil, chunks[0])
	if reason := p.ended(); reason != reasonUnwatched {
		t.Errorf("reason = %q", reason)
	}
	// The peer connects again, and goes on where the log is.
	p = b.join(t, "p")
	p.offer(documentID(1), doc.Heads(), chunks...)
	p.heads(documentID(1), doc.Heads())
	if log := b.log(); len(log) != 2 || log[1].Seq != 2 {
		t.Errorf("%d entries", len(log))
	}
}

// A ticket that is revoked between the upgrade and the join message opens nothing.
func TestATicketRevokedAtTheDoor(t *testing.T) {
	b := setup(t, Settings{})
	id, url := b.ticket(t, `{}`)
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	b.tx(func(tx *store.Tx) error { return tx.RevokeTicket(context.Background(), key, id, time.Now()) })
	p := &peer{t, mustCodec(t), conn, "p"}
	p.send(message{Type: typeJoin, SenderID: "p"})
	if reason := p.ended(); reason != "the ticket is revoked" {
		t.Errorf("reason = %q", reason)
	}
}

// A change whose patches cannot be kept is not stored, and nobody is told that it is.
func TestPatchesThatAreTooLong(t *testing.T) {
	b := setup(t, Settings{MaxPatchesBytes: 500})
	p := b.join(t, "p")
	doc := automerge.NewDoc()
	a := automergetest.NewAuthor("aa")
	first := a.Commit(doc, automergetest.Put(1, "n"))
	stored := doc.Heads()
	long := a.Commit(doc, automergetest.Put(strings.Repeat("x", 1000), "n"))
	p.offer(documentID(1), doc.Heads(), first, long)
	for {
		m, err := p.read()
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == typeError {
			break
		}
		sync, err := automerge.DecodeSyncMessage(m.Data, automerge.DefaultLimits())
		if err != nil || slices.Equal(sync.Heads, doc.Heads()) {
			t.Fatalf("told of a head that is not stored (%v)", err)
		}
	}
	// The session may end a moment before what came first in its message is committed.
	for deadline := time.Now().Add(10 * time.Second); len(b.log()) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if n := len(b.log()); n != 1 {
		t.Errorf("%d entries", n)
	}
	// What was stored is known when the document is loaded again.
	p = b.join(t, "p")
	p.offer(documentID(1), stored, first)
	p.heads(documentID(1), stored)
}
