package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 123_456_000, time.UTC)

// testKey is a key of 32 equal bytes.
func testKey(t testing.TB, b byte) audit.Key {
	t.Helper()
	k, err := audit.ParseKey(strings.Repeat(fmt.Sprintf("%02x", b), 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// chain is n linked entries of an organization.
func chain(t testing.TB, org tenant.OrgID, n int) []audit.Entry {
	t.Helper()
	var out []audit.Entry
	var prev audit.Hash
	for i := range n {
		act := audit.Act{
			Org: org, At: now.Add(time.Duration(i) * time.Second), Actor: "ann", Action: "sink.change", Target: fmt.Sprintf("sink-%d", i),
			RequestID: "r-1", Detail: map[string]any{"before": map[string]any{"name": "<é>"}, "n": i},
		}
		act, detail, err := act.Clean()
		if err != nil {
			t.Fatal(err)
		}
		e := audit.Entry{Org: act.Org, ID: fmt.Sprintf("id-%d", i), At: act.At, Actor: act.Actor, Action: act.Action, Target: act.Target,
			RequestID: act.RequestID, Detail: detail}.Link(uint64(i)+1, prev)
		prev = e.Hash
		out = append(out, e)
	}
	return out
}

// export writes entries with a head after every third.
func export(t testing.TB, key audit.Key, entries []audit.Entry) []byte {
	t.Helper()
	var b, body bytes.Buffer
	c := audit.Contents{Org: entries[0].Org, From: entries[0].Seq, Prev: entries[0].Prev, At: now}
	for _, e := range entries {
		if err := audit.WriteEntry(&body, e); err != nil {
			t.Fatal(err)
		}
		c.To, c.Hash = e.Seq, e.Hash
		if e.Seq%3 == 0 {
			c.Heads++
			if err := audit.WriteHead(&body, key.Head(e.Org, e.Seq, e.Hash, now)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := audit.WriteContents(&b, key.Contents(c)); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), body.Bytes()...)
}

// kinds are what is found wrong, once each.
func kinds(t testing.TB, data []byte, terms audit.Terms) string {
	t.Helper()
	terms.MaxFindings = 100
	r, err := audit.Verify(bytes.NewReader(data), terms)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, k := range audit.FindingKinds() {
		if r.Count[k] > 0 {
			out = append(out, string(k))
		}
	}
	return strings.Join(out, " ")
}

// TestBytes holds the formats still: an export of today is checked by every later release.
func TestBytes(t *testing.T) {
	key := testKey(t, 7)
	goldentest.Check(t, "testdata/export.ndjson", export(t, key, chain(t, "acme", 4)))
}

func TestVerifyFinds(t *testing.T) {
	key, other := testKey(t, 7), testKey(t, 8)
	entries := chain(t, "acme", 9)
	whole := export(t, key, entries)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1] // what follows the last line's end
	without := func(drop ...int) []byte {
		var out []byte
		for i, l := range lines {
			keep := true
			for _, d := range drop {
				keep = keep && i != d
			}
			if keep {
				out = append(out, l...)
			}
		}
		return out
	}
	replaced := func(i int, line []byte) []byte {
		out := append([][]byte{}, lines...)
		out[i] = line
		return bytes.Join(out, nil)
	}
	line := func(write func(*bytes.Buffer) error) []byte {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	changed := entries[4]
	changed.Actor = "bob"
	relinked := changed.Link(changed.Seq, changed.Prev)
	foreign := chain(t, "rival", 9)
	for name, tc := range map[string]struct {
		data  []byte
		terms audit.Terms
		want  string
	}{
		"nothing":                       {whole, audit.Terms{}, ""},
		"nothing, with the key":         {whole, audit.Terms{Keys: []audit.PublicKey{other.Public(), key.Public()}, Org: "acme"}, ""},
		"nothing, with a known head":    {whole, audit.Terms{Known: map[uint64]audit.Hash{3: entries[2].Hash}}, ""},
		"nothing, from the middle":      {export(t, key, entries[3:]), audit.Terms{Known: map[uint64]audit.Hash{3: entries[2].Hash, 1: {}}}, ""},
		"another gateway's":             {export(t, other, entries), audit.Terms{Keys: []audit.PublicKey{key.Public()}}, "forged"},
		"another organization's":        {whole, audit.Terms{Org: "rival"}, "foreign"},
		"an entry changed":              {replaced(6, line(func(b *bytes.Buffer) error { return audit.WriteEntry(b, changed) })), audit.Terms{}, "altered"},
		"an entry changed and hashed":   {replaced(6, line(func(b *bytes.Buffer) error { return audit.WriteEntry(b, relinked) })), audit.Terms{}, "altered"},
		"an entry of another":           {replaced(6, line(func(b *bytes.Buffer) error { return audit.WriteEntry(b, foreign[4]) })), audit.Terms{}, "gap foreign"},
		"an entry taken out":            {without(6), audit.Terms{}, "gap"},
		"two entries taken out":         {without(5, 6), audit.Terms{}, "gap"},
		"a head taken out":              {without(4), audit.Terms{}, "gap"},
		"the contents taken out":        {without(0), audit.Terms{}, "truncated"},
		"the first entry taken out":     {without(1), audit.Terms{}, "gap"},
		"the last entry taken out":      {without(len(lines)-2, len(lines)-1), audit.Terms{}, "gap truncated"},
		"the end of the last line":      {whole[:len(whole)-1], audit.Terms{}, "gap truncated"},
		"everything":                    {nil, audit.Terms{}, "truncated"},
		"two lines exchanged":           {bytes.Join([][]byte{without(5, 6, 7, 8, 9, 10, 11, 12), lines[6], lines[5], without(0, 1, 2, 3, 4, 5, 6)}, nil), audit.Terms{}, "reordered"},
		"a line twice":                  {append(bytes.Clone(whole), lines[5]...), audit.Terms{}, "reordered"},
		"a head twice":                  {append(bytes.Clone(whole), lines[len(lines)-1]...), audit.Terms{}, "reordered"},
		"the contents twice":            {append(bytes.Clone(whole), lines[0]...), audit.Terms{}, "reordered"},
		"a head of another key":         {replaced(4, line(func(b *bytes.Buffer) error { return audit.WriteHead(b, other.Head("acme", 3, entries[2].Hash, now)) })), audit.Terms{Keys: []audit.PublicKey{key.Public()}}, "forged"},
		"a head of another hash":        {replaced(4, line(func(b *bytes.Buffer) error { return audit.WriteHead(b, key.Head("acme", 3, entries[1].Hash, now)) })), audit.Terms{}, "altered"},
		"a head of another place":       {replaced(4, line(func(b *bytes.Buffer) error { return audit.WriteHead(b, key.Head("acme", 2, entries[1].Hash, now)) })), audit.Terms{}, "reordered"},
		"a head of another":             {replaced(4, line(func(b *bytes.Buffer) error { return audit.WriteHead(b, key.Head("rival", 3, entries[2].Hash, now)) })), audit.Terms{}, "foreign"},
		"a signature of something else": {bytes.Replace(whole, []byte(`"type":"head","org_id":"acme","seq":3`), []byte(`"type":"head","org_id":"acme","seq":2`), 1), audit.Terms{}, "forged"},
		"another chain than was known":  {whole, audit.Terms{Known: map[uint64]audit.Hash{3: entries[1].Hash}}, "rewritten"},
		"known before it begins":        {export(t, key, entries[3:]), audit.Terms{Known: map[uint64]audit.Hash{3: entries[1].Hash}}, "rewritten"},
		"known after it ends":           {whole, audit.Terms{Known: map[uint64]audit.Hash{10: {}}}, "rewritten"},
		"a blank in a line":             {bytes.Replace(whole, []byte(`"seq":3`), []byte(`"seq": 3`), 1), audit.Terms{}, "malformed gap reordered"},
		"a field more":                  {bytes.Replace(whole, []byte(`"seq":3`), []byte(`"x":1,"seq":3`), 1), audit.Terms{}, "malformed gap reordered"},
		"another spelling of the time":  {bytes.Replace(whole, []byte(`123456Z","actor"`), []byte(`123456+00:00","actor"`), 1), audit.Terms{}, "malformed gap"},
		"finer time than is kept":       {bytes.Replace(whole, []byte(`123456Z","actor"`), []byte(`123456001Z","actor"`), 1), audit.Terms{}, "malformed gap"},
		"a line too long":               {append(append(bytes.Clone(whole), bytes.Repeat([]byte("x"), 2<<20)...), '\n'), audit.Terms{}, "malformed"},
		"no export":                     {[]byte("{}\n"), audit.Terms{}, "malformed truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := kinds(t, tc.data, tc.terms); got != tc.want {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

func TestReportSaysWhatThereIs(t *testing.T) {
	key := testKey(t, 7)
	entries := chain(t, "acme", 9)
	got, err := audit.Verify(bytes.NewReader(export(t, key, entries[3:])), audit.Terms{Keys: []audit.PublicKey{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	want := audit.Report{
		Org: "acme", From: 4, To: 9, Hash: entries[8].Hash, SignedAt: now, Entries: 6, Heads: 2, Keys: []audit.PublicKey{key.Public()}, Trusted: true,
		Count: map[audit.FindingKind]int{}, Begins: entries[3].At, Ends: entries[8].At, Forebears: 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestDomains: a signature of one thing must not pass as one of another.
func TestDomains(t *testing.T) {
	key := testKey(t, 7)
	h := key.Head("acme", 1, audit.Hash{1}, now)
	c := key.Contents(audit.Contents{Org: "acme", From: 1, To: 1, Hash: audit.Hash{1}, At: now})
	h.Signature, c.Signature = c.Signature, h.Signature
	if h.Genuine() || c.Genuine() {
		t.Error("a head passes as contents, or the reverse")
	}
}

func TestClean(t *testing.T) {
	type config struct {
		URL    string `json:"url"`
		Secret string `json:"client_secret"`
		Max    int    `json:"max_tokens"`
	}
	for name, tc := range map[string]struct {
		detail map[string]any
		want   string
	}{
		"nothing":             {nil, `{}`},
		"a password":          {map[string]any{"password": "x"}, `{"password":"[redacted]"}`},
		"no password":         {map[string]any{"password": ""}, `{"password":""}`},
		"a secret in a depth": {map[string]any{"after": []any{map[string]any{"access_token": "x"}}}, `{"after":[{"access_token":"[redacted]"}]}`},
		"secrets in a list":   {map[string]any{"tokens": []string{"a", "b"}}, `{"tokens":["[redacted]","[redacted]"]}`},
		"a struct":            {map[string]any{"after": config{"https://u:p@h/x?sig=1#f", "x", 5}}, `{"after":{"client_secret":"[redacted]","max_tokens":5,"url":"https://redacted@h/x?redacted"}}`},
		"a plain URL":         {map[string]any{"url": "https://h/x"}, `{"url":"https://h/x"}`},
		"no URL after all":    {map[string]any{"url": "https://h\x7f/?a=b"}, `{"url":"[redacted]"}`},
		"ids are no secrets":  {map[string]any{"token_id": "t", "key_id": "k", "authority_public_key": "p"}, `{"authority_public_key":"p","key_id":"k","token_id":"t"}`},
		"large numbers":       {map[string]any{"position": uint64(1<<63 + 1)}, `{"position":9223372036854775809}`},
		"what no text holds":  {map[string]any{"name": "a\x00b"}, `{"name":"a` + "\uFFFD" + `b"}`},
		"too much":            {map[string]any{"list": strings.Split(strings.Repeat("a ", 200_000), " ")}, ``},
	} {
		t.Run(name, func(t *testing.T) {
			act, got, err := audit.Act{Actor: "a\xff", Detail: tc.detail}.Clean()
			if err != nil {
				t.Fatal(err)
			}
			if act.Org != audit.Gateway || act.Actor != "a\uFFFD" {
				t.Errorf("%+v", act)
			}
			if !json.Valid(got) || len(got) > 300<<10 {
				t.Errorf("%d bytes", len(got))
			}
			if tc.want != "" && string(got) != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if tc.want == "" && !strings.HasPrefix(string(got), `{"omitted":`) {
				t.Errorf("%.80s", got)
			}
		})
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	k := testKey(t, 0xab)
	text, _ := json.Marshal(map[string]any{"k": k})
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %x %s %d", k, k, k, k, k), fmt.Sprintf("%+v", struct{ k audit.Key }{k}), string(text)} {
		if strings.Contains(s, "abab") || strings.Contains(s, "171 171") {
			t.Errorf("%q", s)
		}
	}
	for _, s := range []string{"", "00", strings.Repeat("0", 64), strings.Repeat("x", 64), strings.Repeat("ab", 33)} {
		if _, err := audit.ParseKey(s); err == nil {
			t.Errorf("%q was read", s)
		} else if s != "" && len(s) > 4 && strings.Contains(err.Error(), s[:4]) {
			t.Errorf("%v quotes it", err)
		}
	}
}

func TestKeysThatWereReplaced(t *testing.T) {
	old, other := testKey(t, 1), testKey(t, 3)
	k, err := audit.ParseKey(strings.Repeat("02", 32) + ",\n" + strings.Repeat("01", 32))
	if err != nil {
		t.Fatal(err)
	}
	if k.Public() != testKey(t, 2).Public() || !k.Owns(k.Public()) || !k.Owns(old.Public()) || k.Owns(other.Public()) {
		t.Error("the first signs, and all of them count")
	}
}
