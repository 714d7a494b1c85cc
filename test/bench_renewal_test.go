package test

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
)

// renewable is a node's certificate, as it is told of it.
type renewable struct {
	Serial     string    `json:"serial"`
	NodeID     string    `json:"node_id"`
	RenewAfter time.Time `json:"renew_after"`
	private    ed25519.PrivateKey
}

// benchRenewals: so many nodes that an OpenID provider vouched for renew, each when it
// may, while that provider does not answer. With lives of six minutes the times spread
// over one minute, and as much more as the enrolling took.
func benchRenewals(b *testing.B, t *table, env []string) {
	const clients, nodes, life = 16, 10_000, 6 * time.Minute
	e, issuer := newEnrollBench(b, env,
		map[string]any{"id": "field", "effect": "allow", "grant": map[string]any{"tier": "tactical", "max_validity": life.String()}})

	began := time.Now()
	all := shareOut(b, clients, nodes, func(c *http.Client, n int) (renewable, error) { return e.enter(c, uint64(n)) })
	entered := time.Since(began)
	slices.SortFunc(all, func(a, b renewable) int { return a.RenewAfter.Compare(b.RenewAfter) })

	issuer.Down()
	asked := issuer.Asked(identitytest.Discovery) + issuer.Asked(identitytest.Keys)
	first, last := all[0].RenewAfter, all[nodes-1].RenewAfter
	late := shareOut(b, clients, nodes, func(c *http.Client, n int) (time.Duration, error) {
		time.Sleep(time.Until(all[n].RenewAfter) + time.Millisecond)
		err := e.renew(c, all[n])
		return time.Since(all[n].RenewAfter), err
	})
	slices.Sort(late)
	t.row("nodes that renewed, their provider down", fmt.Sprint(nodes), fmt.Sprintf("due within %s, all done %s after the first was due; enrolled in %s",
		last.Sub(first).Round(time.Second/10), time.Since(first).Round(time.Second/10), entered.Round(time.Second/10)))
	t.row("renewal, from when it may be", "p50 "+share(late, 50).String(), "p99 "+share(late, 99).String())
	t.row("calls to the provider meanwhile", fmt.Sprint(issuer.Asked(identitytest.Discovery)+issuer.Asked(identitytest.Keys)-asked), "")
}

// shareOut has clients do n things between them, in order, and returns what came of each.
func shareOut[T any](b *testing.B, clients, n int, do func(c *http.Client, n int) (T, error)) []T {
	b.Helper()
	out := make([]T, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
			defer c.CloseIdleConnections()
			for i := range next {
				var err error
				if out[i], err = do(c, i); err != nil {
					b.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return out
}

// enter enrolls the nth node.
func (e *enrollBench) enter(c *http.Client, n uint64) (renewable, error) {
	var challenge struct{ Nonce string }
	if err := postTo(c, e.g.url+"/orgs/acme/formations/logistics/enroll/challenge", nil, &challenge); err != nil {
		return renewable{}, err
	}
	var seed [ed25519.SeedSize]byte
	binary.LittleEndian.PutUint64(seed[:], n+1)
	out := renewable{private: ed25519.NewKeyFromSeed(seed[:])}
	p := e.possession(out.private, fmt.Sprintf("node-%d", n))
	p.Purpose, p.Nonce = authority.ForEnroll, challenge.Nonce
	err := postTo(c, e.g.url+"/orgs/acme/formations/logistics/enroll", map[string]any{
		"identity": map[string]any{"token": e.tokens[n%uint64(len(e.tokens))]}, "challenge": challenge.Nonce,
		"public_key": hex.EncodeToString(p.Subject), "node_id": p.NodeID, "proof": signedProof(out.private, p),
	}, &out)
	return out, err
}

// renew renews a node's certificate.
func (e *enrollBench) renew(c *http.Client, r renewable) error {
	p := e.possession(r.private, r.NodeID)
	p.Purpose, p.Serial = authority.ForRenewal, r.Serial
	return postTo(c, e.g.url+"/orgs/acme/formations/logistics/certificates/"+r.Serial+"/renew", map[string]any{"proof": signedProof(r.private, p)}, nil)
}

func (e *enrollBench) possession(private ed25519.PrivateKey, node string) authority.Possession {
	return authority.Possession{
		Key: e.key, MeshID: e.mesh, NodeID: node, Subject: private.Public().(ed25519.PublicKey), At: time.Now().UTC().Truncate(time.Millisecond),
	}
}

func signedProof(private ed25519.PrivateKey, p authority.Possession) map[string]any {
	return map[string]any{"timestamp_ms": p.At.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(private, p.Message()))}
}

func postTo(c *http.Client, url string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	resp, err := c.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode/100 != 2 {
		return fmt.Errorf("%d %s: %w", resp.StatusCode, answer, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}
