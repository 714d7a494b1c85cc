package keyring

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/genesis"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Root is where the private key of an authority is kept, and which one must come
// out.
type Root struct {
	Record    envelope.Record // OfGenesis or OfAuthority
	Sealed    []byte
	PublicKey ed25519.PublicKey
	Shut      bool // the last attempt to open it failed for good; see Deps.Mark
}

// Authority opens the authority that signs for a formation now and hands it to
// use, for as long as use takes: the key is wiped afterwards, so use must not keep
// it. Its error is that of use, or one of Open, or what the formation was not found
// with.
func (k *Keyring) Authority(ctx context.Context, key tenant.Key, use func(ed25519.PrivateKey) error) error {
	if k.deps.Root == nil {
		return errors.New("keyring: this process signs nothing")
	}
	root, err := k.deps.Root(ctx, key)
	if err != nil {
		return err
	}
	return k.Sign(ctx, root, use)
}

// Sign is Authority for a root that the caller has found: one that does not sign
// for the formation yet, or any more.
func (k *Keyring) Sign(ctx context.Context, root Root, use func(ed25519.PrivateKey) error) error {
	private, err := k.authority(ctx, root)
	if err := k.mark(ctx, root, err); err != nil {
		return err
	}
	defer clear(private)
	return use(private)
}

// authority opens a root. What comes out must be what the formation shows to
// everybody: an older genesis of the same formation would open here as well.
func (k *Keyring) authority(ctx context.Context, root Root) (ed25519.PrivateKey, error) {
	plaintext, err := k.Open(ctx, root.Record, root.Sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	private, err := privateKey(root.Record.Kind, plaintext)
	if err == nil && !private.Public().(ed25519.PublicKey).Equal(root.PublicKey) {
		clear(private)
		err = errors.New("keyring: what was sealed is another authority")
	}
	if err != nil {
		return nil, fault.Sealed.Wrap(err, "%s", closed(root.Record))
	}
	return private, nil
}

func privateKey(kind string, plaintext []byte) (ed25519.PrivateKey, error) {
	switch kind {
	case Genesis:
		g, err := genesis.Decode(plaintext)
		if err != nil {
			return nil, err
		}
		defer func() { clear(g.Seed[:]); clear(g.AuthoritySecret[:]) }()
		return g.AuthorityKey(), nil
	case Authority:
		if len(plaintext) != ed25519.SeedSize {
			return nil, errors.New("keyring: an authority of another length")
		}
		return ed25519.NewKeyFromSeed(plaintext), nil
	}
	return nil, fmt.Errorf("keyring: a %s is no authority", kind)
}

// mark remembers that a formation is shut, or no more. Only a change is written,
// and trouble that may pass says neither.
func (k *Keyring) mark(ctx context.Context, root Root, err error) error {
	now := errors.Is(err, fault.Sealed)
	if k.deps.Mark == nil || now == root.Shut || err != nil && !now {
		return err
	}
	key := tenant.Key{Org: tenant.OrgID(root.Record.Org), App: tenant.AppID(root.Record.App)}
	if markErr := k.deps.Mark(ctx, key, now); markErr != nil {
		return errors.Join(err, fmt.Errorf("mark %q: %w", key, markErr))
	}
	return err
}
