package cert_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

func FuzzDecode(f *testing.F) {
	for _, group := range []string{"certificate_decode", "certificate_verify"} {
		for _, v := range refusaltest.Vectors[recordIn, recordOut](f, group) {
			f.Add([]byte(v.In.Hex))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := cert.Decode(b)
		if err != nil {
			if !errors.Is(err, refusal.Serialization) || c != (cert.Certificate{}) {
				t.Fatalf("%v, and something was returned", err)
			}
			return
		}
		again, err := c.Encode()
		if err != nil || !bytes.HasPrefix(b, again) || len(again) > cert.MaxSize {
			t.Fatalf("%d bytes came back as %d, %v", len(b), len(again), err)
		}
		exact, err := cert.DecodeExact(again)
		if err != nil || exact != c || exact.Serial() != c.Serial() {
			t.Fatalf("the second time it is something else: %v", err)
		}
		if _, err := cert.DecodeExact(b); (err == nil) != (len(again) == len(b)) {
			t.Fatalf("exact with %d bytes of %d: %v", len(b), len(again), err)
		}
		if err := c.Verify(); err != nil && !errors.Is(err, refusal.InvalidSignature) && !errors.Is(err, refusal.InvalidPublicKey) {
			t.Fatal(err)
		}
	})
}
