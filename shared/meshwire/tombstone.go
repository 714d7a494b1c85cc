package meshwire

import (
	"encoding/binary"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
)

// Tombstone says that a document was deleted. Nothing signs it: in peat-mesh, any
// peer can delete anything.
type Tombstone struct {
	Collection string
	DocumentID string
	DeletedAt  time.Time // to the millisecond
	Lamport    uint64
	DeletedBy  string
	Reason     string // may be empty
	Direction  Direction
}

// Direction is where a tombstone goes in the hierarchy.
type Direction uint8

// The directions.
const (
	Bidirectional Direction = iota
	UpOnly
	DownOnly
	SystemWide
)

var directionNames = [...]string{"Bidirectional", "UpOnly", "DownOnly", "SystemWide"}

// String returns the name that peat-mesh has for the direction.
func (d Direction) String() string {
	if int(d) < len(directionNames) {
		return directionNames[d]
	}
	return "unknown"
}

// Key returns the key of the frame that carries t.
func (t Tombstone) Key() string { return "tombstones:" + t.Collection + ":" + t.DocumentID }

const minTombstoneSize = 2 + 2 + 8 + 8 + 2 + 2 + 1

// Encode returns the payload of a frame of type TombstoneOne.
func (t Tombstone) Encode() ([]byte, error) { return t.append(nil) }

func (t Tombstone) append(out []byte) ([]byte, error) {
	at, ok := millis.Of(t.DeletedAt)
	switch {
	case !ok:
		return nil, TooLarge.New("deleted before 1970, or after all time")
	case int(t.Direction) >= len(directionNames):
		return nil, InvalidDirection.New("no tombstone has direction %d", uint8(t.Direction))
	}
	out, err := appendString(out, "collection", t.Collection)
	if err != nil {
		return nil, err
	}
	if out, err = appendString(out, "document id", t.DocumentID); err != nil {
		return nil, err
	}
	out = binary.BigEndian.AppendUint64(out, at)
	out = binary.BigEndian.AppendUint64(out, t.Lamport)
	if out, err = appendString(out, "deleted by", t.DeletedBy); err != nil {
		return nil, err
	}
	if out, err = appendString(out, "reason", t.Reason); err != nil {
		return nil, err
	}
	return append(out, byte(t.Direction)), nil
}

// DecodeTombstone reads what Encode wrote.
func DecodeTombstone(b []byte) (t Tombstone, err error) {
	rest := b
	if t.Collection, rest, err = nextString("collection", rest); err != nil {
		return Tombstone{}, err
	}
	if t.DocumentID, rest, err = nextString("document id", rest); err != nil {
		return Tombstone{}, err
	}
	if len(rest) < 16 {
		return Tombstone{}, TooShort.New("tombstone ends before its clocks do")
	}
	t.DeletedAt, t.Lamport = millis.Time(binary.BigEndian.Uint64(rest)), binary.BigEndian.Uint64(rest[8:])
	if t.DeletedBy, rest, err = nextString("deleted by", rest[16:]); err != nil {
		return Tombstone{}, err
	}
	if t.Reason, rest, err = nextString("reason", rest); err != nil {
		return Tombstone{}, err
	}
	if len(rest) < 1 {
		return Tombstone{}, TooShort.New("tombstone ends before its direction")
	}
	if t.Direction = Direction(rest[0]); int(t.Direction) >= len(directionNames) {
		return Tombstone{}, InvalidDirection.New("no tombstone has direction %d", rest[0])
	}
	if err := nothingAfter("tombstone", rest[1:]); err != nil {
		return Tombstone{}, err
	}
	return t, nil
}

// EncodeTombstones returns the payload of a frame of type TombstoneMany.
func EncodeTombstones(all []Tombstone) ([]byte, error) {
	if len(all) > MaxEntries {
		return nil, TooLarge.New("batch of %d tombstones is longer than %d", len(all), MaxEntries)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(all)))
	for _, t := range all {
		item, err := t.Encode()
		if err != nil {
			return nil, err
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(item)))
		out = append(out, item...)
	}
	if len(out) > MaxPayload {
		return nil, TooLarge.New("batch of %d bytes is longer than %d", len(out), MaxPayload)
	}
	return out, nil
}

// DecodeTombstones reads what EncodeTombstones wrote.
func DecodeTombstones(b []byte) ([]Tombstone, error) {
	switch {
	case len(b) > MaxPayload:
		return nil, TooLarge.New("batch of %d bytes is longer than %d", len(b), MaxPayload)
	case len(b) < 4:
		return nil, TooShort.New("batch of tombstones in %d bytes", len(b))
	}
	count, rest := binary.BigEndian.Uint32(b), b[4:]
	switch {
	case count > MaxEntries:
		return nil, TooLarge.New("batch of %d tombstones is longer than %d", count, MaxEntries)
	case len(rest) < int(count)*(4+minTombstoneSize):
		return nil, TooShort.New("batch of %d tombstones in %d bytes", count, len(rest))
	}
	all := make([]Tombstone, count)
	for i := range all {
		if len(rest) < 4 {
			return nil, TooShort.New("batch ends before its %dth tombstone", i+1)
		}
		n := binary.BigEndian.Uint32(rest)
		if rest = rest[4:]; uint64(len(rest)) < uint64(n) {
			return nil, TooShort.New("batch ends within its %dth tombstone", i+1)
		}
		var err error
		if all[i], err = DecodeTombstone(rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	if err := nothingAfter("batch of tombstones", rest); err != nil {
		return nil, err
	}
	return all, nil
}
