package cert_test

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
)

func BenchmarkIssue(b *testing.B) {
	authority, o := key(root), order()
	for b.Loop() {
		if _, err := cert.Issue(authority, o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTrustAdd(b *testing.B) {
	c := signed(b, 1, root)
	for b.Loop() {
		if err := believing(b, 1).Add(noon, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTrustPeer(b *testing.B) {
	trust := believing(b, 2)
	for _, c := range []cert.Certificate{signed(b, 1, root, may(enroller)), signed(b, 2, 1)} {
		if err := trust.Add(noon, c); err != nil {
			b.Fatal(err)
		}
	}
	peer := public(2)
	for b.Loop() {
		if _, err := trust.Peer(noon, peer[:]); err != nil {
			b.Fatal(err)
		}
	}
}
