package filter_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/change"
	"github.com/defenseunicorns/peat-gateway/shared/event"
	"github.com/defenseunicorns/peat-gateway/shared/filter"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

var key = tenant.Key{Org: "acme", App: "logistics"}

// moved is the change that the tables ask about.
func moved() change.Settled {
	return change.Settled{
		Change: change.Change{
			Hash: change.Hash{0xab}, Deps: []change.Hash{{1}, {2}},
			Actor: "6fb04e99", ActorSeq: 7, StartOp: 9, Time: 1_795_512_600_000, Message: "cobalt moves",
			Patches: []byte(`[
				{"action":"put","path":["vehicles","cobalt","status"],"value":"moving"},
				{"action":"put","path":["vehicles","cobalt","speed"],"value":42,"conflict":true},
				{"action":"insert","path":["log",3],"values":["a",1.5,null]},
				{"action":"del","path":["notes",0],"length":3},
				{"action":"inc","path":["count"],"value":9007199254740993},
				{"action":"mark","path":["text"],"marks":[{"name":"bold","start":0,"end":2,"value":true}]}]`),
		},
		Document: "vehicles:cobalt", Seq: 3, Position: 17, Concurrent: true, Origin: change.Sync,
		ReceivedAt: time.Date(2026, 11, 24, 9, 30, 0, 123e6, time.UTC),
	}
}

func compile(t testing.TB, where string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(filter.Spec{Where: where})
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	return f
}

func ExampleFilter() {
	f, err := filter.Compile(filter.Spec{
		Documents: []string{"vehicles:*", "!vehicles:test-*"},
		Where:     `event.app_id == "logistics" && patches.exists(p, p.path[0] == "status")`,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	c := change.Settled{Document: "vehicles:cobalt"}
	c.Patches = []byte(`[{"action":"put","path":["status"],"value":"moving"}]`)
	fmt.Println(f.Match(tenant.Key{Org: "acme", App: "logistics"}, c))
	fmt.Println(f.Document("vehicles:test-1"))

	_, err = filter.Compile(filter.Spec{Where: `event.sequ > 3`})
	fmt.Println(err)
	// Output:
	// true <nil>
	// false
	// filter/where 1:6: undefined field 'sequ'
}

func TestMatch(t *testing.T) {
	for text, tc := range map[string]struct {
		where string
		want  bool
	}{
		"a constant":                      {`true`, true},
		"the other constant":              {`false`, false},
		"a number compared":               {`event.seq > 2`, true},
		"a number compared with a float":  {`event.seq > 3.5`, false},
		"arithmetic":                      {`event.position + 3 == 20`, true},
		"text":                            {`event.message.startsWith("cobalt")`, true},
		"text without its case":           {`event.message.upperAscii().contains("MOVES")`, true},
		"a regular expression":            {`event.document_id.matches("^vehicles:[a-z]+$")`, true},
		"one of a list":                   {`event.app_id in ["air", "logistics"]`, true},
		"a time":                          {`time > timestamp("2026-11-24T00:00:00Z") && time.getHours() == 9`, true},
		"a time plus a duration":          {`time + duration("1h") < timestamp("2026-11-24T10:00:00Z")`, false},
		"a search":                        {`event.message.indexOf("moves") == 7`, true},
		"a part of the id":                {`event.document_id.split(":")[1] == "cobalt"`, true},
		"a patch with a value":            {`patches.exists(p, p.path[0] == "vehicles" && p.value == "moving")`, true},
		"a patch with a number":           {`patches.exists(p, p.value == 42)`, true},
		"a number that no float64 holds":  {`patches.exists(p, p.value == 9007199254740993)`, true},
		"its neighbour":                   {`patches.exists(p, p.value == 9007199254740992)`, false},
		"a whole path":                    {`patches.exists_one(p, p.path == ["vehicles", "cobalt", "speed"])`, true},
		"patches without a value":         {`patches.filter(p, p.value == null).size() == 3`, true},
		"has, of patches":                 {`patches.filter(p, has(p.value)).size() == 3`, true},
		"has, of an event":                {`has(event.message)`, true},
		"the length of a deletion":        {`patches.exists(p, p.action == "del" && p.length == 3)`, true},
		"a length that is not given":      {`patches[0].length == 1`, true},
		"values of an insertion":          {`patches.exists(p, p.values.exists(v, v == 1.5))`, true},
		"marks":                           {`patches.exists(p, p.action == "mark" && p.marks[0].name == "bold")`, true},
		"a conflict":                      {`patches.exists(p, p.conflict)`, true},
		"no conflicts":                    {`patches.all(p, p.conflicts == [])`, true},
		"loops in each other":             {`patches.exists(p, patches.exists(q, p != q && p.path == q.path))`, false},
		"a loop's variable named patches": {`[1, 2].exists(patches, patches == 2)`, true},
		"an event equals itself":          {`event == event && event in [event]`, true},
		"a patch through a mixed list":    {`[dyn(patches[0]), dyn(1)][0].action == "put"`, true},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := compile(t, tc.where).Match(key, moved())
			if err != nil || got != tc.want {
				t.Errorf("%s: %v, %v, want %v", tc.where, got, err, tc.want)
			}
		})
	}
}

func TestEveryFieldIsReachable(t *testing.T) {
	is := map[string]string{
		"org_id": `"acme"`, "app_id": `"logistics"`, "document_id": `"vehicles:cobalt"`,
		"change_hash":  `"ab` + strings.Repeat("0", 62) + `"`,
		"deps":         `["01` + strings.Repeat("0", 62) + `", "02` + strings.Repeat("0", 62) + `"]`,
		"actor_id":     `"6fb04e99"`,
		"actor_seq":    `7`,
		"start_op":     `9`,
		"timestamp_ms": `1795512600000`, "message": `"cobalt moves"`, "seq": `3`, "concurrent": `true`, "position": `17`,
		"received_at_ms": `1795512600123`, "origin": `"sync"`,
	}
	for name, literal := range is {
		ok, err := compile(t, "event."+name+" == "+literal).Match(key, moved())
		if err != nil || !ok {
			t.Errorf("event.%s == %s: %v, %v", name, literal, ok, err)
		}
	}
	// A field that is added to the event is to be added here, or to this list.
	depends := map[string]bool{"prev": true, "patches": true, "change": true, "metadata": true}
	data := reflect.TypeFor[event.DocumentData]()
	for i := range data.NumField() {
		name, _, _ := strings.Cut(data.Field(i).Tag.Get("json"), ",")
		if is[name] == "" && !depends[name] {
			t.Errorf("no expression can see %s", name)
		}
		if _, err := filter.Compile(filter.Spec{Where: "event." + name + " == event." + name}); (err == nil) == depends[name] {
			t.Errorf("event.%s: %v", name, err)
		}
	}
}

func TestRefusedExpressions(t *testing.T) {
	for text, tc := range map[string]struct{ where, want string }{
		"a misspelt field":               {`event.sequ > 3`, "1:6: undefined field 'sequ'"},
		"a misspelt field of a patch":    {"true &&\n  patches.exists(p, p.vlaue == 1)", "2:22: undefined field 'vlaue'"},
		"an unknown name":                {`evnt.seq > 3`, "1:1: undeclared reference"},
		"a number against text":          {`event.seq == "3"`, "1:11: found no matching overload"},
		"not true or false":              {`event.seq`, "must be true or false, and is int"},
		"perhaps true or false":          {`patches[0].value`, "must be true or false, and is dyn"},
		"a syntax error":                 {`event.seq >`, "1:12: Syntax error"},
		"only spaces":                    {"  ", "Syntax error"},
		"not UTF-8":                      {"event.message == '\xff'", "is not UTF-8"},
		"too long":                       {strings.Repeat(" ", 4092) + "false", "longer than 4096 bytes"},
		"a time that is none":            {`time > timestamp("yesterday")`, "1:18: invalid timestamp"},
		"map":                            {`patches.map(p, p.action) == []`, "undeclared reference"},
		"replace":                        {`event.message.replace("a", "b") == ""`, "1:22: replace cannot be used here"},
		"format":                         {`"%s".format([event.message]) == ""`, "format cannot be used here"},
		"join":                           {`["a"].join() == ""`, "join cannot be used here"},
		"quote":                          {`strings.quote("a") == ""`, "strings.quote cannot be used here"},
		"text put together":              {`event.org_id + event.app_id == "x"`, "1:14: + is for numbers and times here"},
		"lists put together":             {`(event.deps + event.deps).size() == 2`, "+ is for numbers"},
		"what may be text put together":  {`patches[0].value + patches[0].value == 2`, "+ is for numbers"},
		"an object made":                 {`peat.Event{seq: 3} == event`, "objects cannot be made here"},
		"a pattern from the event":       {`event.message.matches(event.message)`, "1:22: matches takes a regular expression in quotes"},
		"a search for the event":         {`event.message.indexOf(event.message) == 0`, "1:22: indexOf takes at most 256 bytes in quotes"},
		"a search for something long":    {`event.message.lastIndexOf("` + strings.Repeat("a", 257) + `", 3) == 0`, "lastIndexOf takes at most 256 bytes in quotes"},
		"a pattern that is none":         {`event.message.matches("(")`, "1:23: invalid matches argument"},
		"a huge pattern":                 {`event.message.matches("(a{1000}){1000}")`, "1:23: invalid matches argument"},
		"a pattern over the limit":       {`event.message.matches("a{300}")`, "regex program size"},
		"three loops in each other":      {`patches.all(p, patches.all(q, patches.all(r, true)))`, "nesting"},
		"deep parentheses":               {strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion limit exceeded"},
		"deep lists":                     {strings.Repeat("[", 200) + strings.Repeat("]", 200) + " == []", "recursion limit exceeded"},
		"many loops":                     {"true" + strings.Repeat("&&[].all(x,1>0)", 270), "expression count exceeds limit"},
		"a costly loop in a loop":        {`patches.all(p, patches.all(q, ` + strings.Repeat(`p.value == q.value && `, 15) + `true))`, "may cost more than 100000"},
		"a costly pattern in a loop":     {`patches.all(p, patches.all(q, event.message.matches("` + strings.Repeat("ab", 60) + `")))`, "may cost more than 100000"},
		"the workings of a loop touched": {`[1].all(x, @result)`, "Syntax error"},
	} {
		t.Run(text, func(t *testing.T) {
			f, err := filter.Compile(filter.Spec{Where: tc.where})
			if f != nil || !errors.Is(err, fault.Invalid) {
				t.Fatalf("%.80s: %v, %v", tc.where, f, err)
			}
			fields := fault.Of(err).Fields
			if len(fields) != 1 || fields[0].Pointer != "/filter/where" || !strings.Contains(fields[0].Detail, tc.want) {
				t.Errorf("%.80s: %+v, want %q", tc.where, fields, tc.want)
			}
			if detail := fields[0].Detail; len(detail) > 250 || strings.Contains(detail, "\n") {
				t.Errorf("%.80s: a detail is one short line: %q", tc.where, detail)
			}
		})
	}
}

func TestNoVerdict(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	patches := func(n int) []byte {
		return []byte("[" + strings.TrimSuffix(strings.Repeat(`{"action":"del","path":["a"]},`, n), ",") + "]")
	}
	for text, tc := range map[string]struct {
		where  string
		change func(*change.Settled)
		cost   bool
	}{
		"a list that is shorter":       {`patches[99].action == "put"`, nil, false},
		"a value of another kind":      {`patches[1].value < "m"`, nil, false},
		"text as a number":             {`int(event.message) == 1`, nil, false},
		"division by zero":             {`event.seq / (event.seq - 3) == 1`, nil, false},
		"a number too large":           {`event.seq + 9223372036854775807 > 0`, nil, false},
		"patches that cannot be read":  {`patches.size() == 0`, func(c *change.Settled) { c.Patches = []byte(`{"x`) }, false},
		"patches over the limit":       {`patches.size() > 0`, func(c *change.Settled) { c.Patches = patches(filter.MaxPatchesBytes / 20) }, true},
		"a message over the limit":     {`event.message == "a"`, func(c *change.Settled) { c.Message = long(filter.MaxMessageBytes + 1) }, true},
		"many patches with each other": {`patches.all(p, patches.exists(q, p == q && q.length == 2) || true)`, func(c *change.Settled) { c.Patches = patches(4000) }, true},
		"many patches, all of them":    {`patches.all(p, patches == patches)`, func(c *change.Settled) { c.Patches = patches(4000) }, true},
		"a long list of long patches":  {`patches.all(p, [patches, patches, patches] == [patches, patches, patches])`, func(c *change.Settled) { c.Patches = patches(8000) }, true},
		"long text in a loop":          {`patches.all(p, event.message.size() > 3)`, func(c *change.Settled) { c.Patches, c.Message = patches(4000), long(60_000) }, true},
		"long text split in a loop":    {`patches.all(p, event.message.split("").size() > 3)`, func(c *change.Settled) { c.Patches, c.Message = patches(4000), long(60_000) }, true},
		"a pattern on long text":       {`patches.all(p, event.message.matches("(x+x+)+y(a|b)*c(x+x+)+y(a|b)*c") == false)`, func(c *change.Settled) { c.Patches, c.Message = patches(4000), long(60_000) }, true},
		"a long message in two places": {`event.message.contains(event.message) && patches.all(p, event.message in [event.message])`, func(c *change.Settled) { c.Patches, c.Message = patches(4000), long(60_000) }, true},
	} {
		t.Run(text, func(t *testing.T) {
			c := moved()
			if tc.change != nil {
				tc.change(&c)
			}
			got, err := compile(t, tc.where).Match(key, c)
			if err == nil || got || errors.Is(err, filter.ErrCost) != tc.cost {
				t.Errorf("%s: %v, %v", tc.where, got, err)
			}
		})
	}
}

// TestUntouchedPartsDoNotMatter: what an evaluation does not reach need not even be readable.
func TestUntouchedPartsDoNotMatter(t *testing.T) {
	c := moved()
	c.Patches = []byte("no JSON")
	c.Message = strings.Repeat("m", filter.MaxMessageBytes+1)
	for _, where := range []string{
		`event.seq == 3`,
		`event.seq == 3 || patches.size() == 1`,
		`!(event.seq != 3 && event.message == "")`,
	} {
		if got, err := compile(t, where).Match(key, c); err != nil || !got {
			t.Errorf("%s: %v, %v", where, got, err)
		}
	}
}

func TestNumbersBeyondCELs(t *testing.T) {
	c := moved()
	c.ActorSeq = 1 << 63
	c.Patches = []byte(`[{"action":"put","path":["n"],"value":18446744073709551615},{"action":"put","path":["n"],"value":1e999}]`)
	for _, where := range []string{
		`event.actor_seq == 9223372036854775807`,
		`patches[0].value == 18446744073709551615u`,
		`patches[1].value > 1e308`,
	} {
		if got, err := compile(t, where).Match(key, c); err != nil || !got {
			t.Errorf("%s: %v, %v", where, got, err)
		}
	}
}

func TestEveryWrongPartIsNamed(t *testing.T) {
	_, err := filter.Compile(filter.Spec{
		Documents: []string{"a", "", "!", "[a]", strings.Repeat("a", 257)},
		Where:     "event.",
	})
	var got []string
	for _, f := range fault.Of(err).Fields {
		got = append(got, f.Pointer)
	}
	want := []string{
		"/filter/documents/1", "/filter/documents/2", "/filter/documents/3", "/filter/documents/4", "/filter/where",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := filter.Compile(filter.Spec{Documents: make([]string, 51)}); fault.Of(err).Fields[0].Pointer != "/filter/documents" {
		t.Error(err)
	}
}

func TestNoFilterPassesEverything(t *testing.T) {
	f, err := filter.Compile(filter.Spec{})
	if err != nil || f != nil || !f.Document("x") {
		t.Errorf("%v, %v", f, err)
	}
	if ok, err := f.Match(key, moved()); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if (filter.Spec{Where: "true"}).IsZero() || (filter.Spec{Documents: []string{"*"}}).IsZero() || !(filter.Spec{}).IsZero() {
		t.Error("IsZero")
	}
}

// TestManual: the expressions that docs/sinks.md shows can be used.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/sinks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "| wanted | `where` |")
	table, _, _ := strings.Cut(section, "\n\n")
	rows := regexp.MustCompile("(?m)^\\| .* \\| `(.*)` \\|$").FindAllStringSubmatch(table, -1)
	if len(rows) < 5 {
		t.Fatalf("found %d expressions in %q", len(rows), table)
	}
	for _, row := range rows {
		f := compile(t, strings.ReplaceAll(row[1], `\|`, "|"))
		if _, err := f.Match(key, moved()); err != nil {
			t.Errorf("%s: %v", row[1], err)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	f, err := filter.Compile(filter.Spec{
		Documents: []string{"vehicles:*"},
		Where:     `event.seq % 2 == 1 && patches.exists(p, p.value == "moving")`,
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 200 {
				c := moved()
				c.Seq = uint64(worker*1000 + i)
				if got, err := f.Match(key, c); err != nil || got != (i%2 == 1) {
					t.Errorf("seq %d: %v, %v", c.Seq, got, err)
				}
			}
		})
	}
	wg.Wait()
}
