// Package genesis is a formation's root of trust: the seed from which its
// secrets derive, and the bytes in which peat-mesh keeps and shares it. Every
// derivation and every byte agrees with peat-mesh, so that its nodes and this
// gateway can be given each other's records.
//
// What is not here: how a genesis is protected at rest (shared/envelope) and
// where it is kept (shared/store).
package genesis

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"
	"unicode/utf8"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// SecretSize is the length of every secret here, in bytes.
const SecretSize = 32

// Secret is key material. It does not print, except from where fmt asks no value
// for its Format: for %p, which go vet refuses, and in unexported fields of other
// structs. Do not keep one in such a field of something that may be printed.
type Secret [SecretSize]byte

const redacted = "[secret]"

// Format hides the secret from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Genesis is what a formation begins with. Whoever has it is the formation's
// authority.
type Genesis struct {
	Name            string // of the mesh; for a gateway's formation its app id
	Seed            Secret
	AuthoritySecret Secret // Ed25519 seed of the authority: derived, unless it came from outside
	CreatedAtMS     uint64 // since the Unix epoch
	Policy          tenant.EnrollmentPolicy
}

// New returns a genesis with a fresh seed from random.
func New(name string, policy tenant.EnrollmentPolicy, createdAt time.Time, random io.Reader) (Genesis, error) {
	var seed Secret
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return Genesis{}, fmt.Errorf("read random seed: %w", err)
	}
	ms := createdAt.UnixMilli()
	if ms < 0 {
		return Genesis{}, refusal.Serialization.New("created before 1970")
	}
	return FromSeed(name, policy, uint64(ms), seed)
}

// FromSeed returns the genesis that a seed determines.
func FromSeed(name string, policy tenant.EnrollmentPolicy, createdAtMS uint64, seed Secret) (Genesis, error) {
	if err := checkName(name); err != nil {
		return Genesis{}, err
	}
	if _, err := policyByte(policy); err != nil {
		return Genesis{}, err
	}
	g := Genesis{Name: name, Seed: seed, CreatedAtMS: createdAtMS, Policy: policy}
	g.AuthoritySecret = g.derivedAuthority()
	return g, nil
}

// WithAuthority returns g with an authority key from outside in the place of
// the one that follows from the seed. Mesh id and formation secret remain.
func (g Genesis) WithAuthority(secret Secret) Genesis {
	g.AuthoritySecret = secret
	return g
}

// ExternalAuthority tells whether the authority key is not the seed's own.
func (g Genesis) ExternalAuthority() bool { return g.AuthoritySecret != g.derivedAuthority() }

// Format shows the name and nothing else. Without it, fmt would follow a pointer
// to a Genesis past the Format of its secrets where the verb is a wrong one.
func (g Genesis) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "genesis of %q", g.Name) }

// Credentials returns what a member needs. It holds the formation secret, but
// nothing that would make the member an authority.
func (g Genesis) Credentials() Credentials {
	return Credentials{
		Name:               g.Name,
		MeshID:             g.MeshID(),
		FormationSecret:    g.FormationSecret(),
		AuthorityPublicKey: g.AuthorityPublicKey(),
		Policy:             g.Policy,
	}
}

// Credentials let a node take part in a formation.
type Credentials struct {
	Name               string
	MeshID             string // 8 characters; peat-mesh checks no more, and neither do we
	FormationSecret    Secret
	AuthorityPublicKey ed25519.PublicKey
	Policy             tenant.EnrollmentPolicy
}

// Format shows the names and nothing else, as that of Genesis does.
func (c Credentials) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "credentials of %q (%q)", c.Name, c.MeshID)
}

func checkName(name string) error {
	switch {
	case len(name) > math.MaxUint16:
		// peat-mesh writes such a name with a length that has lost its upper
		// bits, and the record can never be read again.
		return refusal.Serialization.New("mesh_name of %d bytes is longer than %d", len(name), math.MaxUint16)
	case !utf8.ValidString(name):
		return refusal.Serialization.New("invalid mesh_name: not UTF-8")
	}
	return nil
}
