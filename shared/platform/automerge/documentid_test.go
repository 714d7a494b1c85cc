package automerge_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/automerge"
)

func TestDocumentID(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var b [16]byte
		for i := range b {
			if rng.IntN(3) > 0 || i > 4 { // leading zeros now and then
				b[i] = byte(rng.Uint32())
			}
		}
		id := automerge.NewDocumentID(b)
		if got, err := automerge.ParseDocumentID(id.String()); err != nil || got != id {
			t.Fatalf("%q: %q, %v", id, got, err)
		}
	}
	good := automerge.NewDocumentID([16]byte{0: 1, 15: 9}).String()
	for name, s := range map[string]string{
		"nothing":         "",
		"with its prefix": "automerge:" + good,
		"a digit changed": good[:5] + string('1'+(good[5]-'1'+1)%8) + good[6:],
		"a digit less":    good[1:],
		"not base 58":     "0" + good[1:],
		"a zero in front": "1" + good,
		"very long":       strings.Repeat("2", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if id, err := automerge.ParseDocumentID(s); !errors.Is(err, automerge.ErrDocumentID) {
				t.Errorf("%q, %v", id, err)
			}
		})
	}
}

// From automerge-repo 2.5.6: stringifyAutomergeUrl of the bytes 0 to 15.
func TestDocumentIDLikeJavaScript(t *testing.T) {
	var b [16]byte
	for i := range b {
		b[i] = byte(i)
	}
	if got, want := automerge.NewDocumentID(b), automerge.DocumentID("1Bhh3pU9gLXZiNDL6PEa1Gs9fh"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
