package kmstest

import (
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// KMS speaks AWS's JSON 1.1 protocol as AWS KMS does, for Encrypt and Decrypt. It
// refuses what is not signed by its one user, and keys that may not be used.
type KMS struct {
	Faults
	URL             *url.URL
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Now             func() time.Time // by which dates of signatures are judged

	region string
	mu     sync.Mutex
	keys   map[string]*kmsKey // by ARN
	// Contexts are those that requests came with, in order.
	contexts []map[string]string
}

type kmsKey struct {
	id    uint64
	aead  cipher.AEAD
	state string // the error's code that using it gives; empty if it may be used
}

// NewKMS starts one that lives as long as the test.
func NewKMS(t testing.TB) *KMS {
	k := &KMS{
		AccessKeyID: "AKIA" + strings.ToUpper(name(8)), SecretAccessKey: name(20), SessionToken: name(32),
		Now: time.Now, region: "eu-central-1", keys: map[string]*kmsKey{},
	}
	k.URL = listen(t, k)
	return k
}

// Key makes a key and returns its ARN.
func (k *KMS) Key() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	arn := fmt.Sprintf("arn:aws:kms:%s:111122223333:key/%s", k.region, name(16))
	k.keys[arn] = &kmsKey{id: uint64(len(k.keys) + 1), aead: aead()}
	return arn
}

// The states that a key can be put into. Enabled is that of a new one.
const (
	Enabled         = ""
	Disabled        = "DisabledException"
	PendingDeletion = "KMSInvalidStateException"
	Denied          = "AccessDeniedException"
	Gone            = "NotFoundException"
)

// Set puts a key into a state.
func (k *KMS) Set(arn, state string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[arn].state = state
}

// Contexts returns the encryption contexts that requests came with, in order.
func (k *KMS) Contexts() []map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.contexts)
}

// AWSError answers with an error as AWS writes one.
func AWSError(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { sayError(w, status, code, "as the test wants it") }
}

func sayError(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("X-Amzn-RequestId", name(16))
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": text})
}

type kmsRequest struct {
	KeyId               string
	Plaintext           []byte
	CiphertextBlob      []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
}

func (k *KMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", k.Now().UTC().Format(http.TimeFormat))
	if answer := k.instead(r); answer != nil {
		answer(w, r)
		return
	}
	w = k.padded(w)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		sayError(w, http.StatusBadRequest, "SerializationException", "")
		return
	}
	user := signer{id: k.AccessKeyID, secret: k.SecretAccessKey, session: k.SessionToken, region: k.region, service: "kms"}
	if code, text := user.refuse(r, body, k.Now()); code != "" {
		sayError(w, http.StatusBadRequest, code, text)
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		sayError(w, http.StatusNotFound, "UnknownOperationException", "")
		return
	}
	var in kmsRequest
	if err := json.Unmarshal(body, &in); err != nil {
		sayError(w, http.StatusBadRequest, "SerializationException", err.Error())
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.contexts = append(k.contexts, in.EncryptionContext)
	var out any
	var failed error
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.Encrypt":
		out, failed = k.encrypt(in)
	case "TrentService.Decrypt":
		out, failed = k.decrypt(in)
	default:
		failed = awsError{"UnknownOperationException", ""}
	}
	var e awsError
	if errors.As(failed, &e) {
		sayError(w, http.StatusBadRequest, e.code, e.text)
		return
	}
	w.Header().Set("X-Amzn-RequestId", name(16))
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	json.NewEncoder(w).Encode(out)
}

type awsError struct{ code, text string }

func (e awsError) Error() string { return e.code }

// usable returns a key by ARN if it may be used.
func (k *KMS) usable(arn string) (*kmsKey, error) {
	key := k.keys[arn]
	switch {
	case key == nil:
		return nil, awsError{Gone, fmt.Sprintf("Key '%s' does not exist", arn)}
	case key.state != Enabled:
		return nil, awsError{key.state, arn + " may not be used: " + key.state}
	}
	return key, nil
}

func (k *KMS) encrypt(in kmsRequest) (any, error) {
	if len(in.Plaintext) == 0 || len(in.Plaintext) > 4096 {
		return nil, awsError{"ValidationException", "plaintext of a length between 1 and 4096"}
	}
	context, err := canonicalContext(in)
	if err != nil {
		return nil, err
	}
	key, err := k.usable(in.KeyId)
	if err != nil {
		return nil, err
	}
	blob := append([]byte{1, 2, 2, 0}, binary.BigEndian.AppendUint64(nil, key.id)...)
	blob = key.aead.Seal(blob, nil, in.Plaintext, append(context, blob...))
	return map[string]any{"CiphertextBlob": blob, "KeyId": in.KeyId, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
}

// blobHeader is four bytes that every ciphertext begins with, and its key.
const blobHeader = 4 + 8

func (k *KMS) decrypt(in kmsRequest) (any, error) {
	if len(in.CiphertextBlob) == 0 || len(in.CiphertextBlob) > 6144 {
		return nil, awsError{"ValidationException", "ciphertext of a length between 1 and 6144"}
	}
	context, err := canonicalContext(in)
	if err != nil {
		return nil, err
	}
	invalid := awsError{"InvalidCiphertextException", ""}
	if len(in.CiphertextBlob) < blobHeader || string(in.CiphertextBlob[:4]) != "\x01\x02\x02\x00" {
		return nil, invalid
	}
	id, arn := binary.BigEndian.Uint64(in.CiphertextBlob[4:]), ""
	for at, key := range k.keys {
		if key.id == id {
			arn = at
		}
	}
	if arn == "" {
		return nil, invalid
	}
	if in.KeyId != "" {
		if _, err := k.usable(in.KeyId); err != nil {
			return nil, err
		}
		if in.KeyId != arn {
			return nil, awsError{"IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."}
		}
	}
	key, err := k.usable(arn)
	if err != nil {
		return nil, err
	}
	header := in.CiphertextBlob[:blobHeader]
	plain, err := key.aead.Open(nil, nil, in.CiphertextBlob[blobHeader:], append(context, header...))
	if err != nil {
		return nil, invalid
	}
	return map[string]any{"Plaintext": plain, "KeyId": arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, nil
}

// canonicalContext is what a ciphertext is bound to: the same pairs in any order.
func canonicalContext(in kmsRequest) ([]byte, error) {
	if in.EncryptionAlgorithm != "" && in.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" {
		return nil, awsError{"InvalidKeyUsageException", "The algorithm does not go with the key."}
	}
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(in.EncryptionContext)) {
		for _, part := range []string{name, in.EncryptionContext[name]} {
			if part == "" {
				return nil, awsError{"ValidationException", "Encryption context may hold nothing empty."}
			}
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(part))), part...)
		}
	}
	return out, nil
}
