package point_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"math/big"
	"slices"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
)

func TestPoints(t *testing.T) {
	seeded := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)).Public().(ed25519.PublicKey)
	for name, tc := range map[string]struct {
		key           string
		onCurve, weak bool
	}{
		"somebody's key":                  {hex.EncodeToString(seeded), true, false},
		"the base point":                  {"5866666666666666666666666666666666666666666666666666666666666666", true, false},
		"y of 2":                          {"0200000000000000000000000000000000000000000000000000000000000000", false, false},
		"order 1":                         {"0100000000000000000000000000000000000000000000000000000000000000", true, true},
		"order 2":                         {"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", true, true},
		"order 4":                         {"0000000000000000000000000000000000000000000000000000000000000000", true, true},
		"order 4, the other x":            {"0000000000000000000000000000000000000000000000000000000000000080", true, true},
		"order 4, y not reduced":          {"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", true, true},
		"order 8":                         {"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", true, true},
		"order 8, the other x":            {"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", true, true},
		"order 8, the other y":            {"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", true, true},
		"order 8, neither":                {"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", true, true},
		"too short for a key":             {"01", false, false},
		"too long for a key":              {"010000000000000000000000000000000000000000000000000000000000000000", false, false},
		"no key":                          {"", false, false},
		"order 1, y not reduced":          {"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", true, true},
		"order 1, sign of an x that is 0": {"0100000000000000000000000000000000000000000000000000000000000080", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := hex.DecodeString(tc.key)
			if err != nil {
				t.Fatal(err)
			}
			if got := point.OnCurve(key); got != tc.onCurve {
				t.Errorf("OnCurve is %v", got)
			}
			if got := point.Weak(key); got != tc.weak {
				t.Errorf("Weak is %v", got)
			}
		})
	}
}

// TestWeakPointsAreAllKnown asks the curve. Points of order 1, 2 and 4 are those
// with y of 1, -1 and 0. Twice a point of order 8 has y of 0, which is to say
// x² = -y²; put into the curve's equation, that is d·y⁴+2y² = 1. All numbers of
// 255 bits that fulfil one of these are found from the square roots.
func TestWeakPointsAreAllKnown(t *testing.T) {
	one := big.NewInt(1)
	p := new(big.Int).Lsh(one, 255)
	p.Sub(p, big.NewInt(19))
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	d.Mul(d, big.NewInt(-121665)).Mod(d, p)

	// y² = (-1 ± √(1+d))/d
	root := new(big.Int).ModSqrt(new(big.Int).Add(d, one), p)
	inverse := new(big.Int).ModInverse(d, p)
	heights := []*big.Int{big.NewInt(0), one, new(big.Int).Sub(p, one)}
	for _, r := range []*big.Int{root, new(big.Int).Neg(root)} {
		y2 := new(big.Int).Sub(r, one)
		y2.Mul(y2, inverse).Mod(y2, p)
		if y := new(big.Int).ModSqrt(y2, p); y != nil {
			heights = append(heights, y, new(big.Int).Sub(p, y))
		}
	}
	found := 0
	for _, y := range heights {
		for ; y.BitLen() <= 255; y = new(big.Int).Add(y, p) {
			key := y.FillBytes(make([]byte, 32))
			slices.Reverse(key)
			found++
			for _, sign := range []byte{0, 0x80} {
				key[31] |= sign
				if !point.Weak(key) || !point.OnCurve(key) {
					t.Errorf("%x: weak %v, on the curve %v", key, point.Weak(key), point.OnCurve(key))
				}
			}
		}
	}
	if found != 7 {
		t.Errorf("%d spellings, want 7", found)
	}
}

// TestWeakKeysTakeAnySignature shows what the others need Weak for: with such a
// key, one signature is good for many messages.
func TestWeakKeysTakeAnySignature(t *testing.T) {
	key := make(ed25519.PublicKey, 32)
	key[0] = 1
	signature := make([]byte, 64)
	signature[0] = 1 // R is the neutral element and S is zero
	if !ed25519.Verify(key, []byte("anything"), signature) || !point.Weak(key) {
		t.Error("the library has learned to refuse it: Weak may be needed no more")
	}
}
