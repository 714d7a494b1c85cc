package enrollment_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/enrollment"
	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

type hexBytes = refusaltest.Hex

type recordIn struct{ Hex hexBytes }

type requestIn struct {
	MeshID string           `json:"mesh_id"`
	NodeID string           `json:"node_id"`
	Tier   cert.Tier        `json:"requested_tier"`
	Secret hexBytes         `json:"secret_key_hex"`
	At     refusaltest.Uint `json:"timestamp_ms"`
	Token  hexBytes         `json:"token_hex"`
}

type requestOut struct {
	Encoded   hexBytes `json:"encoded_hex"`
	Framed    hexBytes `json:"framed_hex"`
	Signable  hexBytes `json:"signable_hex"`
	Signature hexBytes `json:"signature_hex"`
	Subject   hexBytes `json:"subject_hex"`
}

func TestVectorsEnrollmentRequest(t *testing.T) {
	for _, v := range refusaltest.Vectors[requestIn, requestOut](t, "enrollment_request") {
		t.Run(v.ID, func(t *testing.T) {
			r, err := enrollment.Request{
				MeshID: v.In.MeshID, NodeID: v.In.NodeID, Tier: v.In.Tier, Token: enrollment.TokenText(v.In.Token), At: millis.Time(uint64(v.In.At)),
			}.Sign(ed25519.NewKeyFromSeed(v.In.Secret))
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			framed, err := enrollment.AppendFrame(nil, encoded)
			if err != nil {
				t.Fatal(err)
			}
			got := requestOut{encoded, framed, encoded[:len(encoded)-64], r.Signature[:], r.Subject[:]}
			if diff := cmp.Diff(v.Out, got); diff != "" {
				t.Error(diff)
			}
			message, err := enrollment.ReadFrame(bytes.NewReader(v.Out.Framed))
			if err != nil {
				t.Fatal(err)
			}
			again, err := enrollment.DecodeRequestExact(message)
			if err != nil || again != r || again.Verify() != nil {
				t.Errorf("read as something else: %v, verified: %v", err, again.Verify())
			}
		})
	}
}

func TestVectorsEnrollmentRequestRefused(t *testing.T) {
	for _, v := range refusaltest.Vectors[recordIn, struct{}](t, "enrollment_request_decode") {
		t.Run(v.ID, func(t *testing.T) {
			_, err := enrollment.DecodeRequest(v.In.Hex)
			v.Error.Check(t, err)
			_, err = enrollment.DecodeRequestExact(v.In.Hex)
			v.Error.Check(t, err)
		})
	}
	for _, v := range refusaltest.Vectors[recordIn, struct{}](t, "enrollment_request_verify") {
		t.Run(v.ID, func(t *testing.T) {
			r, err := enrollment.DecodeRequestExact(v.In.Hex)
			if err != nil {
				t.Fatal(err)
			}
			v.Error.Check(t, r.Verify())
		})
	}
}

type responseIn struct {
	Certificate hexBytes `json:"certificate_hex"`
	Secret      hexBytes `json:"formation_secret_hex"`
	Reason      string
	Status      enrollment.Status
	StatusName  string           `json:"status_name"`
	At          refusaltest.Uint `json:"timestamp_ms"`
}

type responseOut struct {
	Encoded hexBytes `json:"encoded_hex"`
	Framed  hexBytes `json:"framed_hex"`
}

func TestVectorsEnrollmentResponse(t *testing.T) {
	for _, v := range refusaltest.Vectors[responseIn, responseOut](t, "enrollment_response") {
		t.Run(v.ID, func(t *testing.T) {
			r := enrollment.Response{
				Status: v.In.Status, Reason: v.In.Reason, FormationSecret: enrollment.Secret(v.In.Secret), At: millis.Time(uint64(v.In.At)),
			}
			if len(v.In.Certificate) > 0 {
				c, err := cert.DecodeExact(v.In.Certificate)
				if err != nil {
					t.Fatal(err)
				}
				r.Certificate = &c
			}
			if r.Status.String() != v.In.StatusName {
				t.Errorf("status is %s", r.Status)
			}
			encoded, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			framed, err := enrollment.AppendFrame(nil, encoded)
			if diff := cmp.Diff(v.Out, responseOut{encoded, framed}); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
			again, err := enrollment.DecodeResponse(v.Out.Encoded)
			if diff := cmp.Diff(r, again); err != nil || diff != "" {
				t.Errorf("read as something else: %v %s", err, diff)
			}
		})
	}
}

func TestVectorsEnrollmentResponseDecode(t *testing.T) {
	type out struct {
		HasCertificate bool `json:"has_certificate"`
		HasSecret      bool `json:"has_secret"`
		Reason         string
		Status         enrollment.Status
		At             refusaltest.Uint `json:"timestamp_ms"`
	}
	for _, v := range refusaltest.Vectors[recordIn, out](t, "enrollment_response_decode") {
		t.Run(v.ID, func(t *testing.T) {
			r, err := enrollment.DecodeResponse(v.In.Hex)
			if v.Error != nil {
				v.Error.Check(t, err)
				return
			}
			at, _ := millis.Of(r.At)
			got := out{r.Certificate != nil, len(r.FormationSecret) > 0, r.Reason, r.Status, refusaltest.Uint(at)}
			if diff := cmp.Diff(v.Out, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func request(t testing.TB) enrollment.Request {
	t.Helper()
	r, err := enrollment.Request{MeshID: "A1B2C3D4", NodeID: "truck-7", Tier: cert.Tactical, Token: "let me in", At: noon}.Sign(key(1))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequestRefuses(t *testing.T) {
	for name, change := range map[string]func(*enrollment.Request){
		"a mesh id of 256 bytes":    func(r *enrollment.Request) { r.MeshID = strings.Repeat("m", 256) },
		"a node id of 256 bytes":    func(r *enrollment.Request) { r.NodeID = strings.Repeat("n", 256) },
		"a node id that is no text": func(r *enrollment.Request) { r.NodeID = "\xff" },
		"a tier that is none":       func(r *enrollment.Request) { r.Tier = 4 },
		"a token of 65536 bytes":    func(r *enrollment.Request) { r.Token = enrollment.TokenText(strings.Repeat("t", 65536)) },
		"no time":                   func(r *enrollment.Request) { r.At = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			change(&r)
			if _, err := r.Sign(key(1)); !errors.Is(err, refusal.Serialization) {
				t.Errorf("Sign: %v", err)
			}
			if _, err := r.Encode(); !errors.Is(err, refusal.Serialization) {
				t.Errorf("Encode: %v", err)
			}
			if err := r.Verify(); !errors.Is(err, refusal.Serialization) {
				t.Errorf("Verify: %v", err)
			}
			if _, err := r.ID(); !errors.Is(err, refusal.Serialization) {
				t.Errorf("ID: %v", err)
			}
		})
	}
	if _, err := request(t).Sign(nil); !errors.Is(err, refusal.Keypair) {
		t.Errorf("signed with nothing: %v", err)
	}
}

func TestVerifyRefusesKeysOfNobody(t *testing.T) {
	for name, subject := range map[string][32]byte{"anybody's": {1}, "no point": {2}} {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			r.Subject, r.Signature = subject, [64]byte{1}
			if err := r.Verify(); !errors.Is(err, refusal.InvalidPublicKey) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFresh(t *testing.T) {
	r := request(t)
	for name, tc := range map[string]struct {
		now  time.Time
		want bool
	}{
		"at once":             {noon, true},
		"just in time":        {noon.Add(time.Minute), true},
		"just too late":       {noon.Add(time.Minute + 1), false},
		"a clock behind":      {noon.Add(-5 * time.Second), true},
		"a clock too far off": {noon.Add(-5*time.Second - 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			err := r.Fresh(tc.now, time.Minute, 5*time.Second)
			if (err == nil) != tc.want || err != nil && !errors.Is(err, refusal.AuthFailed) {
				t.Errorf("got %v", err)
			}
		})
	}
	// A time of 64 bits is more than a duration can tell the distance to.
	r.At = millis.Time(1<<64 - 1)
	if err := r.Fresh(noon, time.Minute, time.Minute); !errors.Is(err, refusal.AuthFailed) {
		t.Errorf("a request from the end of time: %v", err)
	}
}

func TestIDIsThatOfWhatWasSigned(t *testing.T) {
	r := request(t)
	id, err := r.ID()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	padded, err := enrollment.DecodeRequest(append(encoded, 0))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := padded.ID(); err != nil || again != id {
		t.Errorf("another spelling has another id: %v", err)
	}
	if _, err := enrollment.DecodeRequestExact(append(encoded, 0)); !errors.Is(err, refusal.Serialization) {
		t.Errorf("and a byte after it: %v", err)
	}
	r.At = r.At.Add(time.Millisecond)
	if again, err := r.ID(); err != nil || again == id {
		t.Errorf("another request has the same id: %v", err)
	}
}

func TestResponseCheck(t *testing.T) {
	r := request(t)
	issue := func(change func(*cert.Order)) *cert.Certificate {
		o := cert.Order{Subject: r.Subject[:], MeshID: r.MeshID, NodeID: r.NodeID, Tier: cert.Tactical, IssuedAt: noon, Validity: time.Hour}
		change(&o)
		c, err := cert.Issue(key(9), o)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	good := issue(func(*cert.Order) {})
	changed := *good
	changed.Tier = cert.Enterprise
	for name, tc := range map[string]struct {
		response enrollment.Response
		class    refusal.Class
	}{
		"approved":                   {enrollment.Response{Status: enrollment.Approved, Certificate: good, FormationSecret: []byte("s")}, ""},
		"pending":                    {enrollment.Response{Status: enrollment.Pending}, ""},
		"denied":                     {enrollment.Response{Status: enrollment.Denied, Reason: "no"}, ""},
		"approved with nothing":      {enrollment.Response{Status: enrollment.Approved}, refusal.Certificate},
		"denied with a certificate":  {enrollment.Response{Status: enrollment.Denied, Certificate: good}, refusal.Certificate},
		"pending with the secret":    {enrollment.Response{Status: enrollment.Pending, FormationSecret: []byte("s")}, refusal.Certificate},
		"approved for another node":  {enrollment.Response{Status: enrollment.Approved, Certificate: issue(func(o *cert.Order) { o.NodeID = "x" })}, refusal.Certificate},
		"approved for another mesh":  {enrollment.Response{Status: enrollment.Approved, Certificate: issue(func(o *cert.Order) { o.MeshID = "x" })}, refusal.Certificate},
		"approved for another key":   {enrollment.Response{Status: enrollment.Approved, Certificate: issue(func(o *cert.Order) { o.Subject = key(2).Public().(ed25519.PublicKey) })}, refusal.Certificate},
		"approved, and then changed": {enrollment.Response{Status: enrollment.Approved, Certificate: &changed}, refusal.InvalidSignature},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.response.Check(r)
			if tc.class == "" && err != nil || tc.class != "" && !errors.Is(err, tc.class) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestResponseRefuses(t *testing.T) {
	for name, r := range map[string]enrollment.Response{
		"a status that is none":      {Status: 4, At: noon},
		"a reason for nothing":       {Status: enrollment.Approved, Reason: "well done", At: noon},
		"a reason of 65536 bytes":    {Status: enrollment.Denied, Reason: strings.Repeat("n", 65536), At: noon},
		"a reason that is no text":   {Status: enrollment.Denied, Reason: "\xff", At: noon},
		"a secret of 65536 bytes":    {Status: enrollment.Approved, FormationSecret: make([]byte, 65536), At: noon},
		"more than a message holds":  {Status: enrollment.Denied, Reason: strings.Repeat("n", 65535), FormationSecret: make([]byte, 65535), At: noon},
		"a certificate that is none": {Status: enrollment.Approved, Certificate: &cert.Certificate{}, At: noon},
		"no time":                    {Status: enrollment.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.Encode(); !errors.Is(err, refusal.Serialization) {
				t.Errorf("got %v", err)
			}
		})
	}
	long := append([]byte{2, 0xff, 0xff}, bytes.Repeat([]byte("n"), 65535)...)
	if _, err := enrollment.DecodeResponse(append(long, make([]byte, 10)...)); !errors.Is(err, refusal.Serialization) {
		t.Errorf("read what is too long: %v", err)
	}
}

func TestFrames(t *testing.T) {
	if _, err := enrollment.AppendFrame(nil, make([]byte, enrollment.MaxMessageSize+1)); !errors.Is(err, refusal.Serialization) {
		t.Errorf("a message that is too long: %v", err)
	}
	for name, tc := range map[string]struct {
		stream string
		want   error
	}{
		"nothing":              {"", io.EOF},
		"half a length":        {"\x01\x00", io.ErrUnexpectedEOF},
		"half a message":       {"\x02\x00\x00\x00a", io.ErrUnexpectedEOF},
		"a byte too many":      {"\x01\x00\x01\x00", refusal.Serialization},
		"gigabytes, announced": {"\xff\xff\xff\xff", refusal.Serialization},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := enrollment.ReadFrame(strings.NewReader(tc.stream)); !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	r := request(t)
	answer := enrollment.Response{FormationSecret: []byte("let me in")}
	encoded, err := json.Marshal([]any{r, answer})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %s %x %d", r, &r, r.Token, r.Token, r.Token), fmt.Sprintf("%v %+v %x", answer, &answer, answer.FormationSecret), string(encoded)} {
		for _, form := range []string{"let me in", "6c6574206d65", "108 101 116", "bGV0IG1l"} {
			if strings.Contains(text, form) {
				t.Errorf("%q is in %s", form, text)
			}
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, v := range refusaltest.Vectors[requestIn, requestOut](f, "enrollment_request") {
		f.Add([]byte(v.Out.Encoded))
	}
	for _, v := range refusaltest.Vectors[recordIn, struct{}](f, "enrollment_request_decode") {
		f.Add([]byte(v.In.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := enrollment.DecodeRequest(b)
		if err != nil {
			if !errors.Is(err, refusal.Serialization) || r != (enrollment.Request{}) {
				t.Fatalf("%v, and something was returned", err)
			}
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Fatalf("%d bytes came back as %d, %v", len(b), len(again), err)
		}
		if _, err := enrollment.DecodeRequestExact(b); (err == nil) != (len(again) == len(b) && len(b) <= enrollment.MaxMessageSize) {
			t.Fatalf("exact with %d bytes of %d: %v", len(b), len(again), err)
		}
		if err := r.Verify(); err != nil && !errors.Is(err, refusal.InvalidSignature) && !errors.Is(err, refusal.InvalidPublicKey) {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	for _, v := range refusaltest.Vectors[responseIn, responseOut](f, "enrollment_response") {
		f.Add([]byte(v.Out.Encoded))
	}
	for _, v := range refusaltest.Vectors[recordIn, struct{ Status byte }](f, "enrollment_response_decode") {
		f.Add([]byte(v.In.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := enrollment.DecodeResponse(b)
		if err != nil {
			if !errors.Is(err, refusal.Serialization) {
				t.Fatal(err)
			}
			return
		}
		encoded, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := enrollment.DecodeResponse(encoded)
		if diff := cmp.Diff(r, again); err != nil || diff != "" {
			t.Fatalf("the second time it is something else: %v %s", err, diff)
		}
	})
}

func ExampleRequest() {
	node := ed25519.NewKeyFromSeed(make([]byte, 32)) // which a node makes and keeps
	request, err := enrollment.Request{
		MeshID: "A1B2C3D4", NodeID: "truck-7", Tier: cert.Tactical, Token: "peat_enr_...", At: noon,
	}.Sign(node)
	if err != nil {
		panic(err)
	}
	message, _ := request.Encode()

	received, err := enrollment.DecodeRequestExact(message)
	if err != nil {
		panic(err)
	}
	fmt.Println(received.NodeID, received.Token, received.Verify())
	fmt.Println(received.Fresh(noon.Add(time.Hour), 5*time.Minute, time.Minute))
	// Output:
	// truck-7 [token] <nil>
	// request is more than 5m0s old
}
