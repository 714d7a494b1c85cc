package web_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

type inner struct {
	Max int `json:"max"`
}

type body struct {
	Name   string            `json:"name"`
	Count  *int              `json:"count"`
	Small  uint8             `json:"small"`
	Ratio  float64           `json:"ratio"`
	On     bool              `json:"on"`
	Inner  inner             `json:"inner"`
	Tags   []string          `json:"tags"`
	Labels map[string]string `json:"labels"`
	Raw    json.RawMessage   `json:"raw"`
	At     *time.Time        `json:"at"`
	Any    any               `json:"any"`
}

func TestReadJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		body    string
		kind    error
		pointer string
	}{
		"everything right":       {body: `{"name":"a","count":3,"small":255,"ratio":1.5,"on":true,"inner":{"max":3},"tags":["x"],"labels":{"k":"v"},"raw":{"a":[1]},"at":"2026-01-02T03:04:05Z","any":null}`},
		"nothing":                {body: `{}`},
		"white space around":     {body: " {}\n\t"},
		"empty":                  {body: "", kind: fault.Malformed},
		"only white space":       {body: " \n", kind: fault.Malformed},
		"cut":                    {body: `{"name":`, kind: fault.Malformed},
		"not closed":             {body: `{"name":"a"`, kind: fault.Malformed},
		"comma at the end":       {body: `{"name":"a",}`, kind: fault.Malformed},
		"single quotes":          {body: `{'name':'a'}`, kind: fault.Malformed},
		"key without quotes":     {body: `{name:"a"}`, kind: fault.Malformed},
		"number as key":          {body: `{1:2}`, kind: fault.Malformed},
		"two values":             {body: `{} {}`, kind: fault.Malformed},
		"rest":                   {body: `{}x`, kind: fault.Malformed},
		"bad UTF-8":              {body: "{\"name\":\"\xff\"}", kind: fault.Malformed},
		"a key twice":            {body: `{"name":"a","name":"b"}`, kind: fault.Malformed},
		"a key twice, deep":      {body: `{"raw":{"a":1,"\u0061":2}}`, kind: fault.Malformed},
		"nested for ever":        {body: strings.Repeat(`{"raw":`, 100) + "1" + strings.Repeat("}", 100), kind: fault.Malformed},
		"brackets for ever":      {body: strings.Repeat("[", 100_000), kind: fault.Malformed},
		"a list":                 {body: `[]`, kind: fault.Invalid},
		"a string":               {body: `"x"`, kind: fault.Invalid},
		"null":                   {body: `null`, kind: fault.Invalid},
		"unknown":                {body: `{"nom":"a"}`, kind: fault.Invalid, pointer: "/nom"},
		"other case":             {body: `{"Name":"a"}`, kind: fault.Invalid, pointer: "/Name"},
		"unknown inside":         {body: `{"inner":{"a/b~":1}}`, kind: fault.Invalid, pointer: "/inner/a~1b~0"},
		"number for string":      {body: `{"name":1}`, kind: fault.Invalid, pointer: "/name"},
		"null for string":        {body: `{"name":null}`, kind: fault.Invalid, pointer: "/name"},
		"null for a number":      {body: `{"count":null}`, kind: fault.Invalid, pointer: "/count"},
		"null for a time":        {body: `{"at":null}`, kind: fault.Invalid, pointer: "/at"},
		"null for an object":     {body: `{"inner":null}`, kind: fault.Invalid, pointer: "/inner"},
		"string for number":      {body: `{"count":"1"}`, kind: fault.Invalid, pointer: "/count"},
		"fraction":               {body: `{"count":1.5}`, kind: fault.Invalid, pointer: "/count"},
		"exponent":               {body: `{"count":1e3}`, kind: fault.Invalid, pointer: "/count"},
		"too big":                {body: `{"small":256}`, kind: fault.Invalid, pointer: "/small"},
		"below zero":             {body: `{"small":-1}`, kind: fault.Invalid, pointer: "/small"},
		"far too big":            {body: `{"count":99999999999999999999}`, kind: fault.Invalid, pointer: "/count"},
		"string for bool":        {body: `{"on":"true"}`, kind: fault.Invalid, pointer: "/on"},
		"string for float":       {body: `{"ratio":"1"}`, kind: fault.Invalid, pointer: "/ratio"},
		"float without end":      {body: `{"ratio":1e999}`, kind: fault.Invalid, pointer: "/ratio"},
		"object for list":        {body: `{"tags":{}}`, kind: fault.Invalid, pointer: "/tags"},
		"wrong item":             {body: `{"tags":["a",1]}`, kind: fault.Invalid, pointer: "/tags/1"},
		"wrong value in a map":   {body: `{"labels":{"k":1}}`, kind: fault.Invalid, pointer: "/labels/k"},
		"list for map":           {body: `{"labels":[]}`, kind: fault.Invalid, pointer: "/labels"},
		"list for object":        {body: `{"inner":[]}`, kind: fault.Invalid, pointer: "/inner"},
		"time that is none":      {body: `{"at":"yesterday"}`, kind: fault.Invalid},
		"number for a time":      {body: `{"at":5}`, kind: fault.Invalid},
		"several things at once": {body: `{"on":1,"name":1}`, kind: fault.Invalid, pointer: "/name"},
	} {
		t.Run(name, func(t *testing.T) {
			var v body
			err := web.DecodeJSON([]byte(tc.body), &v)
			if tc.kind == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, tc.kind) {
				t.Fatalf("%v, want %v", err, tc.kind)
			}
			if f := fault.Of(err); tc.pointer != "" && (len(f.Fields) == 0 || f.Fields[0].Pointer != tc.pointer) {
				t.Errorf("fields %+v, want %s", f.Fields, tc.pointer)
			}
		})
	}
}

func TestReadJSONReadsTheRequest(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) error {
		var v inner
		if err := web.ReadJSON(r, &v); err != nil {
			return err
		}
		return web.WriteJSON(w, 201, v)
	}
	h := open(web.Options{MaxBody: 32},
		web.Route{Pattern: "POST /x", Need: web.Anyone, Handle: read}, web.Route{Pattern: "PATCH /x", Need: web.Anyone, Handle: read},
		web.Route{Pattern: "POST /maybe", Need: web.Anyone, Handle: func(w http.ResponseWriter, r *http.Request) error {
			v := inner{Max: 7}
			if err := web.ReadOptionalJSON(r, &v); err != nil {
				return err
			}
			return web.WriteJSON(w, 200, v)
		}})
	for name, tc := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
	}{
		"right":              {"POST", "/x", `{"max":1}`, []string{"Content-Type", "application/json"}, 201},
		"with charset":       {"POST", "/x", `{"max":1}`, []string{"Content-Type", "application/json; charset=UTF-8"}, 201},
		"other charset":      {"POST", "/x", `{"max":1}`, []string{"Content-Type", "application/json; charset=latin1"}, 415},
		"no content type":    {"POST", "/x", `{"max":1}`, nil, 415},
		"text":               {"POST", "/x", `{"max":1}`, []string{"Content-Type", "text/plain"}, 415},
		"no sense":           {"POST", "/x", `{"max":1}`, []string{"Content-Type", ";;"}, 415},
		"form":               {"POST", "/x", `max=1`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		"compressed":         {"POST", "/x", `{"max":1}`, []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}, 415},
		"merge patch":        {"PATCH", "/x", `{"max":1}`, []string{"Content-Type", "application/merge-patch+json"}, 201},
		"merge patch posted": {"POST", "/x", `{"max":1}`, []string{"Content-Type", "application/merge-patch+json"}, 415},
		"exactly the limit":  {"POST", "/x", `{"max":1}` + strings.Repeat(" ", 23), []string{"Content-Type", "application/json"}, 201},
		"one over":           {"POST", "/x", `{"max":1}` + strings.Repeat(" ", 24), []string{"Content-Type", "application/json"}, 413},
		"left out":           {"POST", "/maybe", "", nil, 200},
		"not left out":       {"POST", "/maybe", "[]", []string{"Content-Type", "application/json"}, 422},
	} {
		if got := serve(t, h, tc.method, tc.path, tc.body, tc.headers...); got.Code != tc.status {
			t.Errorf("%s: %d, want %d: %s", name, got.Code, tc.status, got.Body)
		}
	}
}

// What is accepted must mean the same to encoding/json, and be accepted again
// after it has been written.
func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"name":"a","count":1,"inner":{"max":3},"tags":["x"],"raw":[{"a":null}]}`))
	f.Add([]byte(`{"name":"a","name":"b"}`))
	f.Add([]byte(`{"raw":1e5,"any":"\ud800"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var v body
		if err := web.DecodeJSON(in, &v); err != nil {
			if fault.Of(err) == nil {
				t.Fatalf("not classified: %v", err)
			}
			return
		}
		var plain body
		if err := json.Unmarshal(in, &plain); err != nil || !reflect.DeepEqual(v, plain) {
			t.Fatalf("encoding/json reads it otherwise: %v", err)
		}
	})
}

func TestPage(t *testing.T) {
	parse := func(query string) (web.Page, error) {
		r, err := http.NewRequest("GET", "/x?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		return web.ParsePage(r)
	}
	for query, want := range map[string]web.Page{
		"":                                  {Limit: 50},
		"limit=1":                           {Limit: 1},
		"limit=200&other=x":                 {Limit: 200},
		"cursor=" + web.EncodeCursor("a/β"): {Limit: 50, After: "a/β"},
	} {
		if got, err := parse(query); err != nil || got != want {
			t.Errorf("%q: %+v %v", query, got, err)
		}
	}
	for _, query := range []string{"limit=0", "limit=201", "limit=-1", "limit=x", "limit=1.0", "limit=99999999999999999999",
		"cursor=%", "cursor=!", "cursor=" + web.EncodeCursor(""), "cursor=" + web.EncodeCursor("\x00"), "cursor=" + web.EncodeCursor("\xff"),
		"cursor=Mg", "cursor=" + strings.Repeat("A", 4096)} {
		if _, err := parse(query); query != "cursor=%" && !errors.Is(err, fault.Malformed) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

func itself(s string) string { return s }

func TestListWalksThroughEverything(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	var got []string
	p := web.Page{Limit: 2}
	for {
		var found []string
		for _, s := range all {
			if s > p.After && len(found) < p.Limit+1 {
				found = append(found, s)
			}
		}
		l := web.NewList(found, p, itself)
		got = append(got, l.Items...)
		if l.Next == nil {
			break
		}
		after, err := web.DecodeCursor(*l.Next)
		if err != nil {
			t.Fatal(err)
		}
		p.After = after
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Error(diff)
	}
	empty, err := json.Marshal(web.MapList(web.NewList(nil, p, itself), strings.ToUpper))
	if err != nil || string(empty) != `{"items":[],"next":null}` {
		t.Errorf("%s %v", empty, err)
	}
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add(web.EncodeCursor("acme"))
	f.Add("MQ")
	f.Fuzz(func(t *testing.T, s string) {
		after, err := web.DecodeCursor(s)
		if err == nil && web.EncodeCursor(after) != s {
			t.Errorf("%q and %q mean the same", s, web.EncodeCursor(after))
		}
	})
}
