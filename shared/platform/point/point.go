// Package point answers what crypto/ed25519 does not say of a public key: whether
// it is a point of the curve, and whether the point is a weak one.
//
// Public keys are no secret, so the arithmetic is with big numbers, whose time
// varies.
package point

import (
	"crypto/ed25519"
	"math/big"
)

var one = big.NewInt(1)

// prime returns 2²⁵⁵-19, of whose field the curve's coordinates are.
func prime() *big.Int {
	p := new(big.Int).Lsh(one, 255)
	return p.Sub(p, big.NewInt(19))
}

// coefficient returns d of -x²+y² = 1+d·x²·y².
func coefficient(p *big.Int) *big.Int {
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	return d.Mul(d, big.NewInt(-121665)).Mod(d, p)
}

// height returns the y that pub encodes, reduced. The sign of x does not matter
// to anything here.
func height(pub ed25519.PublicKey, p *big.Int) *big.Int {
	reversed := make([]byte, len(pub)) // the encoding is little-endian, big.Int is not
	for i, b := range pub {
		reversed[len(pub)-1-i] = b
	}
	reversed[0] &= 0x7f // the sign of x
	y := new(big.Int).SetBytes(reversed)
	return y.Mod(y, p)
}

// OnCurve tells whether pub decompresses: crypto/ed25519 has one answer for a bad
// key and a bad signature. y is on the curve if (y²-1)/(d·y²+1) is a square.
func OnCurve(pub ed25519.PublicKey) bool {
	if len(pub) != ed25519.PublicKeySize {
		return false
	}
	p := prime()
	y2 := height(pub, p)
	y2.Mul(y2, y2).Mod(y2, p)
	u := new(big.Int).Sub(y2, one)
	v := new(big.Int).Mul(coefficient(p), y2)
	v.Add(v, one)
	// u/v is a square exactly if u·v is, and u/v is never undefined: -1/d is
	// not a square, so v is not zero.
	u.Mul(u, v).Mod(u, p)
	return big.Jacobi(u, p) >= 0
}

// Weak tells whether pub is one of the eight points for which anybody can make
// signatures, since their order is 8 or less. Of order 1, 2 and 4 are those with
// y of 1, -1 and 0. Twice a point of order 8 is one with y of 0, which is to say
// x² = -y²; put into the curve's equation, that is d·y⁴+2y² = 1.
func Weak(pub ed25519.PublicKey) bool {
	if !OnCurve(pub) {
		return false
	}
	p := prime()
	y2 := height(pub, p)
	y2.Mul(y2, y2).Mod(y2, p)
	if y2.Sign() == 0 || y2.Cmp(one) == 0 {
		return true
	}
	sum := new(big.Int).Mul(coefficient(p), y2)
	sum.Add(sum, big.NewInt(2)).Mul(sum, y2).Mod(sum, p)
	return sum.Cmp(one) == 0
}
