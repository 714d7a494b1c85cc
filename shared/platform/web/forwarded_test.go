package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

func TestParseProxies(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want string
		ok   bool
	}{
		"none":                      {"", "[]", true},
		"a network":                 {"10.0.0.0/8", "[10.0.0.0/8]", true},
		"an address":                {"127.0.0.1", "[127.0.0.1/32]", true},
		"several":                   {" 10.1.2.3/8, ::1 ,", "[10.0.0.0/8 ::1/128]", true},
		"everybody":                 {"0.0.0.0/0", "", false},
		"everybody, by IPv6":        {"::/0", "", false},
		"a name":                    {"proxy.example", "", false},
		"an address with a zone":    {"fe80::1%eth0", "", false},
		"IPv4 in the form of IPv6":  {"::ffff:10.0.0.0/104", "", false},
		"a network with a bad mask": {"10.0.0.0/33", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := web.ParseProxies(tc.in)
			if (err == nil) != tc.ok || err == nil && fmt.Sprint(p) != tc.want {
				t.Errorf("got %v, %v", p, err)
			}
		})
	}
}

func TestCaller(t *testing.T) {
	proxies, err := web.ParseProxies("10.0.0.0/8,::1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		peer string
		says []string
		want string
	}{
		"nobody between":                       {"203.0.113.9:5000", nil, "203.0.113.9"},
		"a stranger who says he is another":    {"203.0.113.9:5000", []string{"198.51.100.1"}, "203.0.113.9"},
		"a stranger who says he is a proxy":    {"203.0.113.9:5000", []string{"198.51.100.1, 10.0.0.1"}, "203.0.113.9"},
		"a proxy that says nothing":            {"10.0.0.1:5000", nil, "10.0.0.1"},
		"a proxy for a caller":                 {"10.0.0.1:5000", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy by IPv6":                      {"[::1]:5000", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv4 in the form of IPv6":             {"[::ffff:10.0.0.1]:5000", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"two proxies":                          {"10.0.0.1:5000", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"in two lines":                         {"10.0.0.1:5000", []string{"198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		"a caller who sent a header himself":   {"10.0.0.1:5000", []string{"192.0.2.1, 198.51.100.1"}, "198.51.100.1"},
		"a caller who names a proxy first":     {"10.0.0.1:5000", []string{"10.9.9.9, 198.51.100.1"}, "198.51.100.1"},
		"a caller inside":                      {"10.0.0.1:5000", []string{"10.0.0.77"}, "10.0.0.77"},
		"with a port":                          {"10.0.0.1:5000", []string{"198.51.100.1:444"}, "198.51.100.1"},
		"nonsense from a proxy":                {"10.0.0.1:5000", []string{"unknown"}, "10.0.0.1"},
		"nonsense further left":                {"10.0.0.1:5000", []string{"198.51.100.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		"an empty header":                      {"10.0.0.1:5000", []string{""}, "10.0.0.1"},
		"more proxies than there are anywhere": {"10.0.0.1:5000", []string{"198.51.100.1" + strings.Repeat(",10.0.0.2", 1000)}, "10.0.0.2"},
		"a Unix socket":                        {"@", []string{"198.51.100.1"}, "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			var got netip.Addr
			h := web.Mux([]web.Route{{Pattern: "GET /x", Need: web.Anyone, Handle: func(w http.ResponseWriter, r *http.Request) error {
				got = web.Address(r.Context())
				return web.NoContent(w)
			}}}, web.Options{Proxies: proxies})
			r := httptest.NewRequest("GET", "/x", nil)
			r.RemoteAddr = tc.peer
			r.Header["X-Forwarded-For"] = tc.says
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got.String() != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// Whatever a stranger sends, he is who he is.
func FuzzCaller(f *testing.F) {
	f.Add("203.0.113.9:1", "10.0.0.1")
	f.Add("10.0.0.1:1", "1, 2,::1")
	proxies, err := web.ParseProxies("10.0.0.0/8")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, peer, says string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {says}}}
		got := proxies.Caller(r)
		if at := web.Peer(r); !proxies.Trust(at) && got != at {
			t.Errorf("%q became %s", peer, got)
		}
		if got.Zone() != "" || got.Is4In6() {
			t.Errorf("%s is not plain", got)
		}
	})
}
