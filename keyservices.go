package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

// KeyServiceSettings say how key services are reached, and which keys there are the
// gateway's own.
type KeyServiceSettings struct {
	KMSKey         string
	KMSEndpoint    *url.URL
	VaultAddress   *url.URL
	VaultToken     env.Secret
	VaultTokenFile string
	VaultNamespace string
	VaultMount     string
	VaultKey       string
	VaultCAFile    string
}

func readKeyServices(e *env.Reader) KeyServiceSettings {
	s := KeyServiceSettings{
		KMSKey:         e.String("PEAT_KMS_KEY", "", "the gateway's own key in AWS KMS, by its ARN; how it is reached is as for AWS's own programs (AWS_REGION is not needed)"),
		KMSEndpoint:    e.URL("PEAT_KMS_ENDPOINT", "", "where AWS KMS is, instead of at the region's endpoint", "http", "https"),
		VaultAddress:   e.URL("PEAT_VAULT_ADDR", "", "where Vault or OpenBao is; without TLS only on this machine", "http", "https"),
		VaultToken:     e.Secret("PEAT_VAULT_TOKEN", "token for it"),
		VaultTokenFile: e.String("PEAT_VAULT_TOKEN_FILE", "", "file that holds PEAT_VAULT_TOKEN instead; it is read at every use, so an agent may change it"),
		VaultNamespace: e.String("PEAT_VAULT_NAMESPACE", "", "namespace of the token; keys are below it"),
		VaultMount:     e.String("PEAT_VAULT_MOUNT", "transit", "where the Transit engine is mounted that has the gateway's own key"),
		VaultKey:       e.String("PEAT_VAULT_KEY", "", "name of the gateway's own key in that engine"),
		VaultCAFile:    e.String("PEAT_VAULT_CA_FILE", "", "authority that vouches for the server, PEM; default: the system's"),
	}
	for name, u := range map[string]*url.URL{"PEAT_KMS_ENDPOINT": s.KMSEndpoint, "PEAT_VAULT_ADDR": s.VaultAddress} {
		if u == nil {
			continue
		}
		if err := envelope.TrustedURL(u); err != nil {
			e.Wrong(name, "is refused: "+err.Error())
		}
	}
	if s.VaultAddress != nil && s.VaultToken.Reveal() == "" && s.VaultTokenFile == "" {
		e.Wrong("PEAT_VAULT_ADDR", "needs PEAT_VAULT_TOKEN or PEAT_VAULT_TOKEN_FILE beside it")
	}
	if s.VaultKey != "" && s.VaultAddress == nil {
		e.Wrong("PEAT_VAULT_KEY", "needs PEAT_VAULT_ADDR beside it")
	}
	return s
}

// own returns the ids of the gateway's own keys.
func (s KeyServiceSettings) own() []string {
	var ids []string
	if s.KMSKey != "" {
		ids = append(ids, "awskms:"+s.KMSKey)
	}
	if s.VaultKey != "" {
		path := strings.Trim(s.VaultMount, "/") + "/" + s.VaultKey
		if ns := strings.Trim(s.VaultNamespace, "/"); ns != "" {
			path = ns + "/" + path
		}
		ids = append(ids, "vault:"+path)
	}
	return ids
}

// keyServices are the connections, shared by all keys of a service. None is asked
// for anything before its first key is used; only Vault's token is looked after.
type keyServices struct {
	aws   func() (*envelope.AWSKMS, error)
	vault *envelope.Vault // nil without an address
}

func (s KeyServiceSettings) open(log *slog.Logger) (*keyServices, error) {
	k := &keyServices{
		// Not before it is needed: broken settings of AWS are nobody's trouble who has no key there.
		aws: sync.OnceValues(func() (*envelope.AWSKMS, error) {
			return envelope.NewAWSKMS(context.Background(), envelope.AWSKMSOptions{Endpoint: s.KMSEndpoint})
		}),
	}
	if s.VaultAddress == nil {
		return k, nil
	}
	o := envelope.VaultOptions{Address: s.VaultAddress, Namespace: s.VaultNamespace, Log: log, Token: envelope.FixedToken(s.VaultToken.Reveal())}
	if s.VaultTokenFile != "" {
		o.Token = envelope.TokenFile(s.VaultTokenFile)
	}
	if s.VaultCAFile != "" {
		var err error
		if o.CA, err = os.ReadFile(s.VaultCAFile); err != nil {
			return nil, fmt.Errorf("PEAT_VAULT_CA_FILE: %w", err)
		}
	}
	var err error
	if k.vault, err = envelope.NewVault(o); err != nil {
		return nil, fmt.Errorf("PEAT_VAULT_ADDR: %w", err)
	}
	return k, nil
}

// key returns the key of an id.
func (k *keyServices) key(id string) (envelope.KeyProvider, error) {
	kind, name, _ := strings.Cut(id, ":")
	switch {
	case kind == "awskms":
		aws, err := k.aws()
		if err != nil {
			return nil, err
		}
		return aws.Key(name)
	case kind == "vault" && k.vault != nil:
		return k.vault.Key(name)
	}
	return nil, errors.New("no such key is set up")
}

// Close ends what looks after Vault's token.
func (k *keyServices) Close() error {
	if k.vault == nil {
		return nil
	}
	return k.vault.Close()
}
