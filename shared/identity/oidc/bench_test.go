package oidc_test

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
)

// BenchmarkVerify is one token after another, with the keys at hand.
func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			i := identitytest.NewIssuer(b)
			i.Publish(identitytest.NewKey(b, "k", algorithm))
			v := open(b, i, nil)
			p, now := identity.Proof{Token: i.Token(nil)}, i.Now()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), p, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
