package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// benchLists: how long a page of a list takes with many organizations. Every page of
// organizations tells what of their quotas is in use.
func benchLists(b *testing.B, t *table, env []string) {
	const orgs, formations = 2_000, 10_000
	g := startGateway(b, options{env: env})
	populate(b, g, env, orgs, formations)
	for _, c := range []struct{ name, path string }{
		{"organizations, pages of 50", "/orgs?limit=50"},
		{"organizations, pages of 200", "/orgs?limit=200"},
		{"formations of one organization of five", "/orgs/o0001/formations"},
		{"one organization", "/orgs/o0001"},
	} {
		var times []time.Duration
		for len(times) < 200 {
			for next := c.path; next != "" && len(times) < 200; {
				took, cursor := page(b, g, next)
				times = append(times, took)
				if next = ""; cursor != "" {
					next = c.path + "&cursor=" + cursor
				}
			}
		}
		slices.Sort(times)
		t.row("list: "+c.name, fmt.Sprintf("p50 %.1f ms, p95 %.1f ms", ms(times[len(times)/2]), ms(times[len(times)*95/100])),
			fmt.Sprintf("%d organizations, %d formations, %d requests", orgs, formations, len(times)))
	}
	g.kill()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// page asks for a page and returns how long it took, and where the next begins.
func page(b *testing.B, g *gateway, path string) (time.Duration, string) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, g.url+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	begin := time.Now()
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	var list struct {
		Next *string `json:"next"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || answer.StatusCode != http.StatusOK {
		b.Fatalf("%s: %d, %v", path, answer.StatusCode, err)
	}
	took := time.Since(begin)
	if list.Next == nil {
		return took, ""
	}
	return took, *list.Next
}

// populate writes organizations to a gateway that is stopped meanwhile, and their formations in equal parts, past the API:
// nothing of the formations is used but their rows.
func populate(b *testing.B, g *gateway, env []string, orgs, formations int) {
	b.Helper()
	ctx := context.Background()
	g.kill()
	s := openStore(b, g, env)
	defer func() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		g.start()
	}()
	now := store.Precise(time.Now())
	for i := range orgs {
		org := tenant.Org{ID: tenant.OrgID(fmt.Sprintf("o%04d", i)), DisplayName: "x", Quotas: tenant.DefaultQuotas(), CreatedAt: now}
		if err := s.InTx(ctx, func(tx *store.Tx) error {
			if err := tx.CreateOrg(ctx, org); err != nil {
				return err
			}
			for f := range formations / orgs {
				if err := tx.CreateFormation(ctx, tenant.Formation{Org: org.ID, App: tenant.AppID(fmt.Sprintf("f%d", f)), MeshID: "AAAAAAAA",
					Policy: tenant.Controlled, State: tenant.Active, AuthorityPublicKey: make([]byte, 32), CreatedAt: now}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}
