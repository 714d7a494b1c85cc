package tokenclaims_test

import (
	"fmt"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity/tokenclaims"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func ExampleRules_Judge() {
	rules := tokenclaims.Rules{Claims: tokenclaims.Mapping{Roles: "realm_access.roles"}}
	if err := rules.Prepare(); err != nil {
		panic(err)
	}
	set, err := tokenclaims.Decode([]byte(`{"iss":"https://idp.example","sub":"truck-7","aud":"peat","exp":1800000000,"realm_access":{"roles":["medic","driver"]}}`))
	if err != nil {
		panic(err)
	}
	now := time.Unix(1_799_999_000, 0)
	claims, err := rules.Judge(set, tokenclaims.Case{Issuer: "https://idp.example", Audiences: []string{"peat"}}, now)
	fmt.Println(claims.Subject, claims.Roles, err)
	_, err = rules.Judge(set, tokenclaims.Case{Issuer: "https://idp.example", Audiences: []string{"other"}}, now)
	fmt.Println(fault.Of(err).Message)
	// Output:
	// truck-7 [driver medic] <nil>
	// the token is not accepted: it is for another audience, "peat"
}
