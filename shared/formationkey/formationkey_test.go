package formationkey_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/formationkey"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

type keyIn struct {
	Formation string          `json:"formation_id"`
	Nonce     refusaltest.Hex `json:"nonce_hex"`
	Secret    refusaltest.Hex `json:"secret_hex"`
	Text      string          `json:"secret_b64"`
}

type keyOut struct {
	Challenge refusaltest.Hex `json:"challenge_wire_hex"`
	Response  refusaltest.Hex `json:"response_hex"`
	Secret    refusaltest.Hex `json:"secret_hex"`
}

func newKey(t testing.TB, formation string, secret []byte) formationkey.Key {
	t.Helper()
	key, err := formationkey.New(formation, genesis.Secret(secret))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVectorsFormationKey(t *testing.T) {
	for _, v := range refusaltest.Vectors[keyIn, keyOut](t, "formation_key") {
		t.Run(v.ID, func(t *testing.T) {
			key := newKey(t, v.In.Formation, v.In.Secret)
			if got := key.Respond(v.In.Nonce); !bytes.Equal(got[:], v.Out.Response) {
				t.Errorf("response %x", got)
			}
			if len(v.In.Nonce) != formationkey.Size {
				return
			}
			nonce, response := [32]byte(v.In.Nonce), [32]byte(v.Out.Response)
			if !key.Accepts(nonce, response) {
				t.Error("not accepted")
			}
			for i := range response {
				wrong := response
				wrong[i] ^= 1
				if key.Accepts(nonce, wrong) {
					t.Fatalf("accepted with another byte %d", i)
				}
			}
			challenge, err := key.Challenge(bytes.NewReader(v.In.Nonce))
			if err != nil {
				t.Fatal(err)
			}
			wire, err := challenge.Encode()
			if err != nil || !bytes.Equal(wire, v.Out.Challenge) {
				t.Errorf("challenge %x, %v", wire, err)
			}
			if again, err := formationkey.DecodeChallenge(v.Out.Challenge); err != nil || again != challenge {
				t.Errorf("read as %v, %v", again, err)
			}
		})
	}
}

func TestVectorsFormationKeyFromBase64(t *testing.T) {
	for _, v := range refusaltest.Vectors[keyIn, keyOut](t, "formation_key_from_base64") {
		t.Run(v.ID, func(t *testing.T) {
			secret, exact, err := formationkey.SecretFromText(" \t" + v.In.Text + "\r\n")
			if v.Error != nil {
				v.Error.Check(t, err)
				return
			}
			if err != nil || !bytes.Equal(secret[:], v.Out.Secret) || exact != (v.ID == "formation_key_from_base64/exact-32") {
				t.Errorf("secret %x, exact %v, %v", secret[:], exact, err)
			}
			if got := newKey(t, v.In.Formation, secret[:]).Respond(v.In.Nonce); !bytes.Equal(got[:], v.Out.Response) {
				t.Errorf("response %x", got)
			}
		})
	}
	_, _, err := formationkey.SecretFromText(strings.Repeat("QUJD", 1025))
	refusaltest.Failure{Class: refusal.AuthFailed, Message: "longer than"}.Check(t, err)
}

func TestVectorsFormationMessages(t *testing.T) {
	type in struct {
		Hex  refusaltest.Hex
		Byte byte
	}
	type out struct {
		Formation string          `json:"formation_id"`
		Nonce     refusaltest.Hex `json:"nonce_hex"`
		Response  refusaltest.Hex `json:"response_hex"`
		Accepted  bool
	}
	for _, v := range refusaltest.Vectors[in, out](t, "formation_challenge_decode") {
		t.Run(v.ID, func(t *testing.T) {
			c, err := formationkey.DecodeChallenge(v.In.Hex)
			if v.Error != nil {
				v.Error.Check(t, err)
			} else if err != nil || c.Formation != v.Out.Formation || !bytes.Equal(c.Nonce[:], v.Out.Nonce) {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
	for _, v := range refusaltest.Vectors[in, out](t, "formation_response_decode") {
		t.Run(v.ID, func(t *testing.T) {
			r, err := formationkey.DecodeResponse(v.In.Hex)
			if v.Error != nil {
				v.Error.Check(t, err)
			} else if err != nil || !bytes.Equal(r[:], v.Out.Response) {
				t.Errorf("got %x, %v", r, err)
			}
		})
	}
	for _, v := range refusaltest.Vectors[in, out](t, "formation_verdict") {
		t.Run(v.ID, func(t *testing.T) {
			if got := formationkey.DecodeVerdict(v.In.Byte); got != v.Out.Accepted {
				t.Errorf("got %v", got)
			}
			if v.In.Byte <= 1 && formationkey.EncodeVerdict(v.Out.Accepted) != v.In.Byte {
				t.Error("written differently")
			}
		})
	}
}

func TestFormationIDsAreText(t *testing.T) {
	for name, id := range map[string]string{"too long": strings.Repeat("f", 65536), "no text": "\xff"} {
		t.Run(name, func(t *testing.T) {
			if _, err := formationkey.New(id, genesis.Secret{}); !errors.Is(err, refusal.AuthFailed) {
				t.Errorf("New: %v", err)
			}
			if _, err := (formationkey.Challenge{Formation: id}).Encode(); !errors.Is(err, refusal.AuthFailed) {
				t.Errorf("Encode: %v", err)
			}
		})
	}
	if _, err := newKey(t, "f", make([]byte, 32)).Challenge(bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too little randomness: %v", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	key := newKey(t, "logistics", bytes.Repeat([]byte{0x42}, 32))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		for _, of := range []any{key, &key} {
			if got := fmt.Sprintf(verb, of); got != `key of formation "logistics"` {
				t.Errorf("%s: %s", verb, got)
			}
		}
	}
}

func FuzzMessages(f *testing.F) {
	seed, err := hex.DecodeString("0e00746573742d666f726d6174696f6e")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(seed, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := formationkey.DecodeChallenge(b); err == nil {
			again, err := c.Encode()
			if err != nil || !bytes.HasPrefix(b, again) {
				t.Fatalf("%x came back as %x, %v", b, again, err)
			}
		} else if !errors.Is(err, refusal.AuthFailed) {
			t.Fatal(err)
		}
		if r, err := formationkey.DecodeResponse(b); err == nil && !bytes.HasPrefix(b, r[:]) {
			t.Fatalf("%x came back as %x", b, r)
		}
		if _, _, err := formationkey.SecretFromText(string(b)); err != nil && !errors.Is(err, refusal.AuthFailed) {
			t.Fatal(err)
		}
	})
}

func ExampleKey() {
	secret := genesis.Secret([]byte("thirty-two bytes that are shared")) // see genesis.FormationSecret
	ours, _ := formationkey.New("A1B2C3D4", secret)
	theirs, _ := formationkey.New("A1B2C3D4", secret)

	challenge, _ := ours.Challenge(rand.Reader)
	response := theirs.Respond(challenge.Nonce[:])
	fmt.Println(ours.Accepts(challenge.Nonce, response))
	fmt.Println(theirs)
	// Output:
	// true
	// key of formation "A1B2C3D4"
}
