package cookie_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/cookie"
)

func parse(t testing.TB, text string) cookie.Key {
	t.Helper()
	k, err := cookie.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	older = strings.Repeat("01", 32)
	newer = strings.Repeat("02", 32)
)

var box = cookie.Cookie{Name: "box"}

// given is a request with what an answer gave to the browser.
func given(t testing.TB, w *httptest.ResponseRecorder) *http.Request {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range w.Result().Cookies() {
		if c.MaxAge >= 0 {
			r.AddCookie(c)
		}
	}
	return r
}

func set(t testing.TB, c cookie.Cookie, k cookie.Key, value []byte) *http.Request {
	t.Helper()
	w := httptest.NewRecorder()
	if err := c.Set(w, httptest.NewRequest("GET", "/", nil), k, value, time.Hour); err != nil {
		t.Fatal(err)
	}
	return given(t, w)
}

func TestAValueComesBack(t *testing.T) {
	k := parse(t, newer)
	for _, n := range []int{0, 1, 2000, 4000, cookie.MaxValue} {
		value := bytes.Repeat([]byte{'x'}, n)
		got, err := box.Value(set(t, box, k, value), k)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("%d bytes: %v, %d bytes", n, err, len(got))
		}
	}
	err := box.Set(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), k, make([]byte, cookie.MaxValue+1), time.Hour)
	if !errors.Is(err, cookie.ErrLong) {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := box.Value(httptest.NewRequest("GET", "/", nil), k); !errors.Is(err, cookie.ErrNone) {
		t.Errorf("without: %v", err)
	}
}

func TestBrowsersAreToldToKeepIt(t *testing.T) {
	k := parse(t, newer)
	for name, tc := range map[string]struct {
		cookie cookie.Cookie
		want   string
	}{
		"everywhere":   {box, "__Host-box=…; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"},
		"below a path": {cookie.Cookie{Name: "hint", Path: "/auth"}, "__Secure-hint=…; Path=/auth; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := tc.cookie.Set(w, httptest.NewRequest("GET", "/", nil), k, []byte("v"), time.Hour); err != nil {
				t.Fatal(err)
			}
			got := w.Header().Values("Set-Cookie")
			if len(got) != 1 {
				t.Fatal(got)
			}
			head, rest, _ := strings.Cut(got[0], "=")
			_, attributes, _ := strings.Cut(rest, ";")
			if text := head + "=…;" + attributes; text != tc.want {
				t.Errorf("%s, want %s", text, tc.want)
			}
			if strings.Contains(got[0], "Domain") {
				t.Error(got[0])
			}
		})
	}
}

func TestEachPartFitsIntoACookie(t *testing.T) {
	w := httptest.NewRecorder()
	if err := box.Set(w, httptest.NewRequest("GET", "/", nil), parse(t, newer), make([]byte, cookie.MaxValue), time.Hour); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, line := range w.Header().Values("Set-Cookie") {
		if len(line) > 4096 {
			t.Errorf("a cookie has %d bytes", len(line))
		}
		whole += len(line)
	}
	if whole > 8<<10 {
		t.Errorf("together they have %d bytes", whole)
	}
}

// TestAShorterValueTakesThePlaceOfALonger: a part that was left would spoil it.
func TestAShorterValueTakesThePlaceOfALonger(t *testing.T) {
	k := parse(t, newer)
	before := set(t, box, k, make([]byte, cookie.MaxValue))
	w := httptest.NewRecorder()
	if err := box.Set(w, before, k, []byte("short"), time.Hour); err != nil {
		t.Fatal(err)
	}
	removed := 0
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			removed++
		}
	}
	if got, err := box.Value(given(t, w), k); string(got) != "short" || err != nil || removed != 1 {
		t.Errorf("%q %v, %d removed", got, err, removed)
	}
	w = httptest.NewRecorder()
	box.Clear(w, before)
	if n := len(w.Result().Cookies()); n != 2 {
		t.Errorf("%d cookies are removed", n)
	}
}

func TestKeysAreRotated(t *testing.T) {
	old, both, fresh := parse(t, older), parse(t, newer+","+older), parse(t, newer)
	r := set(t, box, old, []byte("v"))
	if got, err := box.Value(r, both); string(got) != "v" || err != nil {
		t.Errorf("after a new key came: %q %v", got, err)
	}
	if _, err := box.Value(r, fresh); !errors.Is(err, cookie.ErrOpaque) {
		t.Errorf("after the old key went: %v", err)
	}
	if _, err := box.Value(set(t, box, both, nil), fresh); err != nil {
		t.Errorf("what is new is not sealed under the newest: %v", err)
	}
	code := old.Code("p", "text")
	if !both.IsCode("p", "text", code) || fresh.IsCode("p", "text", code) || both.IsCode("q", "text", code) || both.IsCode("p", "other", code) || both.IsCode("p", "text", "") {
		t.Error("codes are told apart wrongly")
	}
}

// TestTampering changes each byte of a cookie, and shows it where it was not meant.
func TestTampering(t *testing.T) {
	k := parse(t, newer)
	sealed := k.Seal("box", []byte("value"))
	refused := func(what string, r *http.Request) {
		t.Helper()
		if _, err := box.Value(r, k); !errors.Is(err, cookie.ErrOpaque) {
			t.Errorf("%s: %v", what, err)
		}
	}
	with := func(values ...string) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		for _, v := range values {
			r.AddCookie(&http.Cookie{Name: "__Host-box", Value: v})
		}
		return r
	}
	if _, err := box.Value(with(sealed), k); err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		b := []byte(sealed)
		if b[i] = 'A'; sealed[i] == 'A' {
			b[i] = 'B'
		}
		refused(fmt.Sprint("byte ", i), with(string(b)))
	}
	refused("cut off", with(sealed[:len(sealed)-1]))
	refused("longer", with(sealed+"A"))
	refused("empty", with(""))
	refused("another purpose", with(k.Seal("hint", []byte("value"))))
	refused("another key", with(parse(t, older).Seal("box", []byte("value"))))
	refused("one more of the name", with(sealed, sealed))
	refused("one that was tossed in first", with("x", sealed))
	more := with(sealed)
	more.AddCookie(&http.Cookie{Name: "__Host-box-1", Value: "AAAA"})
	refused("a second part", more)
	refused("far too long", with(strings.Repeat("A", 5000)))
}

func TestParseKey(t *testing.T) {
	for name, tc := range map[string]struct {
		in string
		ok bool
	}{
		"one":         {newer, true},
		"two":         {newer + "," + older, true},
		"line ends":   {newer + "\r\n" + older + "\n", true},
		"none":        {"", false},
		"short":       {newer[2:], false},
		"not hex":     {strings.Repeat("zz", 32), false},
		"zeros":       {strings.Repeat("00", 32), false},
		"a fifth one": {strings.Repeat(newer+",", 5), false},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := cookie.ParseKey(tc.in)
			if (err == nil) != tc.ok || k.IsSet() != tc.ok {
				t.Fatalf("%v", err)
			}
			if err != nil && len(tc.in) > 60 && strings.Contains(err.Error(), tc.in[:60]) {
				t.Errorf("the key is in %v", err)
			}
		})
	}
}

func TestAKeyDoesNotPrint(t *testing.T) {
	k := parse(t, newer)
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %x %s", k, k, k, k, struct{ k cookie.Key }{k})} {
		if strings.Contains(text, newer[:8]) || strings.Contains(text, "\x02\x02") {
			t.Error(text)
		}
	}
}

func TestAKeyFileIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	a, err := cookie.LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cookie.LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Open("p", a.Seal("p", []byte("v"))); string(got) != "v" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzValue(f *testing.F) {
	k := parse(f, newer)
	f.Add("__Host-box=" + k.Seal("box", []byte("v")))
	f.Add("__Host-box=a; __Host-box-1=b; __Host-box=c")
	f.Add("__Host-box=\"x\"; =; ;")
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", header)
		got, err := box.Value(r, k)
		if err == nil && string(got) != "v" {
			t.Errorf("%q opened as %q", header, got)
		}
	})
}
