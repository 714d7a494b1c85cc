package event

import "testing"

// TestIsPlain puts every byte in every place of strings around eight bytes long.
func TestIsPlain(t *testing.T) {
	for length := 1; length <= 17; length++ {
		for at := range length {
			for c := range 256 {
				s := []byte("abcdefghijklmnopq")[:length]
				s[at] = byte(c)
				want := c >= ' ' && c < 0x7f && c != '"' && c != '\\'
				if got := isPlain(string(s)); got != want {
					t.Fatalf("%q: %t", s, got)
				}
			}
		}
	}
	if !isPlain("") {
		t.Error("nothing needs escaping")
	}
}
