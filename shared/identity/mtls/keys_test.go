package mtls_test

import (
	"crypto/rsa"
	"math/big"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
)

// hugeRSA is a key whose signatures would take minutes to check.
var hugeRSA = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 100_000), E: 65537}

// elsewhere is a gateway that reaches public addresses only.
var elsewhere = identity.Settings{Now: time.Now}
