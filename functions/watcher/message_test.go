package watcher

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

func mustCodec(t testing.TB) codec {
	t.Helper()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func frame(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeFrame(t *testing.T) {
	type m = map[string]any
	for name, tc := range map[string]struct {
		in   any
		want message
		err  string
	}{
		"join": {in: m{"type": "join", "senderId": "p", "peerMetadata": m{"storageId": "s", "isEphemeral": false}, "supportedProtocolVersions": []string{"1"}},
			want: message{Type: "join", SenderID: "p", Versions: []string{"1"}, Metadata: &metadata{}}},
		"join without versions":      {in: m{"type": "join", "senderId": "p"}, want: message{Type: "join", SenderID: "p"}},
		"join by nobody":             {in: m{"type": "join"}, err: "peer id"},
		"join by a very long name":   {in: m{"type": "join", "senderId": strings.Repeat("p", 257)}, err: "peer id"},
		"join with another version":  {in: m{"type": "join", "senderId": "p", "supportedProtocolVersions": []string{"2"}}, err: "unsupported protocol version"},
		"sync":                       {in: m{"type": "sync", "senderId": "p", "documentId": "d", "data": []byte{1}}, want: message{Type: "sync", SenderID: "p", DocumentID: "d", Data: []byte{1}}},
		"sync without data":          {in: m{"type": "sync", "senderId": "p", "documentId": "d"}, err: "no data"},
		"heads with a float in them": {in: m{"type": "remote-heads-changed", "newHeads": m{"s": m{"timestamp": 1.5}}}, want: message{Type: "remote-heads-changed"}},
		"null":                       {in: nil, err: "no type"},
		"a list":                     {in: []int{1}, err: "not a message"},
		"a number as type":           {in: m{"type": 1}, err: "not a message"},
		"data that is text":          {in: m{"type": "sync", "data": "text"}, err: "not a message"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mustCodec(t).decode(frame(t, tc.in))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("err = %v, want %q", err, tc.err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

// undefined is how JavaScript's encoder writes a field that is not set.
func TestUndefinedIsLikeAbsent(t *testing.T) {
	b := frame(t, map[string]any{"type": "join", "senderId": "p", "peerMetadata": "?"})
	b = bytes.Replace(b, frame(t, "?"), []byte{0xf7}, 1)
	if _, err := mustCodec(t).decode(b); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	c := mustCodec(f)
	for _, m := range []message{
		{Type: "join", SenderID: "p", Versions: []string{"1"}, Metadata: &metadata{IsEphemeral: true}},
		{Type: "sync", SenderID: "p", TargetID: "q", DocumentID: "d", Data: []byte{0x42, 0, 0, 0, 0}},
		{Type: "error", Message: "m"},
	} {
		f.Add(frame(f, m))
	}
	f.Add([]byte{0xf6})
	f.Add([]byte{0xbf, 0x64, 't', 'y', 'p', 'e', 0x61, 'x', 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := c.decode(b)
		if err != nil {
			return
		}
		if m.Type == "" {
			t.Fatal("a message without a type was taken")
		}
		// What was taken can be sent on, and is the same when it comes back.
		again, err := c.encode(m)
		if err != nil {
			t.Fatal(err)
		}
		back, err := c.decode(again)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if m.Versions == nil {
			m.Versions = back.Versions // an empty list is left out
		}
		if diff := cmp.Diff(m, back); diff != "" && len(m.Versions) > 0 {
			t.Fatal(diff)
		}
	})
}
