package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// The example that the libraries of Standard Webhooks are tested with.
func TestSignatureOfTheSpecification(t *testing.T) {
	s, err := newSigner(webhookConfig{}, webhookSecrets{Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		driver.Opening{Settings: driver.Settings{Now: func() time.Time { return time.Unix(1614265330, 0) }}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	for range 2 { // a key is used again
		m := s.begin("msg_p5jXN8AQM9LWM0D4loKWxJek", 0)
		m.text = append(m.text, `{"test": 2432232314}`...)
		if got := s.sign(m); got != want || m.stamp != "1614265330" || string(m.text[m.body:]) != `{"test": 2432232314}` {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestSignaturesOverlap(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, older, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	end := drivertest.Start.Add(time.Hour)
	for name, tc := range map[string]struct {
		config  webhookConfig
		secrets webhookSecrets
		keys    []driver.SigningKey
		at      time.Time
		want    string
	}{
		"one secret":            {secrets: webhookSecrets{Secret: "whsec_YQ=="}, want: "v1"},
		"a secret before it":    {secrets: webhookSecrets{Secret: "whsec_YQ==", Previous: []previous{{"whsec_Yg==", end}}}, want: "v1 v1"},
		"one that has ended":    {secrets: webhookSecrets{Secret: "whsec_YQ==", Previous: []previous{{"whsec_Yg==", end}}}, at: end, want: "v1"},
		"one key":               {config: webhookConfig{Signing: "ed25519"}, keys: []driver.SigningKey{{Private: private}}, want: "v1a"},
		"a key before it":       {config: webhookConfig{Signing: "ed25519"}, keys: []driver.SigningKey{{Private: private}, {Private: older, NotAfter: end}}, want: "v1a v1a"},
		"a key that has ended":  {config: webhookConfig{Signing: "ed25519"}, keys: []driver.SigningKey{{Private: private}, {Private: older, NotAfter: end}}, at: end, want: "v1a"},
		"no key":                {config: webhookConfig{Signing: "ed25519"}},
		"a secret that is none": {secrets: webhookSecrets{Secret: "whsec_?"}},
		"an empty secret":       {secrets: webhookSecrets{}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.at.IsZero() {
				tc.at = drivertest.Start
			}
			s, err := newSigner(tc.config, tc.secrets, driver.Opening{Signing: tc.keys, Settings: driver.Settings{Now: func() time.Time { return tc.at }}})
			if (err != nil) != (tc.want == "") {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			var versions []string
			m := s.begin("id", 0)
			for sig := range strings.FieldsSeq(s.sign(m)) {
				version, encoded, _ := strings.Cut(sig, ",")
				versions = append(versions, version)
				raw, err := base64.StdEncoding.DecodeString(encoded)
				if err != nil {
					t.Fatal(err)
				}
				if len(versions) == 1 && version == "v1a" && !ed25519.Verify(public, m.text, raw) {
					t.Error("the first signature is not of the newest key")
				}
			}
			if got := strings.Join(versions, " "); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
	if got := PublicKey(public); !strings.HasPrefix(got, "whpk_") || len(got) != len("whpk_")+44 {
		t.Errorf("%s", got)
	}
}
