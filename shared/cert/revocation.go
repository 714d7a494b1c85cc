package cert

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/millis"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// Revocation says that certificates of a key are not to be believed any more.
type Revocation struct {
	Subject   [ed25519.PublicKeySize]byte
	Serial    [sha256.Size]byte // of the one certificate; zero for all the key has and ever will have
	RevokedAt time.Time
	Reason    Reason
}

// Reason is why a certificate was revoked, for people; whoever reads a list obeys
// it whatever the reason, also one that is not known to him.
type Reason uint8

// The reasons.
const (
	Unspecified Reason = iota
	KeyCompromise
	DeviceLost
	Superseded
	Withdrawn
	FormationDestroyed
	AuthorityTainted
)

var reasonNames = [...]string{
	"unspecified", "key_compromise", "device_lost", "superseded", "withdrawn", "formation_destroyed", "authority_tainted",
}

// String returns the name of the reason.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return reasonNames[Unspecified]
}

// ParseReason reads a reason by its name.
func ParseReason(s string) (Reason, error) {
	i := slices.Index(reasonNames[:], s)
	if i < 0 {
		return 0, refusal.Serialization.New("unknown reason for a revocation")
	}
	return Reason(i), nil
}

// RevocationList is all revocations of a formation at one moment, signed by its
// authority. Each list is complete, and the one with the highest version counts.
type RevocationList struct {
	MeshID   string
	Version  uint64 // of the formation's lists: 1, 2, 3 …
	IssuedAt time.Time
	NextAt   time.Time // by when a newer list is there; zero: not said
	Entries  []Revocation
	Issuer   [ed25519.PublicKeySize]byte

	Signature [ed25519.SignatureSize]byte
}

// Format of a list:
//
//	4      "PRVL"
//	1      version of the format: 1
//	1 + n  mesh id
//	32     issuer
//	8      version of the list
//	8      issued, ms
//	8      next, ms, or 0
//	4      k, how many entries
//	k × 73 subject, serial, revoked at in ms, reason; ascending by subject, then serial
//	64     signature
//
// Integers are little-endian. Nothing may follow. See docs/adr/0006.
const (
	listMagic   = "PRVL"
	listFormat  = 1
	entrySize   = ed25519.PublicKeySize + sha256.Size + 8 + 1
	listHead    = len(listMagic) + 1 + 1                // up to the mesh id
	listMiddle  = ed25519.PublicKeySize + 8 + 8 + 8 + 4 // from there to the entries
	listMinSize = listHead + listMiddle + ed25519.SignatureSize

	// MaxRevocations is the most entries of a list.
	MaxRevocations = 1 << 16
	// MaxListSize is the longest list, in bytes.
	MaxListSize = listMinSize + MaxIDBytes + MaxRevocations*entrySize
)

// listContext precedes a list where it is signed, and nowhere else. The authority
// also signs certificates, which begin with a key and have no such mark: these 32
// bytes are no point of the curve, so that no list is ever a certificate too.
const listContext = "peat-gateway/revocation-list/v1\x00"

// Sign returns l in order and signed by key, whose public half becomes the issuer.
func (l RevocationList) Sign(key ed25519.PrivateKey) (RevocationList, error) {
	if len(key) != ed25519.PrivateKeySize {
		return RevocationList{}, refusal.Keypair.New("signing key of %d bytes, must be %d", len(key), ed25519.PrivateKeySize)
	}
	l.Issuer = [ed25519.PublicKeySize]byte(key.Public().(ed25519.PublicKey))
	l.IssuedAt, l.NextAt = trim(l.IssuedAt), trim(l.NextAt)
	l.Entries = slices.Clone(l.Entries)
	for i := range l.Entries {
		l.Entries[i].RevokedAt = trim(l.Entries[i].RevokedAt)
	}
	slices.SortFunc(l.Entries, compareRevocations)
	body, err := l.appendBody(nil)
	if err != nil {
		return RevocationList{}, err
	}
	l.Signature = [ed25519.SignatureSize]byte(ed25519.Sign(key, slices.Concat([]byte(listContext), body)))
	return l, nil
}

// Verify tells whether the issuer signed l as it is.
func (l RevocationList) Verify() error {
	body, err := l.appendBody([]byte(listContext))
	if err != nil {
		return err
	}
	return verify(l.Issuer[:], body, l.Signature[:])
}

// Find returns the entry that revokes c, if there is one.
func (l RevocationList) Find(c Certificate) (Revocation, bool) {
	i, _ := slices.BinarySearchFunc(l.Entries, Revocation{Subject: c.Subject}, compareRevocations)
	if i == len(l.Entries) || l.Entries[i].Subject != c.Subject {
		return Revocation{}, false
	}
	if l.Entries[i].wholeKey() {
		return l.Entries[i], true
	}
	encoded, err := c.Encode()
	if err != nil {
		return Revocation{}, false
	}
	i, found := slices.BinarySearchFunc(l.Entries, Revocation{Subject: c.Subject, Serial: sha256.Sum256(encoded)}, compareRevocations)
	if !found {
		return Revocation{}, false
	}
	return l.Entries[i], true
}

// revokesKey tells whether l revokes all that a key has.
func (l RevocationList) revokesKey(subject [ed25519.PublicKeySize]byte) bool {
	_, found := slices.BinarySearchFunc(l.Entries, Revocation{Subject: subject}, compareRevocations)
	return found
}

func (r Revocation) wholeKey() bool { return r.Serial == [sha256.Size]byte{} }

func compareRevocations(a, b Revocation) int {
	return cmp.Or(bytes.Compare(a.Subject[:], b.Subject[:]), bytes.Compare(a.Serial[:], b.Serial[:]))
}

// Encode returns l as DecodeRevocations reads it.
func (l RevocationList) Encode() ([]byte, error) {
	body, err := l.appendBody(make([]byte, 0, listMinSize+len(l.MeshID)+len(l.Entries)*entrySize))
	if err != nil {
		return nil, err
	}
	return append(body, l.Signature[:]...), nil
}

func (l RevocationList) appendBody(out []byte) ([]byte, error) {
	if err := checkID("mesh_id", l.MeshID); err != nil {
		return nil, err
	}
	switch {
	case l.Version == 0:
		return nil, refusal.Serialization.New("revocations begin with version 1")
	case len(l.Entries) > MaxRevocations:
		return nil, refusal.Serialization.New("%d revocations are more than %d", len(l.Entries), MaxRevocations)
	}
	issued, err := toMillis(l.IssuedAt)
	if err != nil {
		return nil, err
	}
	var next uint64
	if !l.NextAt.IsZero() {
		if next, err = toMillis(l.NextAt); err != nil || next == 0 {
			return nil, refusal.Serialization.New("next list before 1970, or after all time")
		}
	}
	out = append(out, listMagic...)
	out = append(out, listFormat, byte(len(l.MeshID)))
	out = append(out, l.MeshID...)
	out = append(out, l.Issuer[:]...)
	out = binary.LittleEndian.AppendUint64(out, l.Version)
	out = binary.LittleEndian.AppendUint64(out, issued)
	out = binary.LittleEndian.AppendUint64(out, next)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(l.Entries)))
	for i, e := range l.Entries {
		if i > 0 && compareRevocations(l.Entries[i-1], e) >= 0 {
			return nil, refusal.Serialization.New("revocations out of order, or one twice")
		}
		at, err := toMillis(e.RevokedAt)
		if err != nil {
			return nil, err
		}
		out = append(out, e.Subject[:]...)
		out = append(out, e.Serial[:]...)
		out = binary.LittleEndian.AppendUint64(out, at)
		out = append(out, byte(e.Reason))
	}
	return out, nil
}

// DecodeRevocations reads what RevocationList.Encode wrote, and nothing else: a
// list has one spelling. The signature is not looked at.
func DecodeRevocations(b []byte) (RevocationList, error) {
	if len(b) < listMinSize {
		return RevocationList{}, refusal.Serialization.New("revocations too short: %d bytes (min %d)", len(b), listMinSize)
	}
	if string(b[:len(listMagic)]) != listMagic || b[len(listMagic)] != listFormat {
		return RevocationList{}, refusal.Serialization.New("not a list of revocations that is read here")
	}
	n := int(b[listHead-1])
	if len(b) < listMinSize+n {
		return RevocationList{}, refusal.Serialization.New("revocations truncated at mesh_id")
	}
	l := RevocationList{MeshID: string(b[listHead : listHead+n])}
	rest := b[listHead+n:]
	l.Issuer = [ed25519.PublicKeySize]byte(rest)
	rest = rest[ed25519.PublicKeySize:]
	l.Version = binary.LittleEndian.Uint64(rest)
	l.IssuedAt = millis.Time(binary.LittleEndian.Uint64(rest[8:]))
	if ms := binary.LittleEndian.Uint64(rest[16:]); ms != 0 {
		l.NextAt = millis.Time(ms)
	}
	count := binary.LittleEndian.Uint32(rest[24:])
	rest = rest[28:]
	if count > MaxRevocations || len(rest) != int(count)*entrySize+ed25519.SignatureSize {
		return RevocationList{}, refusal.Serialization.New("revocations: %d of them do not take %d bytes", count, len(rest))
	}
	l.Entries = make([]Revocation, count)
	for i := range l.Entries {
		l.Entries[i] = Revocation{
			Subject:   [ed25519.PublicKeySize]byte(rest),
			Serial:    [sha256.Size]byte(rest[ed25519.PublicKeySize:]),
			RevokedAt: millis.Time(binary.LittleEndian.Uint64(rest[ed25519.PublicKeySize+sha256.Size:])),
			Reason:    Reason(rest[entrySize-1]),
		}
		rest = rest[entrySize:]
	}
	l.Signature = [ed25519.SignatureSize]byte(rest)
	// Order, text and version are Encode's to judge.
	if _, err := l.appendBody(nil); err != nil {
		return RevocationList{}, err
	}
	return l, nil
}

// equal tells whether both say the same, signature included.
func (l RevocationList) equal(m RevocationList) bool {
	return l.MeshID == m.MeshID && l.Version == m.Version && l.IssuedAt.Equal(m.IssuedAt) && l.NextAt.Equal(m.NextAt) &&
		l.Issuer == m.Issuer && l.Signature == m.Signature && slices.Equal(l.Entries, m.Entries)
}
