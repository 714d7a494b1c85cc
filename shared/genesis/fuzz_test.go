package genesis_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

type recordOnly struct {
	Hex bytesHex
}

func FuzzDecode(f *testing.F) {
	for _, v := range refusaltest.Vectors[recordOnly, genesisOut](f, "genesis_decode") {
		f.Add([]byte(v.In.Hex))
	}
	for _, v := range refusaltest.Vectors[recordOnly, genesisOut](f, "genesis") {
		f.Add([]byte(v.Out.Encoded))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := genesis.Decode(b)
		if err != nil {
			if !errors.Is(err, refusal.Serialization) || g != (genesis.Genesis{}) {
				t.Fatalf("%v, and something was returned", err)
			}
			return
		}
		again, err := g.Encode()
		if err != nil || !bytes.HasPrefix(b, again) || len(again) != 75+len(g.Name) {
			t.Fatalf("%d bytes came back as %d, %v", len(b), len(again), err)
		}
		if h, err := genesis.Decode(again); err != nil || h != g {
			t.Fatalf("the second time it is something else: %v", err)
		}
		if _, err := g.Credentials().Encode(); err != nil || len(g.MeshID()) != 8 {
			t.Fatalf("credentials: %v", err)
		}
	})
}

func FuzzDecodeCredentials(f *testing.F) {
	for _, v := range refusaltest.Vectors[recordOnly, struct{}](f, "credentials") {
		f.Add([]byte(v.In.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := genesis.DecodeCredentials(b)
		if err != nil {
			if !errors.Is(err, refusal.Serialization) {
				t.Fatal(err)
			}
			return
		}
		again, err := c.Encode()
		if err != nil || !bytes.HasPrefix(b, again) || len(again) != 75+len(c.Name) {
			t.Fatalf("%d bytes came back as %d, %v", len(b), len(again), err)
		}
		d, err := genesis.DecodeCredentials(again)
		if diff := cmp.Diff(c, d); err != nil || diff != "" {
			t.Fatalf("the second time it is something else: %v %s", err, diff)
		}
	})
}
