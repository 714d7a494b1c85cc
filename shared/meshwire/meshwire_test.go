package meshwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/defenseunicorns/peat-gateway/shared/meshwire"
	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

type frameIn struct {
	Key     string          `json:"doc_key"`
	Payload refusaltest.Hex `json:"payload_hex"`
	Type    meshwire.Type
}

func (f frameIn) frame() meshwire.Frame {
	return meshwire.Frame{Key: f.Key, Type: f.Type, Payload: f.Payload}
}

type wireOut struct {
	Batch   refusaltest.Hex `json:"batch_hex"`
	Encoded refusaltest.Hex `json:"encoded_hex"`
	Wire    refusaltest.Hex `json:"wire_hex"`
	Key     string          `json:"doc_key"`
}

func TestVectorsSyncFrame(t *testing.T) {
	for _, v := range refusaltest.Vectors[frameIn, wireOut](t, "sync_frame") {
		t.Run(v.ID, func(t *testing.T) {
			wire, err := v.In.frame().Append(nil)
			if err != nil || !bytes.Equal(wire, v.Out.Wire) {
				t.Errorf("%x, %v", wire, err)
			}
			f, err := meshwire.DecodeFrame(v.Out.Wire)
			if diff := cmp.Diff(v.In.frame(), f, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
			f, err = meshwire.ReadFrame(bytes.NewReader(v.Out.Wire), 1)
			if diff := cmp.Diff(v.In.frame(), f, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("from a stream: %v %s", err, diff)
			}
		})
	}
}

func TestVectorsSyncBatch(t *testing.T) {
	type in struct {
		ID        refusaltest.Uint `json:"batch_id"`
		CreatedAt refusaltest.Uint `json:"created_at_ms"`
		Entries   []frameIn
		TTL       uint8
	}
	for _, v := range refusaltest.Vectors[in, wireOut](t, "sync_batch") {
		t.Run(v.ID, func(t *testing.T) {
			b := meshwire.Batch{ID: uint64(v.In.ID), CreatedAt: millis.Time(uint64(v.In.CreatedAt)), TTL: v.In.TTL}
			for _, e := range v.In.Entries {
				b.Entries = append(b.Entries, e.frame())
			}
			payload, err := b.Encode()
			if err != nil || !bytes.Equal(payload, v.Out.Batch) {
				t.Errorf("%x, %v", payload, err)
			}
			f, err := b.Frame()
			if err != nil {
				t.Fatal(err)
			}
			if wire, err := f.Append(nil); err != nil || !bytes.Equal(wire, v.Out.Wire) {
				t.Errorf("%x, %v", wire, err)
			}
			again, err := meshwire.DecodeBatch(v.Out.Batch)
			if diff := cmp.Diff(b, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

type tombstoneIn struct {
	Collection    string
	DeletedAt     refusaltest.Uint `json:"deleted_at_ms"`
	DeletedBy     string           `json:"deleted_by"`
	Direction     meshwire.Direction
	DirectionName string           `json:"direction_name"`
	DocumentID    string           `json:"document_id"`
	Lamport       refusaltest.Uint `json:"lamport"`
	Reason        string
}

func (in tombstoneIn) tombstone() meshwire.Tombstone {
	return meshwire.Tombstone{
		Collection: in.Collection, DocumentID: in.DocumentID, DeletedAt: millis.Time(uint64(in.DeletedAt)),
		Lamport: uint64(in.Lamport), DeletedBy: in.DeletedBy, Reason: in.Reason, Direction: in.Direction,
	}
}

func TestVectorsTombstone(t *testing.T) {
	for _, v := range refusaltest.Vectors[tombstoneIn, wireOut](t, "tombstone") {
		t.Run(v.ID, func(t *testing.T) {
			want := v.In.tombstone()
			b, err := want.Encode()
			if err != nil || !bytes.Equal(b, v.Out.Encoded) || want.Key() != v.Out.Key || want.Direction.String() != v.In.DirectionName {
				t.Errorf("%s %s: %x, %v", want.Key(), want.Direction, b, err)
			}
			if got, err := meshwire.DecodeTombstone(v.Out.Encoded); err != nil || got != want {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	type in struct{ Hex refusaltest.Hex }
	for _, v := range refusaltest.Vectors[in, struct{}](t, "tombstone_decode") {
		t.Run(v.ID, func(t *testing.T) {
			_, err := meshwire.DecodeTombstone(v.In.Hex)
			v.Error.Check(t, err)
		})
	}
}

func TestVectorsTombstoneBatch(t *testing.T) {
	type in struct{ Tombstones []tombstoneIn }
	for _, v := range refusaltest.Vectors[in, wireOut](t, "tombstone_batch") {
		t.Run(v.ID, func(t *testing.T) {
			want := []meshwire.Tombstone{}
			for _, each := range v.In.Tombstones {
				want = append(want, each.tombstone())
			}
			b, err := meshwire.EncodeTombstones(want)
			if err != nil || !bytes.Equal(b, v.Out.Encoded) {
				t.Errorf("%x, %v", b, err)
			}
			f := meshwire.Frame{Key: meshwire.TombstoneBatchKey, Type: meshwire.TombstoneMany, Payload: b}
			if wire, err := f.Append(nil); err != nil || len(v.Out.Wire) > 0 && !bytes.Equal(wire, v.Out.Wire) {
				t.Errorf("%x, %v", wire, err)
			}
			got, err := meshwire.DecodeTombstones(v.Out.Encoded)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func TestDecodersRefuse(t *testing.T) {
	frame := func(b []byte) error { _, err := meshwire.DecodeFrame(b); return err }
	batch := func(b []byte) error { _, err := meshwire.DecodeBatch(b); return err }
	tombstone := func(b []byte) error { _, err := meshwire.DecodeTombstone(b); return err }
	tombstones := func(b []byte) error { _, err := meshwire.DecodeTombstones(b); return err }
	head := strings.Repeat("\x00", 17)
	for name, tc := range map[string]struct {
		decode func([]byte) error
		in     string
		class  refusal.Class
	}{
		"no frame":                         {frame, "", meshwire.TooShort},
		"half a key":                       {frame, "\x00\x02a", meshwire.TooShort},
		"a key that is no text":            {frame, "\x00\x01\xff\x00\x00\x00\x00\x00", meshwire.InvalidUTF8},
		"no type":                          {frame, "\x00\x01a", meshwire.TooShort},
		"a type that is none":              {frame, "\x00\x01a\x03\x00\x00\x00\x00", meshwire.InvalidType},
		"a type after the last":            {frame, "\x00\x01a\x0b\x00\x00\x00\x00", meshwire.InvalidType},
		"half a payload":                   {frame, "\x00\x01a\x00\x00\x00\x00\x02b", meshwire.TooShort},
		"gigabytes of payload":             {frame, "\x00\x01a\x00\xff\xff\xff\xff", meshwire.TooLarge},
		"something after a frame":          {frame, "\x00\x01a\x00\x00\x00\x00\x00!", meshwire.Trailing},
		"half a batch":                     {batch, head, meshwire.TooShort},
		"billions of entries":              {batch, head + "\xff\xff\xff\xff", meshwire.TooLarge},
		"more entries than there are":      {batch, head + "\x00\x00\x00\x02\x00\x01a\x00\x00\x00\x00\x00", meshwire.TooShort},
		"negentropy in a batch":            {batch, head + "\x00\x00\x00\x01\x00\x01a\x08\x00\x00\x00\x00", meshwire.InvalidType},
		"something after a batch":          {batch, head + "\x00\x00\x00\x00!", meshwire.Trailing},
		"a batch that is too long":         {batch, strings.Repeat("\x00", meshwire.MaxPayload+1), meshwire.TooLarge},
		"something after a tombstone":      {tombstone, strings.Repeat("\x00", 26), meshwire.Trailing},
		"no count of tombstones":           {tombstones, "\x00\x00\x00", meshwire.TooShort},
		"billions of tombstones":           {tombstones, "\xff\xff\xff\xff", meshwire.TooLarge},
		"more tombstones than there are":   {tombstones, "\x00\x00\x00\x01", meshwire.TooShort},
		"a tombstone longer than all":      {tombstones, "\x00\x00\x00\x01\xff\xff\xff\xff" + strings.Repeat("\x00", 25), meshwire.TooShort},
		"a tombstone shorter than it says": {tombstones, "\x00\x00\x00\x01\x00\x00\x00\x18" + strings.Repeat("\x00", 25), meshwire.TooShort},
		"something after tombstones":       {tombstones, "\x00\x00\x00\x00!", meshwire.Trailing},
		"too many bytes of tombstones":     {tombstones, strings.Repeat("\x00", meshwire.MaxPayload+1), meshwire.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.decode([]byte(tc.in)); !errors.Is(err, tc.class) {
				t.Errorf("got %v, want %v", err, tc.class)
			}
		})
	}
}

func TestEncodersRefuse(t *testing.T) {
	long := strings.Repeat("x", 65536)
	for name, tc := range map[string]struct {
		encode func() ([]byte, error)
		class  refusal.Class
	}{
		"a key of 65536 bytes":  {func() ([]byte, error) { return meshwire.Frame{Key: long}.Append(nil) }, meshwire.TooLarge},
		"a key that is no text": {func() ([]byte, error) { return meshwire.Frame{Key: "\xff"}.Append(nil) }, meshwire.InvalidUTF8},
		"a type that is none":   {func() ([]byte, error) { return meshwire.Frame{Type: 3}.Append(nil) }, meshwire.InvalidType},
		"a payload that is large": {func() ([]byte, error) {
			return meshwire.Frame{Payload: make([]byte, meshwire.MaxPayload+1)}.Append(nil)
		}, meshwire.TooLarge},
		"a batch of no time": {func() ([]byte, error) { return meshwire.Batch{}.Encode() }, meshwire.TooLarge},
		"a batch of many": {func() ([]byte, error) {
			return meshwire.Batch{CreatedAt: noon, Entries: make([]meshwire.Frame, meshwire.MaxEntries+1)}.Encode()
		}, meshwire.TooLarge},
		"a batch of negentropy": {func() ([]byte, error) {
			return meshwire.Batch{CreatedAt: noon, Entries: []meshwire.Frame{{Type: meshwire.NegentropyInit}}}.Encode()
		}, meshwire.InvalidType},
		"a batch that is large": {func() ([]byte, error) {
			return meshwire.Batch{CreatedAt: noon, Entries: []meshwire.Frame{{Payload: make([]byte, meshwire.MaxPayload)}}}.Encode()
		}, meshwire.TooLarge},
		"a tombstone of no time":   {func() ([]byte, error) { return meshwire.Tombstone{}.Encode() }, meshwire.TooLarge},
		"a direction that is none": {func() ([]byte, error) { return meshwire.Tombstone{DeletedAt: noon, Direction: 4}.Encode() }, meshwire.InvalidDirection},
		"a long collection":        {func() ([]byte, error) { return meshwire.Tombstone{DeletedAt: noon, Collection: long}.Encode() }, meshwire.TooLarge},
		"a long id":                {func() ([]byte, error) { return meshwire.Tombstone{DeletedAt: noon, DocumentID: long}.Encode() }, meshwire.TooLarge},
		"a long name":              {func() ([]byte, error) { return meshwire.Tombstone{DeletedAt: noon, DeletedBy: long}.Encode() }, meshwire.TooLarge},
		"a reason that is no text": {func() ([]byte, error) { return meshwire.Tombstone{DeletedAt: noon, Reason: "\xff"}.Encode() }, meshwire.InvalidUTF8},
		"many tombstones": {func() ([]byte, error) {
			return meshwire.EncodeTombstones(make([]meshwire.Tombstone, meshwire.MaxEntries+1))
		}, meshwire.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := tc.encode(); !errors.Is(err, tc.class) || b != nil {
				t.Errorf("got %v, want %v", err, tc.class)
			}
		})
	}
}

func TestReadFrame(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		want   error
	}{
		"nothing":               {"", io.EOF},
		"half a key":            {"\x00\x02a", io.ErrUnexpectedEOF},
		"half a payload":        {"\x00\x01a\x00\x00\x00\x00\x02b", io.ErrUnexpectedEOF},
		"more than the limit":   {"\x00\x01a\x00\x00\x00\x00\x0b", meshwire.TooLarge},
		"more than any limit":   {"\x00\x01a\x00\xff\xff\xff\xff", meshwire.TooLarge},
		"a type that is none":   {"\x00\x01a\x03\x00\x00\x00\x00", meshwire.InvalidType},
		"a key that is no text": {"\x00\x01\xff\x00\x00\x00\x00\x00", meshwire.InvalidUTF8},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := meshwire.ReadFrame(strings.NewReader(tc.stream), 10); !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if !meshwire.Snapshot.InBatch() || meshwire.BatchOfFrames.InBatch() || meshwire.Direction(4).String() != "unknown" {
		t.Error("a snapshot belongs in a batch, a batch does not")
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range refusaltest.Vectors[struct{ TTL int }, wireOut](f, "sync_batch") {
		f.Add([]byte(v.Out.Batch))
		f.Add([]byte(v.Out.Wire))
	}
	for _, v := range refusaltest.Vectors[tombstoneIn, wireOut](f, "tombstone") {
		f.Add([]byte(v.Out.Encoded))
	}
	for _, v := range refusaltest.Vectors[struct{ Tombstones []tombstoneIn }, wireOut](f, "tombstone_batch") {
		f.Add([]byte(v.Out.Encoded))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		back := func(what string, encoded []byte, err error) {
			if err != nil || !bytes.Equal(encoded, b) {
				t.Fatalf("%s of %x came back as %x, %v", what, b, encoded, err)
			}
		}
		frame, err := meshwire.DecodeFrame(b)
		if err == nil {
			again, err := frame.Append(nil)
			back("frame", again, err)
		}
		read, readErr := meshwire.ReadFrame(bytes.NewReader(b), meshwire.MaxPayload)
		if err == nil && (readErr != nil || cmp.Diff(frame, read) != "") {
			t.Fatalf("from a stream it is something else: %v", readErr)
		}
		if batch, err := meshwire.DecodeBatch(b); err == nil {
			again, err := batch.Encode()
			back("batch", again, err)
		}
		if tombstone, err := meshwire.DecodeTombstone(b); err == nil {
			again, err := tombstone.Encode()
			back("tombstone", again, err)
		}
		if all, err := meshwire.DecodeTombstones(b); err == nil {
			again, err := meshwire.EncodeTombstones(all)
			back("tombstones", again, err)
		}
	})
}

func ExampleReadFrame() {
	tombstone := meshwire.Tombstone{Collection: "tracks", DocumentID: "t-9", DeletedAt: noon, DeletedBy: "hq"}
	payload, err := tombstone.Encode()
	if err != nil {
		panic(err)
	}
	wire, _ := meshwire.Frame{Key: tombstone.Key(), Type: meshwire.TombstoneOne, Payload: payload}.Append(nil)

	frame, err := meshwire.ReadFrame(bytes.NewReader(wire), 1<<20)
	fmt.Println(frame.Key, frame.Type == meshwire.TombstoneOne, err)
	_, err = meshwire.ReadFrame(bytes.NewReader(wire), 10)
	fmt.Println(err)
	// Output:
	// tombstones:tracks:t-9 true <nil>
	// payload of 36 bytes is longer than 10
}
