// Package refusaltest holds a codec to the vectors of the Rust implementation,
// which lie in the testdata/vectors of the package that it belongs to.
package refusaltest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// Hex is bytes that a vector has in hexadecimal.
type Hex []byte

// UnmarshalText reads a vector's bytes.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Uint is a number that a vector has as text, since JSON's own are too small.
type Uint uint64

// UnmarshalText reads a vector's number.
func (u *Uint) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 64)
	*u = Uint(n)
	return err
}

// Vector is one known answer: In gives Out, or is refused.
type Vector[In, Out any] struct {
	ID    string
	Desc  string
	In    In
	Out   Out
	Error *Failure
}

// Failure is how an input must be refused.
type Failure struct {
	Class   refusal.Class
	Message string `json:"message_contains"`
}

// Check reports an error that is not this one.
func (f Failure) Check(t testing.TB, err error) {
	t.Helper()
	var got *refusal.Error
	if !errors.As(err, &got) || got.Class != f.Class || !errors.Is(err, f.Class) || !strings.Contains(err.Error(), f.Message) {
		t.Errorf("got %v; want %s with %q", err, f.Class, f.Message)
	}
}

// Vectors returns those of a group, and fails if there are none.
func Vectors[In, Out any](t testing.TB, group string) []Vector[In, Out] {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/" + group + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []Vector[In, Out] }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return file.Vectors
}
