package cert_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/refusal"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
)

const refused = string(refusal.Certificate)

// stricter are the vectors in which peat-mesh believes what we do not: why, what
// we answer to each certificate, and how many we keep.
var stricter = map[string]struct {
	why     string
	results []string
	kept    int
}{
	"certificate_bundle/self-signed-accepted-without-authority": {
		"whoever signs his own certificate is no authority by that", []string{refused}, 0,
	},
	"certificate_bundle/self-signed-then-delegates": {
		"nor can he make members of others", []string{refused, refused}, 0,
	},
	"certificate_bundle/delegation-expired-issuer": {
		"an expired certificate is not added, and there is no way around that", []string{refused, refused}, 0,
	},
	"certificate_bundle/delegation-escalates": {
		"nobody gives more than he has", []string{"ok", refused}, 1,
	},
	"certificate_bundle/mesh-id-not-checked": {
		"a certificate of another mesh is none here", []string{"ok", refused}, 1,
	},
	"certificate_bundle/node-id-last-writer-wins": {
		"a node id stays with the key that had it first", []string{"ok", refused}, 1,
	},
}

func TestVectorsCertificateBundle(t *testing.T) {
	type in struct {
		Steps []struct {
			Op          string
			PublicKey   hexBytes `json:"public_key_hex"`
			Certificate hexBytes `json:"certificate_hex"`
			Result      string
		}
	}
	type out struct {
		Len   int
		Nodes map[string]bool `json:"validate_node_id"`
		Peers map[string]bool `json:"validate_peer"`
	}
	seen := map[string]bool{}
	for _, v := range refusaltest.Vectors[in, out](t, "certificate_bundle") {
		t.Run(v.ID, func(t *testing.T) {
			policy := cert.Policy{MeshID: "DEADBEEF", Depth: 2, Limit: 10}
			var certificates []cert.Certificate
			var want []string
			for _, step := range v.In.Steps {
				if step.Op == "add_authority" {
					policy.Authorities = append(policy.Authorities, ed25519.PublicKey(step.PublicKey))
					continue
				}
				c, err := cert.DecodeExact(step.Certificate)
				if err != nil {
					t.Fatal(err)
				}
				certificates, want = append(certificates, c), append(want, step.Result)
			}
			trust, err := cert.NewTrust(policy)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range certificates {
				got = append(got, result(trust.Add(noon, c)))
			}
			kept := v.Out.Len
			strict, differs := stricter[v.ID]
			if differs {
				seen[v.ID] = true
				want, kept = strict.results, strict.kept
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %s", strict.why, diff)
			}
			if trust.Len() != kept {
				t.Errorf("%d certificates, want %d", trust.Len(), kept)
			}
			if differs {
				return
			}
			for id, want := range v.Out.Nodes {
				if _, err := trust.Node(noon, id); (err == nil) != want {
					t.Errorf("node %q: %v", id, err)
				}
			}
			for key, want := range v.Out.Peers {
				var raw hexBytes
				if err := raw.UnmarshalText([]byte(key)); err != nil {
					t.Fatal(err)
				}
				if _, err := trust.Peer(noon, ed25519.PublicKey(raw)); (err == nil) != want {
					t.Errorf("peer %s: %v", key, err)
				}
			}
		})
	}
	if len(seen) != len(stricter) {
		t.Errorf("only %d of the %d vectors that are to differ were there", len(seen), len(stricter))
	}
}

// result is how the vectors write an answer.
func result(err error) string {
	var e *refusal.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return string(e.Class)
	}
	return err.Error()
}

// The numbers of the keys of the tests below.
const (
	root byte = 100 + iota
	otherRoot
	stranger
)

func believing(t testing.TB, depth int) *cert.Trust {
	t.Helper()
	trust, err := cert.NewTrust(cert.Policy{
		MeshID: "A1B2C3D4", Depth: depth, Limit: 5,
		Authorities: []ed25519.PublicKey{key(root).Public().(ed25519.PublicKey), key(otherRoot).Public().(ed25519.PublicKey)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// signed returns a member's certificate with changes, signed by issuer.
func signed(t testing.TB, subject, issuer byte, changes ...func(*cert.Certificate)) cert.Certificate {
	t.Helper()
	c := member(subject)
	c.NodeID = fmt.Sprint("node-", subject)
	for _, change := range changes {
		change(&c)
	}
	c, err := c.Sign(key(issuer))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func may(p cert.Permission) func(*cert.Certificate) {
	return func(c *cert.Certificate) { c.Permissions = p }
}

func of(tier cert.Tier) func(*cert.Certificate) {
	return func(c *cert.Certificate) { c.Tier = tier }
}

func issued(at time.Time) func(*cert.Certificate) {
	return func(c *cert.Certificate) { c.IssuedAt = at }
}

func until(at time.Time) func(*cert.Certificate) {
	return func(c *cert.Certificate) { c.ExpiresAt = at }
}

func node(id string) func(*cert.Certificate) {
	return func(c *cert.Certificate) { c.NodeID = id }
}

const enroller = cert.Standard | cert.Enroll

// TestTrust adds certificates one after another; all but the last must be
// believed.
func TestTrust(t *testing.T) {
	hour := time.Hour
	for name, tc := range map[string]struct {
		depth int
		given []cert.Certificate
		last  cert.Certificate
		class refusal.Class // empty: believed
	}{
		"a member":                                    {1, nil, signed(t, 1, root), ""},
		"a member of the other authority":             {1, nil, signed(t, 1, otherRoot), ""},
		"the authority itself":                        {1, nil, signed(t, root, root, of(cert.Enterprise), may(cert.Authority), until(time.Time{})), ""},
		"the same again":                              {1, []cert.Certificate{signed(t, 1, root)}, signed(t, 1, root), ""},
		"a renewal":                                   {1, []cert.Certificate{signed(t, 1, root, issued(noon.Add(-hour)))}, signed(t, 1, root, of(cert.Edge)), ""},
		"somebody's own":                              {2, nil, signed(t, stranger, stranger, may(cert.Authority)), refusal.Certificate},
		"a stranger's member":                         {2, nil, signed(t, 1, stranger), refusal.Certificate},
		"an expired one":                              {1, nil, signed(t, 1, root, issued(noon.Add(-hour)), until(noon)), refusal.Certificate},
		"one that ends before it begins":              {1, nil, signed(t, 1, root, issued(noon.Add(2*hour)), until(noon.Add(hour))), refusal.Certificate},
		"one of another mesh":                         {1, nil, signed(t, 1, root, func(c *cert.Certificate) { c.MeshID = "FFFFFFFF" }), refusal.Certificate},
		"one of no mesh":                              {1, nil, signed(t, 1, root, func(c *cert.Certificate) { c.MeshID = "" }), refusal.Certificate},
		"one changed since":                           {1, nil, func() cert.Certificate { c := signed(t, 1, root); c.Tier = cert.Enterprise; return c }(), refusal.InvalidSignature},
		"one by whom it does not say":                 {1, nil, func() cert.Certificate { c := signed(t, 1, stranger); c.Issuer = public(root); return c }(), refusal.InvalidSignature},
		"an id of 256 bytes":                          {1, nil, func() cert.Certificate { c := signed(t, 1, root); c.NodeID = string(make([]byte, 256)); return c }(), refusal.Serialization},
		"a subject for whom anybody signs":            {1, nil, signed(t, 1, root, func(c *cert.Certificate) { c.Subject = [32]byte{1} }), refusal.InvalidPublicKey},
		"a subject that is no point":                  {1, nil, signed(t, 1, root, func(c *cert.Certificate) { c.Subject = [32]byte{2} }), refusal.InvalidPublicKey},
		"an older one":                                {1, []cert.Certificate{signed(t, 1, root)}, signed(t, 1, root, issued(noon.Add(-time.Millisecond))), refusal.Certificate},
		"another of the same time":                    {1, []cert.Certificate{signed(t, 1, root)}, signed(t, 1, root, of(cert.Edge)), refusal.Certificate},
		"another's node id":                           {1, []cert.Certificate{signed(t, 1, root)}, signed(t, 2, root, node("node-1")), refusal.Certificate},
		"another's former node id":                    {1, []cert.Certificate{signed(t, 1, root, issued(noon.Add(-hour))), signed(t, 1, root, node("new"))}, signed(t, 2, root, node("node-1")), refusal.Certificate},
		"no node id, as somebody else":                {1, []cert.Certificate{signed(t, 1, root, node(""))}, signed(t, 2, root, node("")), ""},
		"one for later":                               {1, nil, signed(t, 1, root, issued(noon.Add(hour))), ""},
		"one for later instead of one for now":        {1, []cert.Certificate{signed(t, 1, root)}, signed(t, 1, root, issued(noon.Add(hour))), refusal.Certificate},
		"one more than there is room for":             {1, []cert.Certificate{signed(t, 1, root), signed(t, 2, root), signed(t, 3, root), signed(t, 4, root), signed(t, 5, root)}, signed(t, 6, root), refusal.Certificate},
		"a delegate's member":                         {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1), ""},
		"a delegate's member, where there are none":   {1, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1), refusal.Certificate},
		"a member's member":                           {2, []cert.Certificate{signed(t, 1, root)}, signed(t, 2, 1), refusal.Certificate},
		"an administrator's member":                   {2, []cert.Certificate{signed(t, 1, root, may(cert.Admin|cert.Standard))}, signed(t, 2, 1), refusal.Certificate},
		"a delegate's member of a higher tier":        {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, of(cert.Regional)), refusal.Certificate},
		"a delegate's member of a lower tier":         {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, of(cert.Edge)), ""},
		"a delegate's member that may more":           {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, may(cert.Admin)), refusal.Certificate},
		"a delegate's member with a nameless bit":     {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, may(0x10)), refusal.Certificate},
		"a delegate's member that lives longer":       {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, until(noon.Add(24*hour+time.Millisecond))), refusal.Certificate},
		"a delegate's member that lives forever":      {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, until(time.Time{})), refusal.Certificate},
		"a delegate's member, older than itself":      {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, issued(noon.Add(-time.Millisecond))), refusal.Certificate},
		"a delegate's member for later":               {2, []cert.Certificate{signed(t, 1, root, may(enroller))}, signed(t, 2, 1, issued(noon.Add(time.Millisecond))), refusal.Certificate},
		"a delegate of tomorrow's member":             {2, []cert.Certificate{signed(t, 1, root, may(enroller), issued(noon.Add(hour)))}, signed(t, 2, 1, issued(noon.Add(hour))), refusal.Certificate},
		"a delegate of a delegate":                    {3, []cert.Certificate{signed(t, 1, root, may(enroller)), signed(t, 2, 1, may(enroller))}, signed(t, 3, 2), ""},
		"a delegate of a delegate, one too many":      {2, []cert.Certificate{signed(t, 1, root, may(enroller)), signed(t, 2, 1, may(enroller))}, signed(t, 3, 2), refusal.Certificate},
		"a delegate's word against the authority's":   {2, []cert.Certificate{signed(t, 1, root, may(enroller), issued(noon.Add(-2*hour))), signed(t, 2, root, issued(noon.Add(-hour)))}, signed(t, 2, 1, of(cert.Edge)), refusal.Certificate},
		"a delegate's word about the authority":       {2, []cert.Certificate{signed(t, root, root, issued(noon.Add(-2*hour)), until(time.Time{})), signed(t, 1, root, may(enroller), issued(noon.Add(-hour)))}, signed(t, root, 1, node("node-1x")), refusal.Certificate},
		"another authority's word about an authority": {1, []cert.Certificate{signed(t, root, root, until(time.Time{}), issued(noon.Add(-hour)))}, signed(t, root, otherRoot, until(time.Time{})), refusal.Certificate},
		"the authority's word against a delegate's":   {2, []cert.Certificate{signed(t, 1, root, may(enroller), issued(noon.Add(-2*hour))), signed(t, 2, 1, issued(noon.Add(-hour)))}, signed(t, 2, root, of(cert.Edge)), ""},
		"one that vouches for its issuer":             {3, []cert.Certificate{signed(t, 1, root, may(enroller), issued(noon.Add(-hour))), signed(t, 2, 1, may(enroller), issued(noon.Add(-hour)))}, signed(t, 1, 2, may(enroller)), refusal.Certificate},
	} {
		t.Run(name, func(t *testing.T) {
			trust := believing(t, tc.depth)
			for i, c := range tc.given {
				if err := trust.Add(noon, c); err != nil {
					t.Fatalf("certificate %d: %v", i, err)
				}
			}
			before := trust.Len()
			err := trust.Add(noon, tc.last)
			if want := result(classError(tc.class)); result(err) != want {
				t.Fatalf("%s (%v), want %s", result(err), err, want)
			}
			if err != nil && trust.Len() != before {
				t.Error("refused, and yet kept")
			}
			if got, peerErr := trust.Peer(noon.Add(2*hour), tc.last.Subject[:]); err == nil && (peerErr != nil || got != tc.last) {
				t.Errorf("and then it is not what is known of the key: %v", peerErr)
			}
		})
	}
}

func classError(c refusal.Class) error {
	if c == "" {
		return nil
	}
	return c.New("")
}
