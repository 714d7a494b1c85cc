package envelope_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/envelopetest"
	"github.com/defenseunicorns/peat-gateway/shared/envelope/kmstest"
)

// awsKey opens a key of a test's server as its user.
func awsKey(t testing.TB, server *kmstest.KMS, arn string) *envelope.AWSKMSKey {
	t.Helper()
	noAWS(t)
	user := aws.Credentials{AccessKeyID: server.AccessKeyID, SecretAccessKey: server.SecretAccessKey, SessionToken: server.SessionToken}
	service, err := envelope.NewAWSKMS(t.Context(), envelope.AWSKMSOptions{
		Endpoint: server.URL, Timeout: 2 * time.Second,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return user, nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := service.Key(arn)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// noAWS keeps a developer's own account out of the tests.
func noAWS(t testing.TB) {
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, "/dev/null")
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "HTTPS_PROXY"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func TestAWSKMS(t *testing.T) {
	envelopetest.RunService(t, func(t *testing.T) envelopetest.Service {
		server := kmstest.NewKMS(t)
		arn, other := server.Key(), server.Key()
		set := func(state string) func(t *testing.T) {
			return func(*testing.T) { server.Set(arn, state) }
		}
		return envelopetest.Service{
			Open:  func(t *testing.T) envelope.KeyProvider { return awsKey(t, server, arn) },
			Other: func(t *testing.T) envelope.KeyProvider { return awsKey(t, server, other) },
			Refusals: map[string]func(t *testing.T){
				"the key is disabled": set(kmstest.Disabled), "the key waits for its deletion": set(kmstest.PendingDeletion),
				"the key is gone": set(kmstest.Gone), "access is denied": set(kmstest.Denied),
			},
			Faults: &server.Faults,
			Stumbles: map[string]http.HandlerFunc{
				"throttled":           kmstest.AWSError(http.StatusBadRequest, "ThrottlingException"),
				"internal error":      kmstest.AWSError(http.StatusInternalServerError, "KMSInternalException"),
				"a dependency's time": kmstest.AWSError(http.StatusServiceUnavailable, "DependencyTimeoutException"),
				"the key is away":     kmstest.AWSError(http.StatusInternalServerError, "KeyUnavailableException"),
			},
			Hidden: []string{server.SecretAccessKey, server.SessionToken, server.AccessKeyID, arn},
		}
	})
}

// TestAWSKMSSignature: the server that the tests are against does check.
func TestAWSKMSSignature(t *testing.T) {
	for name, spoil := range map[string]func(*kmstest.KMS){
		"another secret": func(s *kmstest.KMS) { s.SecretAccessKey += "x" },
		"another user":   func(s *kmstest.KMS) { s.AccessKeyID += "X" },
		"another token":  func(s *kmstest.KMS) { s.SessionToken += "x" },
	} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.NewKMS(t)
			arn := server.Key()
			key := awsKey(t, server, arn)
			spoil(server)
			if _, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); !errors.Is(err, envelope.ErrKeyRefused) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a clock that is an hour off is put right", func(t *testing.T) {
		server := kmstest.NewKMS(t)
		server.Now = func() time.Time { return time.Now().Add(time.Hour) }
		if _, err := awsKey(t, server, server.Key()).Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); err != nil {
			t.Error(err)
		}
	})
}

// TestAWSKMSContext: what is sent is what a policy's condition would name.
func TestAWSKMSContext(t *testing.T) {
	for name, tc := range map[string]struct {
		rec  envelope.Record
		want map[string]string
	}{
		"all of it":            {envelope.Record{Org: "acme", App: "logistics", Kind: "sink", ID: "01J"}, map[string]string{"org": "acme", "app": "logistics", "kind": "sink", "id": "01J"}},
		"no formation":         {envelope.Record{Org: "acme", Kind: "sink", ID: "01J"}, map[string]string{"org": "acme", "kind": "sink", "id": "01J"}},
		"nothing, version 1's": {envelope.Record{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.NewKMS(t)
			key := awsKey(t, server, server.Key())
			wrapped, err := key.Wrap(t.Context(), tc.rec, make([]byte, 32))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := key.Unwrap(t.Context(), tc.rec, wrapped); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]map[string]string{tc.want, tc.want}, server.Contexts()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAWSKMSErrors(t *testing.T) {
	for code, want := range map[string]error{
		"InvalidCiphertextException":          envelope.ErrTampered,
		"IncorrectKeyException":               envelope.ErrTampered,
		"AccessDeniedException":               envelope.ErrKeyRefused,
		"DisabledException":                   envelope.ErrKeyRefused,
		"KMSInvalidStateException":            envelope.ErrKeyRefused,
		"NotFoundException":                   envelope.ErrKeyRefused,
		"InvalidKeyUsageException":            envelope.ErrKeyRefused,
		"UnrecognizedClientException":         envelope.ErrKeyRefused,
		"MissingAuthenticationTokenException": envelope.ErrKeyRefused,
		"ExpiredTokenException":               envelope.ErrKeyRefused,
		"LimitExceededException":              envelope.ErrUnavailable,
		"ValidationException":                 envelope.ErrUnavailable,
		"SomethingNewException":               envelope.ErrUnavailable,
		"not a word at all: secret":           envelope.ErrUnavailable,
	} {
		t.Run(code, func(t *testing.T) {
			server := kmstest.NewKMS(t)
			server.Always(kmstest.AWSError(http.StatusBadRequest, code))
			_, err := awsKey(t, server, server.Key()).Unwrap(t.Context(), genesisOf("acme"), []byte("x"))
			if !errors.Is(err, want) || strings.Contains(err.Error(), "as the test wants it") || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

// TestAWSKMSAnswers: a server that answers for another key is not believed.
func TestAWSKMSAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   error
	}{
		"another key":      {`{"KeyId":"arn:aws:kms:eu-central-1:111122223333:key/x","CiphertextBlob":"AAAA","Plaintext":"AAAA"}`, envelope.ErrKeyRefused},
		"no key":           {`{"CiphertextBlob":"AAAA","Plaintext":"AAAA"}`, envelope.ErrKeyRefused},
		"an empty object":  {`{}`, envelope.ErrKeyRefused},
		"not an object":    {`[]`, envelope.ErrUnavailable},
		"half an object":   {`{"KeyId":"arn:aw`, envelope.ErrUnavailable},
		"text":             {`hello`, envelope.ErrUnavailable},
		"base64 no longer": {`{"KeyId":"x","CiphertextBlob":"!","Plaintext":"!"}`, envelope.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			server := kmstest.NewKMS(t)
			key := awsKey(t, server, server.Key())
			server.Always(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				w.Write([]byte(tc.answer))
			})
			if got, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); !errors.Is(err, tc.want) || got != nil {
				t.Errorf("Wrap: %x, %v", got, err)
			}
			if got, err := key.Unwrap(t.Context(), genesisOf("acme"), []byte("x")); !errors.Is(err, tc.want) || got != nil {
				t.Errorf("Unwrap: %x, %v", got, err)
			}
		})
	}
}

func TestAWSKMSNeedsAnARN(t *testing.T) {
	noAWS(t)
	service, err := envelope.NewAWSKMS(t.Context(), envelope.AWSKMSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{
		"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
	} {
		if key, err := service.Key(good); err != nil || key.KeyID() != "awskms:"+good {
			t.Errorf("%s: %v", good, err)
		}
	}
	for name, bad := range map[string]string{
		"nothing":             "",
		"an id":               "1234abcd-12ab-34cd-56ef-1234567890ab",
		"an alias":            "alias/peat",
		"an alias' ARN":       "arn:aws:kms:eu-central-1:111122223333:alias/peat",
		"of another service":  "arn:aws:s3:eu-central-1:111122223333:key/1234abcd",
		"no region":           "arn:aws:kms::111122223333:key/1234abcd",
		"a region with a dot": "arn:aws:kms:evil.example.com/:111122223333:key/1234abcd",
		"a line more":         "arn:aws:kms:eu-central-1:111122223333:key/1234abcd\n",
		"a space before":      " arn:aws:kms:eu-central-1:111122223333:key/1234abcd",
	} {
		if _, err := service.Key(bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestAWSKMSWithoutCredentials: nobody is asked, and it may be mended.
func TestAWSKMSWithoutCredentials(t *testing.T) {
	noAWS(t)
	server := kmstest.NewKMS(t)
	service, err := envelope.NewAWSKMS(t.Context(), envelope.AWSKMSOptions{Endpoint: server.URL, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	key, err := service.Key(server.Key())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Wrap(t.Context(), genesisOf("acme"), make([]byte, 32)); !errors.Is(err, envelope.ErrUnavailable) || server.Seen() > 0 {
		t.Errorf("got %v after %d requests", err, server.Seen())
	}
}
