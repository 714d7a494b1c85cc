package watcher

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge/automergetest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// move puts the formation into another state, and tells nobody.
func (b *bench) move(to tenant.State) {
	b.t.Helper()
	b.tx(func(tx *store.Tx) error {
		f, err := tx.LockFormation(context.Background(), key)
		if err != nil {
			return err
		}
		f.State = to
		return tx.UpdateFormation(context.Background(), f)
	})
}

// quotas changes the organization's.
func (b *bench) quotas(change func(q *tenant.Quotas)) {
	b.t.Helper()
	b.tx(func(tx *store.Tx) error {
		o, err := tx.LockOrg(context.Background(), key.Org)
		if err != nil {
			return err
		}
		change(&o.Quotas)
		return tx.UpdateOrg(context.Background(), o)
	})
}

// refused dials and returns the status that it is refused with.
func refused(t *testing.T, url string) int {
	t.Helper()
	conn, answer, err := websocket.Dial(t.Context(), url, nil)
	if err == nil {
		_ = conn.CloseNow()
		return http.StatusSwitchingProtocols
	}
	if answer == nil {
		t.Fatal(err)
	}
	return answer.StatusCode
}

// TestASuspendedFormationTakesNothingAndLosesNothing: a peer writes, is sent away,
// writes on by itself, and comes back.
func TestASuspendedFormationTakesNothingAndLosesNothing(t *testing.T) {
	b := setup(t, Settings{})
	_, url := b.ticket(t, `{"peer_id":"p"}`)
	p := b.connect(t, url, "p")
	p.next()
	doc, chunks := history(1)
	p.offer(documentID(1), doc.Heads(), chunks...)
	p.heads(documentID(1), doc.Heads())

	b.move(tenant.Suspended) // the event is lost: the store refuses by itself
	a := automergetest.NewAuthor("bb")
	var later [][]byte
	for range 3 {
		later = append(later, a.Commit(doc, automergetest.Put(true, "more")))
	}
	p.offer(documentID(1), doc.Heads(), later...)
	if reason := p.ended(); reason != reasonSuspended {
		t.Errorf("reason = %q", reason)
	}
	if n := len(b.log()); n != 1 {
		t.Errorf("%d entries", n)
	}
	if got := refused(t, url); got != http.StatusConflict {
		t.Errorf("a session: %d", got)
	}
	request, err := http.NewRequestWithContext(t.Context(), "POST", b.server.URL+"/orgs/acme/formations/logistics/sync-tickets", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer token")
	request.Header.Set("Content-Type", "application/json")
	answer, err := b.server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusConflict {
		t.Errorf("a ticket: %d", answer.StatusCode)
	}

	b.move(tenant.Active)
	var again *peer
	eventually(t, func() bool { return refused(t, url) == http.StatusSwitchingProtocols })
	again = b.connect(t, url, "p")
	again.next()
	again.offer(documentID(1), doc.Heads(), later...)
	again.heads(documentID(1), doc.Heads())
	log := b.log()
	for i, c := range log {
		if c.Position != uint64(i)+1 || c.Seq != uint64(i)+1 {
			t.Errorf("entry %d: position %d, seq %d", i, c.Position, c.Seq)
		}
	}
	if len(log) != 4 {
		t.Errorf("%d entries", len(log))
	}
}

// TestASuspensionIsSeenWithoutItsEvent by a replica that the broker did not tell.
func TestASuspensionIsSeenWithoutItsEvent(t *testing.T) {
	for reason, move := range map[string]func(b *bench){
		reasonSuspended: func(b *bench) { b.move(tenant.Suspended) },
		reasonDestroyed: func(b *bench) {
			b.tx(func(tx *store.Tx) error { return tx.DestroyFormation(context.Background(), key) })
		},
	} {
		t.Run(reason, func(t *testing.T) {
			b := setup(t, Settings{LeaseLife: 60 * time.Millisecond})
			p := b.join(t, "p")
			move(b)
			if got := p.ended(); got != reason {
				t.Errorf("reason = %q", got)
			}
		})
	}
}

func TestTheQuotaOnPeers(t *testing.T) {
	b := setup(t, Settings{LeaseLife: 60 * time.Millisecond})
	b.quotas(func(q *tenant.Quotas) { q.MaxPeersPerFormation = 2 })
	_, urlP := b.ticket(t, `{"peer_id":"p"}`)
	b.connect(t, urlP, "p").next()
	q := b.join(t, "q")
	_, third := b.ticket(t, `{}`)
	if got := refused(t, third); got != http.StatusTooManyRequests {
		t.Errorf("a third peer: %d", got)
	}
	// A peer that comes again takes its own place.
	if m := b.connect(t, urlP, "p").next(); m.Type != typePeer {
		t.Errorf("the first again: %+v", m)
	}
	eventually(t, func() bool {
		u, err := b.store.FormationUsage(t.Context(), key, time.Now())
		return err == nil && u.Sessions == 2
	})
	_ = q.conn.Close(websocket.StatusNormalClosure, "")
	eventually(t, func() bool { return refused(t, third) == http.StatusSwitchingProtocols })
}

// TestManyPeersAtOnceStayWithinTheQuota: those that hear it before the upgrade and
// those that hear it after are refused together.
func TestManyPeersAtOnceStayWithinTheQuota(t *testing.T) {
	w := &formation{Function: &Function{Deps: Deps{Metrics: &counted{}}}, sessions: map[string]*session{}}
	attached := make(chan bool)
	for i := range 64 {
		go func() {
			attached <- w.attach(&session{peer: strings.Repeat("p", i+1), maxPeers: 10}) == ""
		}()
	}
	n := 0
	for range 64 {
		if <-attached {
			n++
		}
	}
	if n != 10 || len(w.sessions) != 10 {
		t.Errorf("%d attached, %d there", n, len(w.sessions))
	}
}

// TestTheQuotaOnBytes: who writes is told and sent away, who reads is not disturbed,
// and nothing is acknowledged that is not stored.
func TestTheQuotaOnBytes(t *testing.T) {
	b := setup(t, Settings{})
	reader, writer := b.join(t, "reader"), b.join(t, "writer")
	ask := automerge.SyncMessage{Have: []automerge.Have{{}}}
	reader.send(message{Type: typeRequest, SenderID: "reader", DocumentID: string(documentID(1)), Data: ask.Encode()})
	reader.next() // nobody has it
	doc, chunks := history(1)
	heads := doc.Heads()
	writer.offer(documentID(1), heads, chunks...)
	writer.heads(documentID(1), heads)
	reader.heads(documentID(1), heads)
	reader.offer(documentID(1), heads) // it has it now
	f, err := b.store.Formation(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	b.quotas(func(q *tenant.Quotas) { q.MaxBytesStored = f.Bytes })
	chunk := automergetest.NewAuthor("bb").Commit(doc, automergetest.Put(true, "more"))
	writer.offer(documentID(1), doc.Heads(), chunk)
	if reason := writer.ended(); !strings.Contains(reason, tenant.MaxBytesStored) {
		t.Errorf("reason = %q", reason)
	}
	if n := len(b.log()); n != 1 {
		t.Errorf("%d entries", n)
	}
	// The reader's session lives, and hears of what is stored once there is room.
	b.quotas(func(q *tenant.Quotas) { q.MaxBytesStored = 0 })
	again := b.join(t, "w2")
	again.offer(documentID(1), doc.Heads(), chunk)
	again.heads(documentID(1), doc.Heads())
	reader.heads(documentID(1), doc.Heads())
}
