package completeness_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/completeness"
)

func ExampleReceipt() {
	var sent, got completeness.Receipt
	for seq := range uint64(3) {
		sent.Add(seq+1, change.Hash{byte(seq)})
		if seq != 1 {
			got.Add(seq+1, change.Hash{byte(seq)})
		}
	}
	fmt.Println(sent.Seq == got.Seq, sent.Digest == got.Digest)
	// Output: true false
}

// The digest as docs/completeness.md tells others to make it.
func TestReceiptIsMadeAsWritten(t *testing.T) {
	var r completeness.Receipt
	digest := make([]byte, 32)
	for _, seq := range []uint64{3, 258} {
		h := change.Hash{0xaa, byte(seq)}
		r.Add(seq, h)
		in, err := hex.DecodeString(fmt.Sprintf("%x%016x%s", digest, seq, h))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(in)
		digest = sum[:]
		if r.Seq != seq || r.Hash != h {
			t.Errorf("the last is %d %s", r.Seq, r.Hash)
		}
	}
	if hex.EncodeToString(digest) != hex.EncodeToString(r.Digest[:]) || r.Count != 2 {
		t.Errorf("%x of %d, want %x", r.Digest, r.Count, digest)
	}
}

func TestReceiptCostsNoMemory(t *testing.T) {
	var r completeness.Receipt
	if n := testing.AllocsPerRun(100, func() { r.Add(r.Seq+1, r.Hash) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
