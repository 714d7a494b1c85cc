package webhook

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/httptarget"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// webhookConfig is what a webhook sink shows.
type webhookConfig struct {
	httptarget.Config
	Signing string       `json:"signing"`
	Batch   *batchConfig `json:"batch,omitempty"` // nil: an event per request
}

// batchConfig bounds what one request holds.
type batchConfig struct {
	MaxEvents int `json:"max_events"`
	MaxBytes  int `json:"max_bytes"`
}

// webhookSecrets is what it keeps sealed.
type webhookSecrets struct {
	httptarget.Secrets
	Secret   string     `json:"secret,omitempty"` // none if the organization's keys sign
	Previous []previous `json:"previous,omitempty"`
}

// previous is a secret that was replaced and still signs for a while.
type previous struct {
	Secret string    `json:"secret"`
	Until  time.Time `json:"until"`
}

// How requests are signed.
const (
	signHMAC    = "hmac"
	signEd25519 = "ed25519"
)

const (
	secretPrefix = "whsec_" // by the Standard Webhooks specification
	secretBytes  = 32

	defaultBatchEvents = 100
	maxBatchEvents     = 1000
	defaultBatchBytes  = 1 << 20
	minBatchBytes      = 1 << 10
	maxBatchBytes      = 8 << 20
)

// Parse checks the configuration of a webhook sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var c webhookConfig
	if err := driver.DecodeConfig(in, &c); err != nil {
		return driver.Config{}, err
	}
	var kept webhookSecrets
	if err := driver.Prior(prior, &kept); err != nil {
		return driver.Config{}, err
	}
	target, err := c.Config.Parse(kept.Secrets, s, "webhook-")
	if err != nil {
		return driver.Config{}, err
	}
	if err := c.Batch.check(); err != nil {
		return driver.Config{}, err
	}
	secrets := webhookSecrets{Secrets: target, Secret: kept.Secret, Previous: kept.Previous}
	out := driver.Config{}
	switch c.Signing {
	case "", signHMAC:
		c.Signing = signHMAC
		if secrets.Secret == "" {
			secrets.Secret = newSecret()
			out.Once = secrets.Secret
		}
	case signEd25519:
		secrets.Secret, secrets.Previous = "", nil
	default:
		return driver.Config{}, driver.Invalid("config/signing", "must be hmac or ed25519")
	}
	out.Public, out.Secrets = c, secrets
	return out, nil
}

func newSecret() string {
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

func (b *batchConfig) check() error {
	if b == nil {
		return nil
	}
	if b.MaxEvents == 0 {
		b.MaxEvents = defaultBatchEvents
	}
	if b.MaxBytes == 0 {
		b.MaxBytes = defaultBatchBytes
	}
	switch {
	case b.MaxEvents < 1 || b.MaxEvents > maxBatchEvents:
		return driver.Invalid("config/batch/max_events", "must be between 1 and 1000")
	case b.MaxBytes < minBatchBytes || b.MaxBytes > maxBatchBytes:
		return driver.Invalid("config/batch/max_bytes", "must be between 1 KiB and 8 MiB")
	}
	return nil
}

// UsesOrgKeys reports whether a sink of this configuration signs with the
// organization's keys.
func UsesOrgKeys(config json.RawMessage) bool {
	var c webhookConfig
	return json.Unmarshal(config, &c) == nil && c.Signing == signEd25519
}

// maxPrevious bounds the signatures of one request.
const maxPrevious = 3

// Rotate makes a new secret. Those before it go on signing beside it for as long as
// overlap says, or not at all if that is nothing.
func Rotate(prior []byte, overlap time.Duration, now time.Time) (driver.Config, error) {
	var s webhookSecrets
	if err := driver.Prior(prior, &s); err != nil {
		return driver.Config{}, err
	}
	if s.Secret == "" {
		return driver.Config{}, fault.Conflict.New("the sink has no secret: it signs with the organization's keys")
	}
	end := now.Add(overlap)
	var keep []previous
	if overlap > 0 {
		keep = append(keep, previous{s.Secret, end})
		for _, p := range s.Previous {
			if now.Before(p.Until) {
				keep = append(keep, previous{p.Secret, earlier(p.Until, end)})
			}
		}
	}
	if len(keep) > maxPrevious {
		return driver.Config{}, fault.Conflict.New("three earlier secrets are still good; an overlap of 0s ends them all")
	}
	s.Secret, s.Previous = newSecret(), keep
	return driver.Config{Secrets: s, Once: s.Secret}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// keyOf reads the key in a secret.
func keyOf(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || len(key) == 0 {
		return nil, errors.New("the signing secret cannot be read")
	}
	return key, nil
}
