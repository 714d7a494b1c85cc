package cert

import (
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/refusal"
)

// MaxDepth is the longest chain that a Policy may allow.
const MaxDepth = 8

// Policy says whom to believe.
type Policy struct {
	MeshID      string
	Authorities []ed25519.PublicKey // several while one takes the place of another
	// Depth is how many certificates may lie between an authority and what it
	// vouches for, both ends counted: 1 if authorities alone issue, 2 if a
	// member that may enroll others can, and so on.
	Depth int
	// Limit is the most certificates to keep. Expired ones count, and of keys
	// that have none left, or had other names, as many are remembered again.
	Limit int
}

// Trust is a set of certificates that are believed, one of each key. It is
// stricter than the bundle of peat-mesh, with which everybody can make himself an
// authority. A certificate is believed only if
//
//   - it was signed by an authority, or through a chain of members that may
//     enroll others, no longer than the policy allows;
//   - it is of this mesh;
//   - nobody in the chain gave more than he had: of tier, permissions or life;
//   - it is not older than what is known of its key already;
//   - its node id belongs to no other key;
//   - it and its chain are within their time and not revoked.
//
// All of this is asked again whenever somebody asks for a certificate, so that
// what a member signed ends when the member does. A Trust is not safe for
// concurrent use.
type Trust struct {
	meshID      string
	authorities map[[ed25519.PublicKeySize]byte]bool
	depth       int
	limit       int
	bySubject   map[[ed25519.PublicKeySize]byte]Certificate
	byNode      map[string][ed25519.PublicKeySize]byte
	// newest is when the newest certificate of a key was issued that was ever
	// believed, also if that one was revoked since.
	newest      map[[ed25519.PublicKeySize]byte]time.Time
	revocations RevocationList
}

// NewTrust returns a Trust that believes nothing yet.
func NewTrust(p Policy) (*Trust, error) {
	switch {
	case p.MeshID == "" || checkID("mesh_id", p.MeshID) != nil:
		return nil, refusal.Certificate.New("trust needs a mesh id")
	case p.Depth < 1 || p.Depth > MaxDepth:
		return nil, refusal.Certificate.New("chains of %d certificates: must be 1 to %d", p.Depth, MaxDepth)
	case p.Limit < 1:
		return nil, refusal.Certificate.New("trust without room for a certificate")
	}
	t := &Trust{
		meshID: p.MeshID, depth: p.Depth, limit: p.Limit,
		authorities: map[[ed25519.PublicKeySize]byte]bool{},
		bySubject:   map[[ed25519.PublicKeySize]byte]Certificate{},
		byNode:      map[string][ed25519.PublicKeySize]byte{},
		newest:      map[[ed25519.PublicKeySize]byte]time.Time{},
	}
	for _, key := range p.Authorities {
		if err := checkSubject(key); err != nil {
			return nil, err
		}
		t.authorities[[ed25519.PublicKeySize]byte(key)] = true
	}
	return t, nil
}

// Distrust ends belief in an authority, and with it in all that it vouches for.
func (t *Trust) Distrust(key ed25519.PublicKey) {
	if len(key) == ed25519.PublicKeySize {
		delete(t.authorities, [ed25519.PublicKeySize]byte(key))
	}
}

// Len returns how many certificates are kept.
func (t *Trust) Len() int { return len(t.bySubject) }

// Add keeps c if it can be believed, in the place of what was known of its key.
// To add what is known already is no error.
func (t *Trust) Add(now time.Time, c Certificate) error {
	if err := c.Verify(); err != nil {
		return err
	}
	if err := checkSubject(c.Subject[:]); err != nil {
		return err
	}
	if c.MeshID != t.meshID {
		return refusal.Certificate.New("certificate of another mesh")
	}
	if !c.ExpiresAt.IsZero() && (!trim(now).Before(c.ExpiresAt) || !c.IssuedAt.Before(c.ExpiresAt)) {
		return refusal.Certificate.New("certificate has expired")
	}
	depth, err := t.chain(now, c)
	if err != nil {
		return err
	}
	if depth > 1 && trim(now).Before(c.IssuedAt) {
		// Else a member could outdate everything an authority will say of a key.
		return refusal.Certificate.New("issued in the future, and not by an authority")
	}
	if err := t.mayReplace(now, c, depth); err != nil {
		return err
	}
	if err := t.mayTake(c); err != nil {
		return err
	}
	t.bySubject[c.Subject], t.newest[c.Subject] = c, c.IssuedAt
	if c.NodeID != "" {
		t.byNode[c.NodeID] = c.Subject
	}
	return nil
}

// AddAll adds certificates in whatever order they come, an issuer's before those
// that need it, and returns why each of them is not believed: nil for the others.
func (t *Trust) AddAll(now time.Time, all []Certificate) []error {
	errs := make([]error, len(all))
	for i, c := range all {
		errs[i] = t.Add(now, c)
	}
	for range t.depth - 1 {
		for i, c := range all {
			if errs[i] != nil {
				errs[i] = t.Add(now, c)
			}
		}
	}
	return errs
}

// Peer returns the certificate of a key, if it is to be believed now.
func (t *Trust) Peer(now time.Time, key ed25519.PublicKey) (Certificate, error) {
	if len(key) != ed25519.PublicKeySize {
		return Certificate{}, refusal.InvalidPublicKey.New("public key: expected %d bytes, got %d", ed25519.PublicKeySize, len(key))
	}
	c, ok := t.bySubject[[ed25519.PublicKeySize]byte(key)]
	if !ok {
		return Certificate{}, refusal.Certificate.New("no certificate of this key")
	}
	if !c.ValidAt(now) {
		return Certificate{}, refusal.Certificate.New("certificate is not within its time")
	}
	_, err := t.chain(now, c)
	if err != nil {
		return Certificate{}, err
	}
	return c, nil
}

// Node returns the certificate of a node, if it is to be believed now.
func (t *Trust) Node(now time.Time, id string) (Certificate, error) {
	key, ok := t.byNode[id]
	if !ok {
		return Certificate{}, refusal.Certificate.New("no certificate of this node")
	}
	c, err := t.Peer(now, key[:])
	if err != nil {
		return Certificate{}, err
	}
	if c.NodeID != id {
		return Certificate{}, refusal.Certificate.New("the node's key has another node id by now")
	}
	return c, nil
}

// Revoke takes a list of revocations in the place of the last. It must be signed
// by an authority that is believed and be newer than the last one.
func (t *Trust) Revoke(l RevocationList) error {
	if err := l.Verify(); err != nil {
		return err
	}
	switch {
	case l.MeshID != t.meshID:
		return refusal.Certificate.New("revocations of another mesh")
	case !t.authorities[l.Issuer]:
		return refusal.Certificate.New("revocations by somebody who is no authority here")
	case l.Version < t.revocations.Version:
		return refusal.Certificate.New("revocations of version %d, and version %d is known", l.Version, t.revocations.Version)
	case l.Version == t.revocations.Version && !l.equal(t.revocations):
		return refusal.Certificate.New("two lists of revocations of version %d", l.Version)
	}
	t.revocations = l
	for subject, c := range t.bySubject {
		if _, revoked := l.Find(c); revoked {
			delete(t.bySubject, subject)
		}
	}
	for subject := range t.newest {
		if l.revokesKey(subject) {
			delete(t.newest, subject)
		}
	}
	// A node id whose key has no certificate any more may go to another key: that
	// is how a lost device is replaced.
	for node, subject := range t.byNode {
		if _, ok := t.bySubject[subject]; !ok {
			delete(t.byNode, node)
		}
	}
	return nil
}

// chain walks from c up to an authority and returns how many certificates that
// takes, 0 for the authority's own.
func (t *Trust) chain(now time.Time, c Certificate) (depth int, err error) {
	for ; ; depth++ {
		if _, revoked := t.revocations.Find(c); revoked {
			return 0, refusal.Certificate.New("certificate is revoked")
		}
		switch {
		case t.authorities[c.Issuer] && c.Root():
			return depth, nil
		case t.authorities[c.Issuer]:
			return depth + 1, nil
		case c.Root():
			return 0, refusal.Certificate.New("signed by itself, and not an authority here")
		case depth+1 >= t.depth:
			return 0, refusal.Certificate.New("chain of more than %d certificates, or to nobody known", t.depth)
		}
		issuer, ok := t.bySubject[c.Issuer]
		if !ok {
			return 0, refusal.Certificate.New("untrusted issuer")
		}
		if err := granted(now, issuer, c); err != nil {
			return 0, err
		}
		c = issuer
	}
}

// granted tells whether issuer may have given what c says.
func granted(now time.Time, issuer, c Certificate) error {
	switch {
	case !issuer.Permissions.Has(Enroll):
		return refusal.Certificate.New("issuer may not enroll others")
	case !issuer.ValidAt(now):
		return refusal.Certificate.New("issuer's certificate is not within its time")
	case c.Tier < issuer.Tier:
		return refusal.Certificate.New("of a higher tier than its issuer")
	case !issuer.Permissions.Has(c.Permissions):
		return refusal.Certificate.New("of more permissions than its issuer")
	case c.IssuedAt.Before(issuer.IssuedAt):
		return refusal.Certificate.New("older than its issuer")
	case !issuer.ExpiresAt.IsZero() && (c.ExpiresAt.IsZero() || c.ExpiresAt.After(issuer.ExpiresAt)):
		return refusal.Certificate.New("of a longer life than its issuer")
	}
	return nil
}

// mayReplace tells whether c may stand for its key instead of what does now.
func (t *Trust) mayReplace(now time.Time, c Certificate, depth int) error {
	newest, known := t.newest[c.Subject]
	old, ok := t.bySubject[c.Subject]
	switch {
	case !ok && len(t.bySubject) >= t.limit:
		return refusal.Certificate.New("no room for more than %d certificates", t.limit)
	case !known && len(t.newest) >= 2*t.limit:
		return refusal.Certificate.New("no room for more keys")
	case known && c.IssuedAt.Before(newest):
		return refusal.Certificate.New("older than what is known of its key")
	case !ok || old == c:
		return nil
	case !c.IssuedAt.After(old.IssuedAt):
		return refusal.Certificate.New("of the same time as what is known of its key")
	}
	if !old.ValidAt(now) {
		return nil
	}
	oldDepth, err := t.chain(now, old)
	switch {
	case err != nil:
		return nil // what stands there is believed no more
	case depth > oldDepth:
		return refusal.Certificate.New("somebody nearer to the authority has spoken for this key")
	case !c.ValidAt(now):
		return refusal.Certificate.New("not valid yet, and another is")
	}
	return nil
}

// mayTake tells whether c's node id is its key's, or nobody's.
func (t *Trust) mayTake(c Certificate) error {
	owner, ok := t.byNode[c.NodeID]
	switch {
	case c.NodeID == "":
		return nil // and nobody can ask for it by name
	case ok && owner != c.Subject:
		return refusal.Certificate.New("node id belongs to another key")
	case !ok && len(t.byNode) >= 2*t.limit:
		return refusal.Certificate.New("no room for more node ids")
	}
	return nil
}

// Authorities returns the keys that are believed, in the order of their bytes.
func (t *Trust) Authorities() []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for key := range t.authorities {
		keys = append(keys, slices.Clone(key[:]))
	}
	slices.SortFunc(keys, func(a, b ed25519.PublicKey) int { return slices.Compare(a, b) })
	return keys
}
