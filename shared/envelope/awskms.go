package envelope

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// AWSKMSOptions says how AWS KMS is reached. Its zero value is what AWS's own
// programs do: the default chain of credentials, and the endpoint of the region.
type AWSKMSOptions struct {
	Endpoint    *url.URL                // instead of the region's; see TrustedURL
	Credentials aws.CredentialsProvider // instead of the default chain
	Timeout     time.Duration           // of a call with all its attempts; 0 is 10 seconds
	Transport   http.RoundTripper       // instead of the network
}

// AWSKMS reaches the keys of AWS KMS. They share credentials and connections.
type AWSKMS struct {
	options AWSKMSOptions
	config  aws.Config

	mu      sync.Mutex
	clients map[string]*kms.Client // by region
}

// NewAWSKMS reads AWS's settings; it asks nobody for anything yet.
func NewAWSKMS(ctx context.Context, o AWSKMSOptions) (*AWSKMS, error) {
	if o.Endpoint != nil {
		if err := TrustedURL(o.Endpoint); err != nil {
			return nil, err
		}
	}
	o.Timeout = cmp.Or(o.Timeout, callTimeout)
	load := []func(*config.LoadOptions) error{
		// The SDK's log is the one thing here that may come to hold a key.
		config.WithLogger(logging.Nop{}), config.WithClientLogMode(0),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(r *retry.StandardOptions) {
				r.MaxAttempts = attempts
				r.Backoff = retry.BackoffDelayerFunc(func(n int, _ error) (time.Duration, error) { return backoff(n), nil })
			})
		}),
	}
	if o.Credentials != nil {
		load = append(load, config.WithCredentialsProvider(o.Credentials))
	}
	c, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("AWS settings: %w", err)
	}
	return &AWSKMS{options: o, config: c, clients: map[string]*kms.Client{}}, nil
}

// keyARN is a key by its own name. That of an alias would be shorter, but whoever
// may change the alias could put another key behind it.
var keyARN = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:([a-z0-9-]{1,32}):([0-9]{12}):key/([A-Za-z0-9-]{1,64})$`)

// Key returns the key of an ARN, arn:aws:kms:REGION:ACCOUNT:key/ID.
func (a *AWSKMS) Key(arn string) (*AWSKMSKey, error) {
	parts := keyARN.FindStringSubmatch(arn)
	if parts == nil {
		return nil, errors.New("a key of AWS KMS is named by its ARN, arn:aws:kms:REGION:ACCOUNT:key/ID, and not by an alias")
	}
	region := parts[2]
	a.mu.Lock()
	defer a.mu.Unlock()
	client := a.clients[region]
	if client == nil {
		client = kms.NewFromConfig(a.config, func(o *kms.Options) {
			o.Region = region
			o.HTTPClient = a.httpClient()
			if a.options.Endpoint != nil {
				o.BaseEndpoint = aws.String(a.options.Endpoint.String())
			}
		})
		a.clients[region] = client
	}
	return &AWSKMSKey{arn: arn, client: client, timeout: a.options.Timeout}, nil
}

// httpClient is the SDK's, with a limit to what it reads, and without redirects:
// they would carry a data key to wherever the answer says.
func (a *AWSKMS) httpClient() aws.HTTPClient {
	transport := a.options.Transport
	if transport == nil {
		network, ok := a.config.HTTPClient.(*awshttp.BuildableClient) // AWS_CA_BUNDLE is in it
		if !ok {
			network = awshttp.NewBuildableClient()
		}
		transport = network.GetTransport()
	}
	return newHTTPClient(transport, a.options.Timeout)
}

// AWSKMSKey is a KeyProvider whose key is in AWS KMS.
type AWSKMSKey struct {
	arn     string
	client  *kms.Client
	timeout time.Duration
}

// KeyID implements KeyProvider.
func (k *AWSKMSKey) KeyID() string { return "awskms:" + k.arn }

// maxCiphertext is the longest that AWS KMS makes and takes.
const maxCiphertext = 6144

// Wrap implements KeyProvider.
func (k *AWSKMSKey) Wrap(ctx context.Context, rec Record, dek []byte) ([]byte, error) {
	call, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	out, err := k.client.Encrypt(call, &kms.EncryptInput{
		KeyId: &k.arn, Plaintext: dek, EncryptionContext: encryptionContext(rec),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	if err != nil {
		return nil, k.failed(ctx, err)
	}
	if aws.ToString(out.KeyId) != k.arn {
		return nil, refused("AWS KMS answered with another key than was asked for")
	}
	if n := len(out.CiphertextBlob); n == 0 || n > maxCiphertext {
		return nil, unavailable(fmt.Errorf("AWS KMS answered with %d bytes", n))
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements KeyProvider.
func (k *AWSKMSKey) Unwrap(ctx context.Context, rec Record, wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 || len(wrapped) > maxCiphertext {
		return nil, ErrTampered // the service would only say that this is no request
	}
	call, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	out, err := k.client.Decrypt(call, &kms.DecryptInput{
		// Without the key's name the service opens what any key of the account has closed.
		KeyId: &k.arn, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(rec),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	})
	if err != nil {
		return nil, k.failed(ctx, err)
	}
	if aws.ToString(out.KeyId) != k.arn {
		clear(out.Plaintext)
		return nil, refused("AWS KMS answered with another key than was asked for")
	}
	return out.Plaintext, nil
}

// encryptionContext binds to the record, and is what AWS CloudTrail shows of a
// call. Nothing stands for an empty part, as a value may not be empty.
func encryptionContext(rec Record) map[string]string {
	all := map[string]string{}
	for name, value := range map[string]string{"org": rec.Org, "app": rec.App, "kind": rec.Kind, "id": rec.ID} {
		if value != "" {
			all[name] = value
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// awsRefusals are the codes of errors that trying again does not mend.
var awsRefusals = map[string]string{
	"AccessDeniedException":               "AWS KMS denies access to it",
	"DisabledException":                   "it is disabled in AWS KMS",
	"KMSInvalidStateException":            "its state in AWS KMS does not allow it, as when it waits for deletion",
	"NotFoundException":                   "AWS KMS knows no such key",
	"InvalidKeyUsageException":            "it is not a symmetric key for encryption",
	"InvalidArnException":                 "AWS KMS cannot read its ARN",
	"UnrecognizedClientException":         "AWS does not know our credentials",
	"InvalidClientTokenId":                "AWS does not know our credentials",
	"InvalidSignatureException":           "AWS does not accept our credentials",
	"IncompleteSignature":                 "AWS does not accept our credentials",
	"IncompleteSignatureException":        "AWS does not accept our credentials",
	"MissingAuthenticationTokenException": "AWS does not accept our credentials",
	"OptInRequired":                       "the account may not use AWS KMS",
	"ExpiredTokenException":               "our credentials for AWS have expired",
}

// failed makes one of the package's errors of one of the SDK's. That one is not
// kept: depending on what went wrong it holds a piece of the answer.
func (k *AWSKMSKey) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // the caller's doing, whatever the SDK made of it
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unavailable(cause(err))
	}
	switch code := api.ErrorCode(); code {
	case "InvalidCiphertextException", "IncorrectKeyException":
		return ErrTampered
	default:
		if why, ok := awsRefusals[code]; ok {
			return refused(why)
		}
		return unavailable(fmt.Errorf("AWS KMS answered %s", word(code)))
	}
}
