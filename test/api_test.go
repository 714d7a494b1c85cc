package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// call makes a request with the admin token. It returns the status and decodes
// the body into out unless that is nil. A connection that fails is status 0.
func (g *gateway) call(method, path string, in, out any) (int, string) {
	g.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			g.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.url+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	if out != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(b, out); err != nil {
			g.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return resp.StatusCode, string(b)
}

// Connections to a process that is killed are worth nothing afterwards.
var client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// do is call, and fails the test unless the status is the wanted one.
func (g *gateway) do(method, path string, in, out any, want int) {
	g.t.Helper()
	if got, body := g.call(method, path, in, out); got != want {
		g.t.Fatalf("%s %s: status %d, want %d: %s", method, path, got, want, body)
	}
}

// formation makes an organization with one formation and returns its path.
func (g *gateway) formation(org, app string) string {
	g.t.Helper()
	if status, body := g.call("POST", "/orgs", map[string]any{"org_id": org, "display_name": strings.ToUpper(org)}, nil); status != 201 && status != 409 {
		g.t.Fatalf("organization: status %d: %s", status, body)
	}
	g.do("POST", "/orgs/"+org+"/formations", map[string]any{"app_id": app, "enrollment_policy": "controlled"}, nil, 201)
	return "/orgs/" + org + "/formations/" + app
}

type ticket struct {
	ID        string    `json:"ticket_id"`
	Ticket    string    `json:"ticket"`
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// ticket makes a sync ticket; in may name a peer or a life time.
func (g *gateway) ticket(formation string, in map[string]any) ticket {
	g.t.Helper()
	if in == nil {
		in = map[string]any{}
	}
	var out ticket
	g.do("POST", formation+"/sync-tickets", in, &out, 201)
	if out.ID == "" || out.Ticket == "" || !strings.HasPrefix(out.URL, "ws") || !out.ExpiresAt.After(time.Now()) {
		g.t.Fatalf("a ticket with something missing: id %q, url %q, expires %s", out.ID, out.URL, out.ExpiresAt)
	}
	return out
}

type sink struct {
	ID     string `json:"sink_id"`
	Kind   string `json:"kind"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Secret string `json:"secret"`
	Lag    struct {
		Events  int64   `json:"events"`
		Seconds float64 `json:"seconds"`
	} `json:"lag"`
}

// sink makes a sink that delivers both forms of every change from the beginning.
func (g *gateway) sink(formation, kind string, config map[string]any) sink {
	g.t.Helper()
	var out sink
	g.do("POST", formation+"/cdc/sinks", map[string]any{
		"kind": kind, "config": config, "format": "both", "start": "beginning",
	}, &out, 201)
	return out
}

type deadLetter struct {
	ID        string `json:"id"`
	Document  string `json:"document_id"`
	Seq       uint64 `json:"seq"`
	Hash      string `json:"change_hash"`
	Attempts  int    `json:"attempts"`
	LastError string `json:"last_error"`
	Waiting   int    `json:"waiting"`
}

func (g *gateway) deadLetters(formation, sink string) []deadLetter {
	g.t.Helper()
	var all []deadLetter
	path := fmt.Sprintf("%s/cdc/sinks/%s/dead-letters", formation, sink)
	next := path
	for next != "" {
		var page struct {
			Items []deadLetter `json:"items"`
			Next  *string      `json:"next"`
		}
		g.do("GET", next, nil, &page, 200)
		all = append(all, page.Items...)
		next = ""
		if page.Next != nil {
			next = path + "?cursor=" + *page.Next
		}
	}
	return all
}

// lags says how far each sink of a formation is behind, for messages of failure.
func (g *gateway) lags(t testing.TB, formation string) string {
	t.Helper()
	status, body := g.call("GET", formation+"/cdc/sinks", nil, nil)
	return fmt.Sprintf("%d %s", status, body)
}
