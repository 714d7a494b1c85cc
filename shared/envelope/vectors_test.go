package envelope_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
)

type vector struct {
	ID string
	In struct {
		Envelope string `json:"envelope_hex"`
		KEK      string `json:"kek_hex"`
		DEK      string `json:"dek_hex"`
		Provider string
	}
	Out struct {
		Plaintext string `json:"plaintext_hex"`
		Wrapped   string `json:"wrapped_dek_hex"`
		Result    string
	}
	Error *struct{ Class string }
}

func vectors(t testing.TB, group string) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/" + group + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return file.Vectors
}

// opaque is a provider whose wrapped keys mean nothing to us, as with a key
// service: it knows one of them.
type opaque struct{ wrapped, dek []byte }

func (o opaque) KeyID() string { return "opaque" }

func (o opaque) Wrap(context.Context, envelope.Record, []byte) ([]byte, error) {
	return nil, errors.New("not used")
}

func (o opaque) Unwrap(_ context.Context, rec envelope.Record, wrapped []byte) ([]byte, error) {
	if rec != (envelope.Record{}) {
		return nil, errors.New("version 1 knows no records")
	}
	if !bytes.Equal(wrapped, o.wrapped) {
		return nil, envelope.ErrTampered
	}
	return bytes.Clone(o.dek), nil
}

func (v vector) provider(t *testing.T) envelope.KeyProvider {
	if v.In.Provider == "opaque" {
		return opaque{wrapped: unhex(t, v.Out.Wrapped), dek: unhex(t, v.In.DEK)}
	}
	kek, err := envelope.ParseKEK(v.In.KEK)
	if err != nil {
		t.Fatal(err)
	}
	return local(t, kek)
}

func TestVectorsEnvelope(t *testing.T) {
	for _, v := range vectors(t, "envelope") {
		t.Run(v.ID, func(t *testing.T) {
			blob, p := unhex(t, v.In.Envelope), v.provider(t)
			if !envelope.IsEnvelope(blob) || !envelope.NeedsReseal(blob) {
				t.Error("not recognised as an envelope of version 1")
			}
			got, err := envelope.Open(t.Context(), p, genesisOf("acme"), blob)
			if err != nil || !bytes.Equal(got, unhex(t, v.Out.Plaintext)) {
				t.Errorf("Open: %x, %v", got, err)
			}
			dek, err := p.Unwrap(t.Context(), envelope.Record{}, unhex(t, v.Out.Wrapped))
			if err != nil || !bytes.Equal(dek, unhex(t, v.In.DEK)) {
				t.Errorf("Unwrap: %d bytes, %v", len(dek), err)
			}
		})
	}
}

func TestVectorsEnvelopeOpen(t *testing.T) {
	classes := map[string]error{
		"ENVELOPE_UNSUPPORTED_VERSION": envelope.ErrVersion,
		"ENVELOPE_TRUNCATED":           envelope.ErrTruncated,
		"WRAPPED_DEK_TOO_SHORT":        envelope.ErrTampered,
		"DEK_UNWRAP_FAILED":            envelope.ErrTampered,
		"DEK_LENGTH":                   envelope.ErrTampered,
		"AEAD_OPEN_FAILED":             envelope.ErrTampered,
	}
	for _, v := range vectors(t, "envelope_open") {
		t.Run(v.ID, func(t *testing.T) {
			blob := unhex(t, v.In.Envelope)
			want := envelope.ErrNotEnvelope // upstream would use the bytes as they are
			if v.Error != nil {
				want = classes[v.Error.Class]
			} else if v.Out.Result != "not_an_envelope" {
				t.Fatalf("unknown result %q", v.Out.Result)
			}
			if v.ID == "envelope_open/version-2" {
				want = envelope.ErrTampered // version 2 is ours, but nobody sealed this
			}
			got, err := envelope.Open(t.Context(), v.provider(t), genesisOf("acme"), blob)
			if want == nil || !errors.Is(err, want) || got != nil {
				t.Errorf("Open: %x, %v; want %v", got, err, want)
			}
			if got := envelope.IsEnvelope(blob); got != (v.Error != nil) {
				t.Errorf("IsEnvelope: %v", got)
			}
		})
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
