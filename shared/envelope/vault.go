package envelope

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// VaultOptions says how a Vault or OpenBao server is reached.
type VaultOptions struct {
	Address   *url.URL               // see TrustedURL
	Token     func() (string, error) // asked before every request, as an agent may change it; see FixedToken
	Namespace string                 // of the token, and above that of every key; empty is the root's
	CA        []byte                 // certificates that the server's is checked against, PEM; empty is the system's
	Timeout   time.Duration          // of a call with all its attempts; 0 is 10 seconds
	Log       *slog.Logger
	Transport http.RoundTripper // instead of the network
}

// Vault reaches the keys of the Transit engine of a Vault or OpenBao server. They
// share a token, which is renewed for as long as the server lets it be.
type Vault struct {
	o      VaultOptions
	client *http.Client

	stop    context.CancelFunc
	renewer sync.WaitGroup
}

// vaultPath is words with slashes between them, and nothing that a URL would
// understand differently.
var vaultPath = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// NewVault returns a Vault, which asks for nothing yet but watches over the token
// until Close.
func NewVault(o VaultOptions) (*Vault, error) {
	if o.Address == nil || o.Token == nil {
		return nil, errors.New("vault needs an address and a token")
	}
	if err := TrustedURL(o.Address); err != nil {
		return nil, err
	}
	o.Namespace = strings.Trim(o.Namespace, "/")
	if o.Namespace != "" && !vaultPath.MatchString(o.Namespace) {
		return nil, errors.New("a namespace of vault is made of letters, digits, dots, dashes, underscores and slashes")
	}
	if o.Transport == nil {
		network := http.DefaultTransport.(*http.Transport).Clone()
		network.MaxIdleConnsPerHost = 16 // of many calls at once, as when devices enroll
		network.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(o.CA) > 0 {
			network.TLSClientConfig.RootCAs = x509.NewCertPool()
			if !network.TLSClientConfig.RootCAs.AppendCertsFromPEM(o.CA) {
				return nil, errors.New("vault's CA file holds no certificate")
			}
		}
		o.Transport = network
	}
	o.Timeout = cmp.Or(o.Timeout, callTimeout)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	v := &Vault{o: o, client: newHTTPClient(o.Transport, o.Timeout)}
	ctx, stop := context.WithCancel(context.Background())
	v.stop = stop
	v.renewer.Go(func() { v.keepToken(ctx) })
	return v, nil
}

// Close ends the watch over the token and waits for its end.
func (v *Vault) Close() error {
	v.stop()
	v.renewer.Wait()
	v.client.CloseIdleConnections()
	return nil
}

// Key returns the key at a path, MOUNT/NAME or NAMESPACE/MOUNT/NAME: the whole
// path, with the token's namespace at its beginning.
func (v *Vault) Key(path string) (*VaultKey, error) {
	k := &VaultKey{vault: v, id: "vault:" + path}
	if !vaultPath.MatchString(path) || !validKeyID(k.id) {
		return nil, errors.New("the path of a key in vault is too long, or made of something else than letters, digits, dots, dashes, underscores and slashes")
	}
	below, ok := path, true
	if v.o.Namespace != "" {
		below, ok = strings.CutPrefix(path, v.o.Namespace+"/")
	}
	name := strings.LastIndexByte(below, '/')
	if !ok || name < 0 {
		return nil, errors.New("the path of a key in vault is NAMESPACE/MOUNT/NAME, with the namespace of the settings at its beginning, if there is one")
	}
	k.mount, k.name = below[:name], below[name+1:]
	return k, nil
}

// VaultKey is a KeyProvider whose key is in a Transit engine. It has to be of a
// type with associated data, such as aes256-gcm96, which is the default, and not
// derived: a derived key opens nothing that was sealed without a context, as
// version 1 is.
type VaultKey struct {
	vault           *Vault
	id, mount, name string
}

// KeyID implements KeyProvider. The server's address is no part of it: that may
// change and the key stay.
func (k *VaultKey) KeyID() string { return k.id }

// vaultCiphertext is how Transit writes what it encrypted.
var vaultCiphertext = regexp.MustCompile(`^vault:v[1-9][0-9]{0,9}:([A-Za-z0-9+/]+={0,2})$`)

// isVaultCiphertext holds for just one spelling of a ciphertext. The server reads
// more (line breaks, a version 0 for 1, any last bits), so that a stored one could
// be changed and nobody would notice.
func isVaultCiphertext(b []byte) bool {
	if len(b) > maxVaultCiphertext {
		return false
	}
	parts := vaultCiphertext.FindSubmatch(b)
	if parts == nil {
		return false
	}
	_, err := base64.StdEncoding.Strict().DecodeString(string(parts[1]))
	return err == nil
}

// maxVaultCiphertext is many times what a data key comes to.
const maxVaultCiphertext = 4096

// Wrap implements KeyProvider.
func (k *VaultKey) Wrap(ctx context.Context, rec Record, dek []byte) ([]byte, error) {
	var out struct {
		Data struct{ Ciphertext string }
	}
	in := transitRequest{Plaintext: dek, AssociatedData: transitBinding(rec)}
	if err := k.vault.call(ctx, http.MethodPost, k.mount+"/encrypt/"+k.name, in, &out); err != nil {
		return nil, err
	}
	wrapped := []byte(out.Data.Ciphertext)
	if !isVaultCiphertext(wrapped) {
		return nil, unavailable(errors.New("vault's answer holds no ciphertext"))
	}
	return wrapped, nil
}

// Unwrap implements KeyProvider.
func (k *VaultKey) Unwrap(ctx context.Context, rec Record, wrapped []byte) ([]byte, error) {
	if !isVaultCiphertext(wrapped) {
		return nil, ErrTampered
	}
	var out struct {
		Data struct{ Plaintext []byte }
	}
	in := transitRequest{Ciphertext: string(wrapped), AssociatedData: transitBinding(rec)}
	if err := k.vault.call(ctx, http.MethodPost, k.mount+"/decrypt/"+k.name, in, &out); err != nil {
		return nil, err
	}
	return out.Data.Plaintext, nil
}

// transitRequest is to encrypt or to decrypt. What is []byte travels as base64.
type transitRequest struct {
	Plaintext      []byte `json:"plaintext,omitempty"`
	Ciphertext     string `json:"ciphertext,omitempty"`
	AssociatedData []byte `json:"associated_data,omitempty"`
}

// transitBinding is the associated data of a data key. It does not name the key,
// which is known by what it opens, so that an engine can be moved.
func transitBinding(rec Record) []byte {
	if rec == (Record{}) {
		return nil
	}
	return rec.associatedData(0, "")
}

// call sends a request until it is answered, refused, or given up.
func (v *Vault) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
		defer clear(body)
	}
	bounded, cancel := context.WithTimeout(ctx, v.o.Timeout)
	defer cancel()
	used, err := v.token()
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		err := v.attempt(bounded, used, method, path, body, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case errors.Is(err, ErrUnavailable):
			if n >= attempts || !sleep(bounded, backoff(n)) {
				return err
			}
		case errors.Is(err, ErrKeyRefused) && n < attempts:
			now, errToken := v.token() // the agent may have changed it meanwhile
			if errToken != nil || now == used {
				return err
			}
			used = now
		default:
			return err
		}
	}
}

// sleep returns whether it slept for as long as it was told.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (v *Vault) attempt(ctx context.Context, token, method, path string, body []byte, out any) error {
	// A copy: the transport may still be reading it when an attempt is given up.
	req, err := http.NewRequestWithContext(ctx, method, v.o.Address.JoinPath("v1", path).String(), bytes.NewReader(bytes.Clone(body)))
	if err != nil {
		return unavailable(cause(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Request", "true") // an agent may require it
	req.Header.Set("X-Vault-Token", token)
	if v.o.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.o.Namespace)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return unavailable(cause(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	defer clear(answer)
	if err != nil {
		return unavailable(cause(err))
	}
	if resp.StatusCode != http.StatusOK {
		return vaultError(resp.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return unavailable(errors.New("vault's answer cannot be read")) // the decoder's error may quote it
	}
	return nil
}

// vaultErrors tells the reasons for one status apart, as far as they matter: the
// server tells them by text alone.
var vaultErrors = []struct {
	status int
	text   string
	err    error
}{
	{http.StatusBadRequest, "message authentication failed", ErrTampered},
	{http.StatusBadRequest, "invalid ciphertext", ErrTampered},
	{http.StatusBadRequest, "encryption key not found", refused("vault knows no such key")},
	{http.StatusBadRequest, "soft deleted", refused("it is deleted in vault")},
	{http.StatusBadRequest, "disallowed by policy (too old)", refused("this version of it is no longer allowed in vault")},
	{http.StatusBadRequest, "no such key version", refused("this version of it is no longer in vault")},
	{http.StatusBadRequest, "non-AEAD cipher", refused("it is of a type that cannot bind: it should be aes256-gcm96")},
	{http.StatusBadRequest, "missing 'context'", refused("it is a derived key in vault, and should not be")},
	{http.StatusBadRequest, "", refused("vault does not take the request")},
	{http.StatusForbidden, "", refused("vault denies access to it, or does not know the token")},
	{http.StatusNotFound, "", refused("vault knows no such mount or namespace")},
	{http.StatusMethodNotAllowed, "", refused("vault has something else than a Transit engine there")},
	// An organization that has its own namespace can close it.
	{http.StatusServiceUnavailable, "namespace is sealed", refused("its namespace in vault is sealed")},
	{http.StatusServiceUnavailable, "has been locked", refused("its namespace in vault is locked")},
	{http.StatusServiceUnavailable, "", unavailable(errors.New("vault is sealed or in maintenance"))},
}

// vaultError is what an answer other than "here it is" means.
func vaultError(status int, answer []byte) error {
	var said struct{ Errors []string }
	_ = json.Unmarshal(answer, &said) // without a text the status has to do
	text := strings.Join(said.Errors, "\n")
	for _, e := range vaultErrors {
		if e.status == status && strings.Contains(text, e.text) {
			return e.err
		}
	}
	return unavailable(fmt.Errorf("vault answered with status %d", status))
}
