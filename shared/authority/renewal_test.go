package authority_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
)

// TestRenewalsAreSpread: all in the window, and in every part of it.
func TestRenewalsAreSpread(t *testing.T) {
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, life := range []time.Duration{time.Minute, 24 * time.Hour, 366 * 24 * time.Hour} {
		var parts [10]int
		begin, length := issued.Add(life/3*2), life/6
		for i := range 1000 {
			at := authority.RenewAfter(issued, issued.Add(life), fmt.Sprint(i))
			if at != authority.RenewAfter(issued, issued.Add(life), fmt.Sprint(i)) {
				t.Fatal("not the same twice")
			}
			part := int(10 * at.Sub(begin) / length)
			if at.Before(begin.Add(-time.Millisecond)) || part > 9 {
				t.Fatalf("life %s: %s after issue", life, at.Sub(issued))
			}
			parts[max(0, part)]++
		}
		for i, n := range parts {
			if n < 50 {
				t.Errorf("life %s: %d of 1000 in part %d", life, n, i)
			}
		}
	}
}

// TestMessagesAreApart: no two proofs of different things are one text.
func TestMessagesAreApart(t *testing.T) {
	at := time.UnixMilli(1)
	seen := map[string]int{}
	for i, p := range []authority.Possession{
		{Purpose: "issue", MeshID: "ab", NodeID: "c", At: at},
		{Purpose: "issue", MeshID: "a", NodeID: "bc", At: at},
		{Purpose: "issuea", MeshID: "b", NodeID: "c", At: at},
		{Purpose: "issue", MeshID: "ab", NodeID: "c", Serial: "d", At: at},
		{Purpose: "issue", MeshID: "ab", NodeID: "c", Subject: []byte("d"), At: at},
		{Purpose: "renew", MeshID: "ab", NodeID: "c", At: at},
		{Purpose: "issue", MeshID: "ab", NodeID: "c", At: at.Add(time.Millisecond)},
	} {
		if other, ok := seen[string(p.Message())]; ok {
			t.Errorf("%d and %d are one", other, i)
		}
		seen[string(p.Message())] = i
	}
}
