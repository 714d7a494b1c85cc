package envelope

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
)

// FuzzVaultAnswer: whatever a server says becomes one of three errors or a value,
// and a ciphertext that is taken has one spelling.
func FuzzVaultAnswer(f *testing.F) {
	f.Add(200, []byte(`{"data":{"ciphertext":"vault:v1:AAAA","plaintext":"AAAA"}}`))
	f.Add(200, []byte(`vault:v1:AAA=`))
	f.Add(400, []byte(`{"errors":["cipher: message authentication failed"]}`))
	f.Add(503, []byte(`{"errors":["namespace is sealed"]}`))
	f.Add(403, []byte(`{"errors":null}`))
	var server kmstest.Faults
	v, err := NewVault(VaultOptions{
		Address: &url.URL{Scheme: "https", Host: "vault"}, Token: FixedToken("hvs.x"), Transport: kmstest.Transport{Server: &server},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { v.Close() })
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		if status < 200 || status > 599 {
			return
		}
		var out struct {
			Data struct {
				Ciphertext string
				Plaintext  []byte
			}
		}
		server.Next(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			w.Write(answer)
		})
		err := v.attempt(t.Context(), "hvs.x", http.MethodPost, "transit/encrypt/key", nil, &out)
		if err != nil && !errors.Is(err, ErrTampered) && !errors.Is(err, ErrKeyRefused) && !errors.Is(err, ErrUnavailable) {
			t.Fatalf("status %d: %v", status, err)
		}
		if err == nil && status != http.StatusOK {
			t.Fatalf("status %d is an answer", status)
		}
		for _, text := range [][]byte{answer, []byte(out.Data.Ciphertext)} {
			if isVaultCiphertext(text) && (bytes.ContainsAny(text, "\r\n\x00 ") || !bytes.HasPrefix(text, []byte("vault:v")) || len(text) > 0xffff) {
				t.Fatalf("taken for a ciphertext: %q", text)
			}
		}
	})
}
