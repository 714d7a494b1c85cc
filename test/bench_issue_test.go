package test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/platform/sqldb"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// benchIssue: how many certificates a second 16 clients get for one formation, each
// with a proof, a signature, its audit entry and its event, and on the disk when the
// answer comes; with few audit entries and with many. PEAT_BENCH_AUDIT says how
// many these are.
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
	var formation struct {
		MeshID string `json:"mesh_id"`
	}
	g.do("POST", "/orgs/acme/formations", map[string]any{"app_id": "issue"}, &formation, 201)

	var made atomic.Uint64 // nodes, over all runs
	run := func(length time.Duration) (rate float64, p50, p99 time.Duration) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		begin := time.Now()
		for range clients {
			wg.Go(func() {
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
				var mine []time.Duration
				for time.Since(begin) < length {
					body := issueOrder(formation.MeshID, made.Add(1))
					at := time.Now()
					if err := postIssue(client, g.url+"/orgs/acme/formations/issue/certificates", body); err != nil {
						b.Error(err)
						return
					}
					mine = append(mine, time.Since(at))
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
		return float64(len(took)) / passed.Seconds(), took[len(took)/2], took[len(took)*99/100]
	}
	run(2 * time.Second) // statements are prepared, the file has grown
	var first float64
	for _, entries := range []int{few, many} {
		fillAudit(b, g, env, entries)
		run(time.Second)
		before, issued := cpuOf(g.cmd.Process.Pid), made.Load()
		rate, p50, p99 := run(8 * time.Second)
		if spent := cpuOf(g.cmd.Process.Pid) - before; spent > 0 {
			t.row("the gateway's CPU for a certificate", (spent / time.Duration(made.Load()-issued)).String(), "")
		}
		note := fmt.Sprintf("%d clients, one formation, after %d audit entries; p50 %s, p99 %s", clients, entries, p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond))
		t.row("certificates issued", fmt.Sprintf("%.0f/s", rate), note)
		if first == 0 {
			first = rate
		} else {
			t.row("issue, few entries to many", fmt.Sprintf("%.2f×", first/rate), "")
		}
	}
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

// issueOrder is an order of the nth node, with its proof.
func issueOrder(meshID string, n uint64) []byte {
	var seed [ed25519.SeedSize]byte
	binary.LittleEndian.PutUint64(seed[:], n)
	private := ed25519.NewKeyFromSeed(seed[:])
	public := private.Public().(ed25519.PublicKey)
	p := authority.Possession{
		Purpose: authority.ForIssue, Key: tenant.Key{Org: "acme", App: "issue"}, MeshID: meshID, NodeID: fmt.Sprintf("node-%d", n),
		Subject: public, At: time.Now().UTC().Truncate(time.Millisecond),
	}
	body, err := json.Marshal(map[string]any{
		"public_key": hex.EncodeToString(public), "node_id": p.NodeID,
		"proof": map[string]any{"timestamp_ms": p.At.UnixMilli(), "signature": hex.EncodeToString(ed25519.Sign(private, p.Message()))},
	})
	if err != nil {
		panic(err) // strings and a number
	}
	return body
}

func postIssue(client *http.Client, url string, body []byte) error {
	req, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%d %s", resp.StatusCode, answer)
	}
	return err
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
