package documents

import (
	"bytes"
	"context"
	"net/http"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/delivery"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// How much is read at once. A page may be far longer; it is read, written and
// forgotten piece by piece, so that a slow reader holds one piece and no more.
const (
	pieceEvents = 200
	pieceBytes  = 256 << 10
)

// reader reads one formation's log.
type reader struct {
	store  *store.Store
	key    tenant.Key
	log    fingerprint
	format delivery.Format
	filter *filter.Filter // nil lets everything pass
}

// open returns a reader of the path's formation.
func (f *Function) open(r *http.Request) (*reader, error) {
	key, err := formationKey(r)
	if err != nil {
		return nil, err
	}
	formation, err := f.Store.Formation(r.Context(), key)
	if err != nil {
		return nil, err
	}
	return &reader{store: f.Store, key: key, log: fingerprintOf(formation), format: delivery.Patches}, nil
}

// formationKey reads the path. A name that cannot exist is simply not found.
func formationKey(r *http.Request) (tenant.Key, error) {
	org, err := web.Path(r, "org", tenant.ParseOrgID)
	if err != nil {
		return tenant.Key{}, err
	}
	app, err := web.Path(r, "app", tenant.ParseAppID)
	return tenant.Key{Org: org, App: app}, err
}

// The places that have names.
const (
	beginning = "beginning"
	now       = "now"
)

// formations is what a reader asks about its formation, of the store or within a
// transaction.
type formations interface {
	Formation(ctx context.Context, key tenant.Key) (tenant.Formation, error)
	Position(ctx context.Context, key tenant.Key) (uint64, error)
}

// place returns the position that a text means: beginning, now, or a cursor. The
// field is what the caller wrote the text in.
func (l *reader) place(ctx context.Context, in formations, text, field string) (uint64, error) {
	if text == beginning {
		return 0, nil
	}
	var at cursor
	if text != now {
		var err error
		if at, err = parseCursor(text); err != nil {
			return 0, wrongField(fault.Malformed, field, "is neither beginning nor now nor a cursor that this API gave out")
		}
		if at.log != l.log {
			return 0, wrongField(fault.Conflict, field, "belongs to another formation, or to one of this name that was deleted since")
		}
	}
	end, err := in.Position(ctx, l.key)
	if err != nil || text == now {
		return end, err
	}
	if at.position > end {
		// As after the store was put back to an earlier day. To wait for the log to
		// come by would be to miss what is written meanwhile.
		return 0, wrongField(fault.Conflict, field, "is ahead of the log")
	}
	return at.position, nil
}

// cursor is the text for a position.
func (l *reader) cursor(position uint64) string { return cursor{l.log, position}.String() }

// piece is what was read of the log: the events that the filter lets pass, and the
// position up to which there are no others.
type piece struct {
	events []change.Settled
	to     uint64
	end    bool // there is nothing after it yet
}

// bytes is about what the events weigh.
func (p piece) bytes() int {
	n := 0
	for _, c := range p.events {
		n += len(c.Raw) + len(c.Patches) + eventRoom
	}
	return n
}

// eventRoom is about what an event has beside the change.
const eventRoom = 700

// after reads the log after a position, up to so many events.
//
// The formation is looked at last: if it still is the one that was opened, it was
// while the log was read.
func (l *reader) after(ctx context.Context, position uint64, limit int) (piece, error) {
	rows := pieceEvents
	if l.filter == nil {
		rows = min(rows, limit)
	}
	changes, err := l.store.ChangesAfter(ctx, l.key, position, rows, pieceBytes)
	if err != nil {
		return piece{}, err
	}
	if err := l.still(ctx, l.store); err != nil {
		return piece{}, err
	}
	p := piece{to: position, end: len(changes) == 0}
	for _, c := range changes {
		if len(p.events) == limit {
			return p, nil
		}
		if l.wants(c) {
			p.events = append(p.events, c)
		}
		p.to = c.Position
	}
	return p, nil
}

// wants asks the filter. An event that it cannot judge passes: better one too many.
func (l *reader) wants(c change.Settled) bool {
	wanted, err := l.filter.Match(l.key, c)
	return wanted || err != nil
}

// maxPieces bounds how far one request looks for events that the filter lets pass.
const maxPieces = 40

// search reads on until there are events, or the log ends, or it has read enough
// for one request.
func (l *reader) search(ctx context.Context, position uint64, limit int) (p piece, err error) {
	p.to = position
	for range maxPieces {
		p, err = l.after(ctx, p.to, limit)
		if err != nil || len(p.events) > 0 || p.end {
			break
		}
	}
	return p, err
}

// still fails unless the formation is the one that was opened.
func (l *reader) still(ctx context.Context, in formations) error {
	formation, err := in.Formation(ctx, l.key)
	if err == nil && fingerprintOf(formation) != l.log {
		return fault.Conflict.New("the formation was deleted and made anew")
	}
	return err
}

// encode is the CloudEvent of a change, in structured JSON on one line. Between
// tokens JSON may have line breaks, as patches do that were kept so; inside strings
// it has none.
func (l *reader) encode(c change.Settled) []byte {
	e := event.EncodeChange(l.key, c, l.format, nil)
	b := e.AppendJSON(make([]byte, 0, e.Size()))
	for i := bytes.IndexAny(b, "\r\n"); i >= 0 && i < len(b); i++ {
		if b[i] == '\n' || b[i] == '\r' {
			b[i] = ' '
		}
	}
	return b
}
