package kmstest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
)

// signed is a request that AWS's own code has signed for the server.
func signed(t *testing.T, k *kmstest.KMS, at time.Time, region, target, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.URL.String()+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	sum := sha256.Sum256([]byte(body))
	user := aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken}
	if err := v4.NewSigner().SignHTTP(t.Context(), user, req, hex.EncodeToString(sum[:]), "kms", region, at); err != nil {
		t.Fatal(err)
	}
	return req
}

// TestKMSChecksSignatures: of a good request, whatever is changed after it was
// signed is noticed.
func TestKMSChecksSignatures(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	invalid, incomplete := "InvalidSignatureException", "IncompleteSignatureException"
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			before := r.Header.Get("Authorization")
			r.Header.Set("Authorization", strings.Replace(before, old, new, 1))
		}
	}
	for name, tc := range map[string]struct {
		at     time.Time
		region string
		change func(*http.Request)
		want   string // code of the error
	}{
		"as it was signed":             {at: now},
		"four minutes ago":             {at: now.Add(-4 * time.Minute)},
		"in four minutes":              {at: now.Add(4 * time.Minute)},
		"six minutes ago":              {at: now.Add(-6 * time.Minute), want: invalid},
		"in six minutes":               {at: now.Add(6 * time.Minute), want: invalid},
		"yesterday, with today's date": {at: now.AddDate(0, 0, -1), change: header("X-Amz-Date", "20261125T120000Z"), want: invalid},
		"another region":               {at: now, region: "us-east-1", want: invalid},
		"no signature":                 {at: now, change: func(r *http.Request) { r.Header.Del("Authorization") }, want: "MissingAuthenticationTokenException"},
		"another algorithm":            {at: now, change: replace("AWS4-HMAC-SHA256", "AWS4-HMAC-MD5"), want: incomplete},
		"half a signature":             {at: now, change: replace(", Signature=", ", Sig="), want: incomplete},
		"a date that is none":          {at: now, change: header("X-Amz-Date", "today"), want: incomplete},
		"another signature":            {at: now, change: func(r *http.Request) { flipLast(r) }, want: invalid},
		"another user":                 {at: now, change: replace("Credential=AKIA", "Credential=AKIB"), want: "UnrecognizedClientException"},
		"another session":              {at: now, change: header("X-Amz-Security-Token", "x"), want: "UnrecognizedClientException"},
		"another operation":            {at: now, change: header("X-Amz-Target", "TrentService.Encrypt"), want: invalid},
		"another type":                 {at: now, change: header("Content-Type", "text/plain"), want: invalid},
		"a header that is not signed":  {at: now, change: header("X-Amz-More", "x"), want: invalid},
		"one that is signed no longer": {at: now, change: replace("x-amz-target", "x-amz-date"), want: invalid},
		"another host":                 {at: now, change: func(r *http.Request) { r.Host = "kms.example.com" }, want: invalid},
		"another path":                 {at: now, change: func(r *http.Request) { r.URL.Path = "/other" }, want: invalid},
		"a query":                      {at: now, change: func(r *http.Request) { r.URL.RawQuery = "a=b" }, want: invalid},
		"another body": {at: now, change: func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"KeyId":"y"}`))
		}, want: invalid},
	} {
		t.Run(name, func(t *testing.T) {
			k := kmstest.NewKMS(t)
			k.Now = func() time.Time { return now }
			if tc.region == "" {
				tc.region = "eu-central-1"
			}
			req := signed(t, k, tc.at, tc.region, "TrentService.Decrypt", `{"KeyId":"x"}`)
			if tc.change != nil {
				tc.change(req)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var out struct {
				Type string `json:"__type"`
			}
			if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
				t.Fatal(err)
			}
			if tc.want == "" {
				tc.want = "ValidationException" // the signature is good, and nothing is to be decrypted
			}
			if out.Type != tc.want {
				t.Errorf("got %s, want %s", out.Type, tc.want)
			}
		})
	}
}

func flipLast(r *http.Request) {
	before := r.Header.Get("Authorization")
	last := "0"
	if strings.HasSuffix(before, "0") {
		last = "1"
	}
	r.Header.Set("Authorization", before[:len(before)-1]+last)
}
