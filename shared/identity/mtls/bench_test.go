package mtls_test

import (
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
)

// BenchmarkVerify is a card below an issuing authority, as most are, with lists of both.
func BenchmarkVerify(b *testing.B) {
	for name, key := range map[string]string{"P-256": "", "RSA-2048": "rsa:2048"} {
		b.Run(name, func(b *testing.B) {
			root := mtlstest.NewRootOf(b, mtlstest.Request{Subject: "/CN=root", Key: key})
			issuing := root.Under(b, mtlstest.Request{Subject: "/CN=issuing", Key: key})
			card := issuing.Issue(b, mtlstest.Request{Subject: john, Key: key})
			v := open(b, object{"ca_pem": bundle(root, issuing), "revocation": object{"mode": "hard", "crls": []string{root.List(b), issuing.List(b)}}})
			proof, now := identity.Proof{Chain: chain(card)}, time.Now()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), proof, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
