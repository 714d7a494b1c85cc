package saml_test

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml"
	"github.com/defenseunicorns/peat-gateway/shared/identity/saml/samltest"
)

func BenchmarkVerify(b *testing.B) {
	for name, change := range map[string]func(*samltest.Answer){
		"assertion signed": func(*samltest.Answer) {},
		"both signed":      func(a *samltest.Answer) { a.SignResponse = true },
		"300 groups": func(a *samltest.Answer) {
			a.Attributes = map[string][]string{"groups": {}}
			for i := range 300 {
				a.Attributes["groups"] = append(a.Attributes["groups"], "group-"+string(rune('a'+i%26))+string(rune('a'+i/26)))
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			a := answer()
			change(&a)
			response := must(idp().Respond(a))
			v := must(saml.New(opening(nil)))
			for b.Loop() {
				if _, err := v.Verify(b.Context(), identity.Proof{SAML: response}, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
