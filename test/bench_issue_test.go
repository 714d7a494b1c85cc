package test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// benchIssue: how many certificates a second 16 clients get for one formation, each
// with a proof, a signature, its audit entry and its event, and on the disk when the
// answer comes; with few audit entries and with many. PEAT_BENCH_AUDIT says how
// many these are. Then the same for as many formations as clients.
//
// The clients have the same processors. So they make their orders beforehand, and
// speak no more HTTP than they must.
func benchIssue(b *testing.B, t *table, env []string) {
	const clients, few = 16, 1_000
	many := 100_000
	if s := os.Getenv("PEAT_BENCH_AUDIT"); s != "" {
		var err error
		if many, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	g := startGateway(b, options{env: env})
	g.roomy("acme")
	formations := make([]tenant.Key, clients)
	meshes := make([]string, clients)
	for i := range formations {
		var formation struct {
			MeshID string `json:"mesh_id"`
		}
		formations[i] = tenant.Key{Org: "acme", App: tenant.AppID(fmt.Sprintf("issue%d", i))}
		g.do("POST", "/orgs/acme/formations", map[string]any{"app_id": formations[i].App}, &formation, 201)
		meshes[i] = formation.MeshID
	}

	var made uint64 // nodes, over all runs
	type result struct {
		rate             float64
		p50, p99         time.Duration
		gateway, clients time.Duration // of the processors, each
	}
	run := func(length time.Duration, among int) result {
		orders := make([][][]byte, clients)
		for i := range orders {
			// More than can be issued in the time.
			orders[i] = make([][]byte, int(length.Seconds()*4_000)/clients)
			for j := range orders[i] {
				made++
				orders[i][j] = issueOrder(g.url, formations[i%among], meshes[i%among], made)
			}
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		served, asked := cpuOf(g.cmd.Process.Pid), cpuOf(os.Getpid())
		begin := time.Now()
		for i := range clients {
			wg.Go(func() {
				mine, err := postOrders(g.url, orders[i], begin.Add(length))
				if err != nil {
					b.Error(err)
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
			b.Fatal("no certificate was issued")
		}
		n := time.Duration(len(took))
		return result{float64(n) / passed.Seconds(), took[n/2], took[n*99/100], (cpuOf(g.cmd.Process.Pid) - served) / n, (cpuOf(os.Getpid()) - asked) / n}
	}
	measure := func(among int, note string) float64 {
		run(time.Second, among) // statements are prepared, the file has grown
		r := run(8*time.Second, among)
		if r.gateway > 0 {
			t.row("CPU for a certificate: the gateway, the client", fmt.Sprintf("%s, %s", r.gateway.Round(time.Microsecond), r.clients.Round(time.Microsecond)), "")
		}
		t.row("certificates issued", fmt.Sprintf("%.0f/s", r.rate),
			fmt.Sprintf("%d clients, %s; p50 %s, p99 %s", clients, note, r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond)))
		return r.rate
	}
	run(2*time.Second, clients)
	var first float64
	for _, entries := range []int{few, many} {
		fillAudit(b, g, env, entries)
		rate := measure(1, fmt.Sprintf("one formation, after %d audit entries", entries))
		if first == 0 {
			first = rate
		} else {
			t.row("issue, few entries to many", fmt.Sprintf("%.2f×", first/rate), "")
		}
	}
	measure(clients, "a formation each")
}

// cpuOf is what a process has had of the processors, where that can be known.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // a name may hold spaces
	fields := strings.Fields(rest)
	var ticks int
	for _, i := range []int{11, 12} { // of user and system
		if len(fields) > i {
			n, _ := strconv.Atoi(fields[i])
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// issueOrder is the request of the nth node's order, with its proof.
func issueOrder(base string, key tenant.Key, meshID string, n uint64) []byte {
	var seed [ed25519.SeedSize]byte
	binary.LittleEndian.PutUint64(seed[:], n)
	private := ed25519.NewKeyFromSeed(seed[:])
	public := private.Public().(ed25519.PublicKey)
	p := authority.Possession{
		Purpose: authority.ForIssue, Key: key, MeshID: meshID, NodeID: fmt.Sprintf("node-%d", n),
		Subject: public, At: time.Now().UTC().Truncate(time.Millisecond),
	}
	body, err := json.Marshal(map[string]any{
		"public_key": hex.EncodeToString(public), "node_id": p.NodeID,
		"proof": map[string]any{"timestamp_ms": p.At.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(private, p.Message()))},
	})
	if err != nil {
		panic(err) // strings and a number
	}
	return fmt.Appendf(nil, "POST /orgs/%s/formations/%s/certificates HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		key.Org, key.App, strings.TrimPrefix(base, "http://"), adminToken, len(body), body)
}

// postOrders sends one request after the other until a time, and returns how long each took.
func postOrders(base string, requests [][]byte, until time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	took := make([]time.Duration, 0, len(requests))
	for _, request := range requests {
		begin := time.Now()
		if begin.After(until) {
			break
		}
		if _, err := conn.Write(request); err != nil {
			return took, err
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return took, err
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusCreated {
			err = fmt.Errorf("%d %s", resp.StatusCode, answer)
		}
		if err != nil {
			return took, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

// fillAudit has the organization's audit trail be that long, without the acts.
// Entries that wait to be linked have the number 0; these never do.
func fillAudit(b *testing.B, g *gateway, env []string, entries int) {
	b.Helper()
	g.kill()
	url := "sqlite:" + filepath.Join(g.dir, "gateway.db")
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PEAT_DATABASE_URL="); ok {
			url = v
		}
	}
	db, err := sqldb.Open(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	var have int
	if err := db.Reader().QueryRow(`SELECT count(*) FROM audit WHERE org_id = 'acme'`).Scan(&have); err != nil {
		b.Fatal(err)
	}
	const batch = 200_000
	for from := have; from < entries; from += batch {
		if err := db.InTx(b.Context(), func(tx *sql.Tx) error {
			return fillAuditBatch(b.Context(), tx, db.Engine, from, min(from+batch, entries))
		}); err != nil {
			b.Fatal(err)
		}
	}
	// What a bulk load leaves for later is no part of what an order costs; nor is that a
	// database which is a minute old has no statistics yet, by which it would find a key
	// among 15,000 in 6 ms instead of none.
	if db.Engine == sqldb.Postgres && have < entries {
		for _, statement := range []string{`VACUUM ANALYZE`, `CHECKPOINT`} {
			if _, err := db.Reader().Exec(statement); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	g.start()
}

func fillAuditBatch(ctx context.Context, tx *sql.Tx, engine sqldb.Engine, from, to int) error {
	numbers, id := `generate_series($1::bigint, $2::bigint) AS s (n)`, `'01A' || lpad(n::text, 23, '0')`
	seq := `SELECT count(*) FROM information_schema.columns WHERE table_name = 'audit' AND column_name = 'seq'`
	if engine == sqldb.SQLite {
		numbers, id = `(WITH RECURSIVE s (n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM s WHERE n < $2) SELECT n FROM s)`, `'01A' || printf('%023d', n)`
		seq = `SELECT count(*) FROM pragma_table_info('audit') WHERE name = 'seq'`
	}
	var linked int
	if err := tx.QueryRowContext(ctx, seq).Scan(&linked); err != nil {
		return err
	}
	columns, values := "", ""
	if linked > 0 {
		columns, values = ", seq", ", -1"
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO audit (org_id, audit_id, at, actor, action, target, request_id, detail`+columns+`)
		SELECT 'acme', `+id+`, 1700000000000000 + n, 'bench', 'bench.filled', 'nothing', 'none',
			'{"node_id":"node-0","public_key":"0000000000000000000000000000000000000000000000000000000000000000","tier":"edge","rule":"bench"}'`+values+`
		FROM `+numbers, from+1, to)
	return err
}
