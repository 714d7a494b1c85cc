package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// KeySettings say with which keys secrets are sealed.
type KeySettings struct {
	KEK       env.Secret
	KEKFile   string
	MoreKEKs  env.Secret
	KEKDir    string
	Default   string
	Services  KeyServiceSettings
	Allowance keyring.Allowance
	CacheFor  time.Duration
	CacheSize int
}

func readKeys(e *env.Reader) KeySettings {
	s := KeySettings{
		KEK:       e.Secret("PEAT_KEK", "key that seals key material, 64 hexadecimal characters"),
		KEKFile:   e.String("PEAT_KEK_FILE", "", "file that holds PEAT_KEK instead; made if it is not there"),
		MoreKEKs:  e.Secret("PEAT_KEKS", "further keys that open what they sealed, with commas between them; for the time of a re-wrap"),
		KEKDir:    e.String("PEAT_KEK_DIR", "", "folder with a further key in each file, as PEAT_KEKS"),
		Default:   e.String("PEAT_KEY", "", "id of the key that seals for organizations without one of their own; default: the gateway's only key"),
		Services:  readKeyServices(e),
		CacheFor:  e.Duration("PEAT_KEY_CACHE_FOR", time.Minute, "how long an unwrapped data key is used, and so how long an organization whose key is revoked goes on; 0s asks every time"),
		CacheSize: e.Int("PEAT_KEY_CACHE_SIZE", 10_000, "how many unwrapped data keys are kept of each key"),
	}
	var err error
	if s.Allowance, err = keyring.ParseAllowance(e.String("PEAT_KMS_ALLOW", "",
		"keys that organizations may have of their own: ids with commas between them, {org} for the organization, * at the end for anything, ORG= before one for that organization alone")); err != nil {
		e.Wrong("PEAT_KMS_ALLOW", err.Error())
	}
	return s
}

// localKeys opens the keys that are held in memory. The first is that of PEAT_KEK,
// if there is one.
func (s KeySettings) localKeys() ([]*envelope.Local, error) {
	var all []*envelope.Local
	add := func(kek envelope.KEK, err error) error {
		if err != nil {
			return fmt.Errorf("key encryption key: %w", err)
		}
		local, err := envelope.NewLocal(kek)
		if err == nil {
			all = append(all, local)
		}
		return err
	}
	var err error
	switch {
	case s.KEK.Reveal() != "":
		err = add(envelope.ParseKEK(s.KEK.Reveal()))
	case s.KEKFile != "":
		err = add(envelope.LoadOrCreateKEK(s.KEKFile))
	}
	if err != nil {
		return nil, err
	}
	for text := range strings.SplitSeq(s.MoreKEKs.Reveal(), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := add(envelope.ParseKEK(text)); err != nil {
			return nil, fmt.Errorf("PEAT_KEKS: %w", err)
		}
	}
	if s.KEKDir == "" {
		return all, nil
	}
	files, err := os.ReadDir(s.KEKDir)
	if err != nil {
		return nil, fmt.Errorf("PEAT_KEK_DIR: %w", err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") { // as Kubernetes keeps what it shows under other names
			continue
		}
		if err := add(envelope.LoadKEK(filepath.Join(s.KEKDir, f.Name()))); err != nil {
			return nil, fmt.Errorf("PEAT_KEK_DIR: %w", err)
		}
	}
	return all, nil
}

// openKeys makes the keyring, and what has to be closed after it.
func (s KeySettings) openKeys(st *store.Store, log *slog.Logger) (*keyring.Keyring, func() error, error) {
	locals, err := s.localKeys()
	if err != nil {
		return nil, nil, err
	}
	keys := map[string]envelope.KeyProvider{}
	var old []string // what may have sealed an envelope that names no key
	for _, l := range locals {
		if keys[l.KeyID()] == nil {
			old = append(old, l.KeyID())
		}
		keys[l.KeyID()] = l
	}
	old = append(old, s.Services.own()...)
	d := keyring.Deps{Default: s.Default, Old: old, CacheFor: s.CacheFor, CacheSize: s.CacheSize}
	if d.Default == "" {
		if d.Default, err = s.only(locals); err != nil {
			return nil, nil, err
		}
	}
	services, err := s.Services.open(log)
	if err != nil {
		return nil, nil, err
	}
	d.Provider = func(id string) (envelope.KeyProvider, error) {
		if key := keys[id]; key != nil {
			return key, nil
		}
		return services.key(id)
	}
	for _, id := range append([]string{d.Default}, s.Services.own()...) {
		if _, err := d.Provider(id); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("the gateway's key %q: %w", id, err), services.Close())
		}
	}
	// The gateway's own keys are everybody's: nobody outside can seal with them.
	d.Allowed = s.Allowance.With(append(old, d.Default)...).Permits
	d.KeyOf = func(ctx context.Context, org tenant.OrgID) (string, error) {
		id, _, err := st.OrgKey(ctx, org)
		return id, err
	}
	d.Root = st.Root
	d.Mark = func(ctx context.Context, key tenant.Key, shut bool) error {
		at := time.Time{}
		if shut {
			at = time.Now()
		}
		return st.InTx(ctx, func(tx *store.Tx) error { return tx.MarkShut(ctx, key, at) })
	}
	k := keyring.New(d)
	return k, func() error { return errors.Join(k.Close(), services.Close()) }, nil
}

// only returns the gateway's own key if there is one alone. Of several none is meant
// more than another: the one that seals is what everything depends on.
func (s KeySettings) only(locals []*envelope.Local) (string, error) {
	own := s.Services.own()
	if s.KEK.Reveal() != "" || s.KEKFile != "" {
		own = append(own, locals[0].KeyID())
	}
	switch len(own) {
	case 0:
		return "", errors.New("PEAT_KEK or PEAT_KEK_FILE is not set, nor a key in a key service")
	case 1:
		return own[0], nil
	}
	return "", fmt.Errorf("PEAT_KEY has to say which of the gateway's keys seals: %s", strings.Join(own, ", "))
}
