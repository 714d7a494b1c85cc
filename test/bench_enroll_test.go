package test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/identity/identitytest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// enrollBench is a formation whose nodes an OpenID provider vouches for.
type enrollBench struct {
	b      *testing.B
	g      *gateway
	key    tenant.Key
	mesh   string
	tokens []string // of so many people
	made   uint64
}

// newEnrollBench starts a gateway with such a formation, and such rules of policy.
func newEnrollBench(b *testing.B, env []string, rules ...any) (*enrollBench, *identitytest.Issuer) {
	b.Helper()
	issuer := identitytest.NewIssuer(b)
	issuer.Pass(time.Since(issuer.Now()))
	g := startGateway(b, options{env: append(env, "PEAT_IDENTITY_ALLOW=127.0.0.0/8", "PEAT_ENROLL_PER_ADDRESS=0", "PEAT_ENROLL_PER_SUBJECT=0", "PEAT_ENROLL_PER_ORG=0")})
	g.roomy("acme")
	var formation struct {
		MeshID string `json:"mesh_id"`
	}
	g.do("POST", "/orgs/acme/formations", map[string]any{"app_id": "logistics"}, &formation, 201)
	g.do("POST", "/orgs/acme/identity-providers", map[string]any{"kind": "oidc", "label": "bench", "config": map[string]any{
		"issuer": issuer.URL, "audiences": []string{identitytest.Audience}, "tls": map[string]any{"ca_pem": issuer.CA},
	}}, nil, 201)
	g.do("PUT", "/orgs/acme/policy", map[string]any{"rules": rules}, nil, 200)
	e := &enrollBench{b: b, g: g, key: tenant.Key{Org: "acme", App: "logistics"}, mesh: formation.MeshID}
	for i := range 100 {
		e.tokens = append(e.tokens, issuer.Token(map[string]any{"sub": fmt.Sprint("device-", i), "exp": time.Now().Add(time.Hour).Unix()}))
	}
	return e, issuer
}

// benchEnroll: how many nodes a second are let in by a JWT, each with a challenge that
// is answered, the policy asked, the sealed keys opened, the certificate and the
// formation's credentials, audited, and on the disk when the answer comes; and how long
// it takes at half that rate.
func benchEnroll(b *testing.B, t *table, env []string) {
	const clients = 16
	e, _ := newEnrollBench(b, env,
		map[string]any{"id": "blocked", "effect": "deny", "when": `"blocked" in claims.groups`},
		map[string]any{"id": "field", "effect": "allow", "when": `"/field" in claims.groups`, "grant": map[string]any{"tier": "tactical", "credentials": true}})
	e.run(clients, time.Second, 0)
	analyze(b, env)
	rate, took := e.run(clients, 8*time.Second, 0)
	t.row("nodes enrolled by a JWT", fmt.Sprintf("%.0f/s", rate), fmt.Sprintf("%d clients, one formation; p50 %s, p99 %s", clients, share(took, 50), share(took, 99)))
	_, took = e.run(clients, 8*time.Second, rate/2)
	t.row("the same at half that rate", "p99 "+share(took, 99).String(), "p50 "+share(took, 50).String())
}

// analyze has a Postgres look at its tables: one that is a minute old has no statistics
// yet, and goes through a formation's nodes for each.
func analyze(b *testing.B, env []string) {
	b.Helper()
	for _, e := range env {
		url, ok := strings.CutPrefix(e, "PEAT_DATABASE_URL=")
		if !ok {
			continue
		}
		db, err := sqldb.Open(b.Context(), url)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := db.Reader().Exec(`ANALYZE`); err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func share(took []time.Duration, percent int) time.Duration {
	return took[len(took)*percent/100].Round(10 * time.Microsecond)
}

// run has clients enroll nodes for a while, as fast as they can or at a rate together.
func (e *enrollBench) run(clients int, length time.Duration, rate float64) (float64, []time.Duration) {
	e.b.Helper()
	each := int(length.Seconds()*3_000) / clients
	if rate > 0 {
		each = int(rate*length.Seconds()) / clients
	}
	orders := make([][][]byte, clients)
	var wg sync.WaitGroup
	for i := range orders {
		first := e.made
		e.made += uint64(each)
		wg.Go(func() {
			for j := range each {
				orders[i] = append(orders[i], e.order(first+uint64(j)))
			}
		})
	}
	wg.Wait()
	var mu sync.Mutex
	var took []time.Duration
	begin := time.Now()
	for i := range orders {
		wg.Go(func() {
			var mine []time.Duration
			var err error
			if rate == 0 {
				mine, err = postOrders(e.g.url, orders[i], begin.Add(length))
			} else {
				mine, err = postPaced(e.g.url, orders[i], begin, time.Duration(float64(clients)/rate*float64(time.Second)))
			}
			if err != nil {
				e.b.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	passed := time.Since(begin)
	slices.Sort(took)
	if len(took) == 0 {
		e.b.Fatal("nobody was enrolled")
	}
	return float64(len(took)) / passed.Seconds(), took
}

// postPaced is postOrders at a pace. What a request waits for those before it counts.
func postPaced(base string, requests [][]byte, begin time.Time, pace time.Duration) (took []time.Duration, err error) {
	for i, request := range requests {
		due := begin.Add(time.Duration(i) * pace)
		time.Sleep(time.Until(due))
		if _, err := postOrders(base, [][]byte{request}, time.Now().Add(time.Hour)); err != nil {
			return took, err
		}
		took = append(took, time.Since(due))
	}
	return took, nil
}

// order is the request of the nth node, with a challenge that it answers.
func (e *enrollBench) order(n uint64) []byte {
	resp, err := http.Post(e.g.url+"/orgs/acme/formations/logistics/enroll/challenge", "", nil)
	if err != nil {
		e.b.Error(err)
		return nil
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	var challenge struct{ Nonce string }
	if err != nil || json.Unmarshal(text, &challenge) != nil {
		e.b.Errorf("%s %v", text, err)
	}
	var seed [ed25519.SeedSize]byte
	binary.LittleEndian.PutUint64(seed[:], n+1)
	private := ed25519.NewKeyFromSeed(seed[:])
	p := authority.Possession{
		Purpose: authority.ForEnroll, Key: e.key, MeshID: e.mesh, NodeID: fmt.Sprintf("node-%d", n), Subject: private.Public().(ed25519.PublicKey),
		Nonce: challenge.Nonce, At: time.Now().UTC().Truncate(time.Millisecond),
	}
	body, err := json.Marshal(map[string]any{
		"identity": map[string]any{"token": e.tokens[n%uint64(len(e.tokens))]}, "challenge": challenge.Nonce, "public_key": hex.EncodeToString(p.Subject), "node_id": p.NodeID,
		"proof": map[string]any{"timestamp_ms": p.At.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(private, p.Message()))},
	})
	if err != nil {
		panic(err) // strings and a number
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "POST /orgs/acme/formations/logistics/enroll HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		strings.TrimPrefix(e.g.url, "http://"), len(body), body)
	return out.Bytes()
}
