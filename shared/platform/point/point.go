// Package point answers what crypto/ed25519 does not say of a public key: whether
// it is a point of the curve, and whether the point is a weak one.
//
// Public keys are no secret, so time may vary with them.
package point

import (
	"crypto/ed25519"
	"encoding/hex"
	"math/big"
)

// The field's prime, 2²⁵⁵-19, and d of the curve -x²+y² = 1+d·x²·y².
const (
	primeHex       = "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed"
	coefficientHex = "52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3"
)

// OnCurve tells whether pub decompresses: crypto/ed25519 has one answer for a bad
// key and a bad signature. y is on the curve if (y²-1)/(d·y²+1) is a square.
func OnCurve(pub ed25519.PublicKey) bool {
	if len(pub) != ed25519.PublicKeySize {
		return false
	}
	p, d := number(primeHex), number(coefficientHex)
	reversed := make([]byte, len(pub)) // the encoding is little-endian, big.Int is not
	for i, b := range pub {
		reversed[len(pub)-1-i] = b
	}
	reversed[0] &= 0x7f // the sign of x, which does not matter here
	y2 := new(big.Int).SetBytes(reversed)
	y2.Mul(y2, y2).Mod(y2, p)

	one := big.NewInt(1)
	u := new(big.Int).Sub(y2, one)
	v := d.Mul(d, y2).Add(d, one)
	// u/v is a square exactly if u·v is, and u/v is never undefined: -1/d is
	// not a square, so v is not zero.
	u.Mul(u, v).Mod(u, p)
	return big.Jacobi(u, p) >= 0
}

func number(text string) *big.Int {
	n, ok := new(big.Int).SetString(text, 16)
	if !ok {
		panic("point: a constant is not a number")
	}
	return n
}

// Weak tells whether pub is one of the eight points for which anybody can make
// signatures, since their order is 8 or less. Their y can be spelled in seven ways,
// two of which are not reduced.
func Weak(pub ed25519.PublicKey) bool {
	if len(pub) != ed25519.PublicKeySize {
		return false
	}
	y := [ed25519.PublicKeySize]byte(pub)
	y[len(y)-1] &= 0x7f // the sign of x
	switch hex.EncodeToString(y[:]) {
	case "0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 4, as the prime
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 1, as the prime and 1
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a": // order 8
		return true
	}
	return false
}
