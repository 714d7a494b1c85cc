// Package token makes bearer tokens and recognizes them. A token says what it is
// for and whether it was copied whole, so that a scanner finds one that was left
// lying about and a mistyped one is told apart without asking a database:
//
//	peat_svc_ 7Nq…43 characters of chance…x0 1cS2bT
//	kind                                     checksum
//
// It says nothing else: not whose it is, nor what it opens. It is shown once; what
// is kept is a keyed hash (see Key).
package token

import (
	"errors"
	"hash/crc32"
	"io"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

// Kind is what a token is for: the letters it begins with. It ends in an
// underscore, which is in no other part of a token.
type Kind string

const (
	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	// 43 digits to the base 62 are the first number of them that has 256 bits.
	chanceLength = 43
	// 6 digits to the base 62 hold any 32 bits.
	checkLength = 6
)

// ErrMistyped is the error of a text that was never a token of the kind: cut off,
// misspelt, or made up.
var ErrMistyped = errors.New("this is no such token: it is incomplete or mistyped")

// New makes a token.
func (k Kind) New(random io.Reader) (env.Secret, error) {
	var text strings.Builder
	text.WriteString(string(k))
	var buf [64]byte
	for n := 0; n < chanceLength; {
		if _, err := io.ReadFull(random, buf[:]); err != nil {
			return env.Secret{}, err
		}
		for _, b := range buf {
			// 248 is the largest multiple of 62 in a byte: what is above would make
			// the first letters of the alphabet more frequent.
			if b < 248 && n < chanceLength {
				text.WriteByte(alphabet[b%62])
				n++
			}
		}
	}
	text.WriteString(checksum(text.String()))
	return env.NewSecret(text.String()), nil
}

// Is tells whether the text claims to be a token of this kind.
func (k Kind) Is(text string) bool { return strings.HasPrefix(text, string(k)) }

// Check returns nil for a text that can be a token of this kind. It tells nothing
// of whether there is one.
func (k Kind) Check(text string) error {
	if len(text) != len(k)+chanceLength+checkLength || !k.Is(text) {
		return ErrMistyped
	}
	for _, c := range []byte(text[len(k):]) {
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return ErrMistyped
		}
	}
	end := len(text) - checkLength
	if checksum(text[:end]) != text[end:] {
		return ErrMistyped
	}
	return nil
}

// Pattern is the regular expression by which a scanner finds tokens of this kind.
func (k Kind) Pattern() string { return string(k) + "[0-9A-Za-z]{49}" }

// checksum is the CRC-32 (IEEE) of a token's other parts. It covers the kind, so
// that a token does not become one of another kind by its first letters.
func checksum(text string) string {
	n := crc32.ChecksumIEEE([]byte(text))
	var out [checkLength]byte
	for i := checkLength - 1; i >= 0; i-- {
		out[i] = alphabet[n%62]
		n /= 62
	}
	return string(out[:])
}
