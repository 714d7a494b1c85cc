package meshwire

import (
	"encoding/binary"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
)

// Batch is several frames in the payload of one.
type Batch struct {
	ID        uint64
	CreatedAt time.Time // to the millisecond
	TTL       uint8     // peat-mesh writes 5 and does not look at it
	Entries   []Frame
}

const (
	batchHead    = 8 + 8 + 1 + 4
	minFrameSize = 2 + 1 + 4
)

// Encode returns the payload that Frame wraps.
func (b Batch) Encode() ([]byte, error) {
	at, ok := millis.Of(b.CreatedAt)
	switch {
	case !ok:
		return nil, TooLarge.New("batch created before 1970, or after all time")
	case len(b.Entries) > MaxEntries:
		return nil, TooLarge.New("batch of %d entries is longer than %d", len(b.Entries), MaxEntries)
	}
	out := binary.BigEndian.AppendUint64(nil, b.ID)
	out = binary.BigEndian.AppendUint64(out, at)
	out = binary.BigEndian.AppendUint32(append(out, b.TTL), uint32(len(b.Entries)))
	for _, f := range b.Entries {
		if f.Type >= NegentropyInit {
			return nil, InvalidType.New("a batch cannot have a frame of type %#02x", uint8(f.Type))
		}
		var err error
		if out, err = f.Append(out); err != nil {
			return nil, err
		}
	}
	if len(out) > MaxPayload {
		return nil, TooLarge.New("batch of %d bytes is longer than %d", len(out), MaxPayload)
	}
	return out, nil
}

// Frame returns the frame that carries b.
func (b Batch) Frame() (Frame, error) {
	payload, err := b.Encode()
	return Frame{Key: BatchKey, Type: BatchOfFrames, Payload: payload}, err
}

// DecodeBatch reads what Encode wrote. Frames that do not count within a batch
// are among its entries, see Type.InBatch.
func DecodeBatch(b []byte) (Batch, error) {
	switch {
	case len(b) > MaxPayload:
		return Batch{}, TooLarge.New("batch of %d bytes is longer than %d", len(b), MaxPayload)
	case len(b) < batchHead:
		return Batch{}, TooShort.New("batch of %d bytes (min %d)", len(b), batchHead)
	}
	out := Batch{ID: binary.BigEndian.Uint64(b), CreatedAt: millis.Time(binary.BigEndian.Uint64(b[8:])), TTL: b[16]}
	count, rest := binary.BigEndian.Uint32(b[17:]), b[batchHead:]
	switch {
	case count > MaxEntries:
		return Batch{}, TooLarge.New("batch of %d entries is longer than %d", count, MaxEntries)
	case len(rest) < int(count)*minFrameSize:
		return Batch{}, TooShort.New("batch of %d entries in %d bytes", count, len(rest))
	}
	out.Entries = make([]Frame, count)
	for i := range out.Entries {
		var err error
		if out.Entries[i], rest, err = nextFrame(rest); err != nil {
			return Batch{}, err
		}
		if t := out.Entries[i].Type; t >= NegentropyInit {
			return Batch{}, InvalidType.New("a batch cannot have a frame of type %#02x", uint8(t))
		}
	}
	if err := nothingAfter("batch", rest); err != nil {
		return Batch{}, err
	}
	return out, nil
}
