package token_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
)

const kind token.Kind = "peat_test_"

func ExampleKind() {
	const invitation token.Kind = "peat_inv_"
	secret, err := invitation.New(rand.Reader)
	if err != nil {
		panic(err)
	}
	fmt.Println(secret) // it does not print
	text := secret.Reveal()
	fmt.Println(len(text), invitation.Check(text))
	fmt.Println(invitation.Check(text[:len(text)-1]))
	// Output:
	// [secret]
	// 58 <nil>
	// this is no such token: it is incomplete or mistyped
}

// TestKnownAnswers: tokens that are out there stay tokens.
func TestKnownAnswers(t *testing.T) {
	made, err := kind.New(bytes.NewReader(bytes.Repeat([]byte{0, 61, 62, 255, 36, 247}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	// The end is 1082172412, the CRC-32 of what is before it as zlib has it, in base 62.
	if diff := cmp.Diff("peat_test_0z0az0z0az0z0az0z0az0z0az0z0az0z0az0z0az0z01BEgTk", made.Reveal()); diff != "" {
		t.Error(diff)
	}
}

func TestEveryTokenIsOne(t *testing.T) {
	seen := map[string]bool{}
	letters := map[rune]int{}
	pattern := regexp.MustCompile("^" + kind.Pattern() + "$")
	for range 2000 {
		made, err := kind.New(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		text := made.Reveal()
		if err := kind.Check(text); err != nil || seen[text] || !pattern.MatchString(text) {
			t.Fatalf("%s: %v", text, err)
		}
		seen[text] = true
		for _, c := range text[len(kind) : len(text)-6] {
			letters[c]++
		}
	}
	// 86,000 letters, 1387 of each on average, with a deviation of 37: 8 times that
	// does not happen by chance, and a plain remainder of 256 by 62 is 14 times off.
	for _, c := range "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" {
		if n := letters[c]; n < 1387-300 || n > 1387+300 {
			t.Errorf("%c comes %d times", c, n)
		}
	}
}

func TestEveryMistakeIsSeen(t *testing.T) {
	made, err := kind.New(mathrand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	text := made.Reveal()
	for i := len(kind); i < len(text); i++ {
		for _, c := range "0aZ_ \x00\xff" {
			wrong := text[:i] + string(c) + text[i+1:]
			if wrong != text && !errors.Is(kind.Check(wrong), token.ErrMistyped) {
				t.Errorf("%q passes", wrong)
			}
		}
		if i+1 < len(text) && text[i] != text[i+1] {
			swapped := text[:i] + string(text[i+1]) + string(text[i]) + text[i+2:]
			if kind.Check(swapped) == nil {
				t.Errorf("%q passes, with two letters swapped", swapped)
			}
		}
	}
	for name, wrong := range map[string]string{
		"nothing":          "",
		"the kind alone":   string(kind),
		"cut off":          text[:len(text)-1],
		"with a line end":  text + "\n",
		"twice":            text + text,
		"of another kind":  "peat_tesu_" + strings.TrimPrefix(text, string(kind)),
		"without its kind": strings.TrimPrefix(text, string(kind)),
		"very long":        string(kind) + strings.Repeat("a", 1<<20),
	} {
		if err := kind.Check(wrong); !errors.Is(err, token.ErrMistyped) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoChanceNoToken(t *testing.T) {
	if made, err := kind.New(iotest.ErrReader(io.ErrUnexpectedEOF)); err == nil || made.IsSet() {
		t.Error("a token was made of nothing")
	}
}

const (
	first  = "0101010101010101010101010101010101010101010101010101010101010101"
	second = "0202020202020202020202020202020202020202020202020202020202020202"
)

func TestKeys(t *testing.T) {
	old, err := token.ParseKey(first)
	if err != nil {
		t.Fatal(err)
	}
	both, err := token.ParseKey(second + "," + first + "\n")
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, bytes.Repeat([]byte{1}, 32))
	mac.Write([]byte("text"))
	want := mac.Sum(nil)
	if diff := cmp.Diff(want, old.Hash("text")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]byte{both.Hash("text"), want}, both.Hashes("text")); diff != "" {
		t.Errorf("the older key: %s", diff)
	}
	if bytes.Equal(both.Hash("text"), want) {
		t.Error("new tokens are hashed under the older key")
	}
	if (token.Key{}).IsSet() || !old.IsSet() {
		t.Error("IsSet")
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":         "",
		"only commas":     ",,",
		"too short":       first[:62],
		"too long":        first + "01",
		"not hexadecimal": strings.Repeat("g", 64),
		"zeros":           strings.Repeat("0", 64),
		"one of two":      first + ",hush",
		"five":            strings.Repeat(first+",", 5),
	} {
		k, err := token.ParseKey(in)
		if err == nil || k.IsSet() || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "0101") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	made, err := token.LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := token.LoadOrCreateKey(path)
	if err != nil || !bytes.Equal(made.Hash("x"), again.Hash("x")) {
		t.Errorf("another key: %v", err)
	}
	if err := os.WriteFile(path, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := token.LoadOrCreateKey(path); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	k, err := token.ParseKey(first)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb, k, &k, struct{ k token.Key }{k})
	}
	b, _ := json.Marshal(struct{ K token.Key }{k})
	out.Write(b)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "k", k)
	for _, form := range []string{"0101", "1 1 1", "0x1, 0x1", `\x01\x01`} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is in %s", form, out.String())
		}
	}
}

func FuzzCheck(f *testing.F) {
	made, err := kind.New(mathrand.NewChaCha8([32]byte{1}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made.Reveal())
	f.Add("peat_test_")
	f.Fuzz(func(t *testing.T, text string) {
		if kind.Check(text) != nil {
			return
		}
		if !regexp.MustCompile("^" + kind.Pattern() + "$").MatchString(text) {
			t.Errorf("%q is taken for a token", text)
		}
		if kind.Check(text+"0") == nil || kind.Check("x"+text) == nil {
			t.Error("what is around a token does not matter")
		}
	})
}
