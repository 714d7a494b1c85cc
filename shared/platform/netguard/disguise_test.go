package netguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// inet reads a host as old resolvers do (inet_aton): one to four numbers, in
// decimal, octal (0…) or hexadecimal (0x…), of which the last fills what is left.
// It is written from that description, to check what URL lets through.
func inet(host string) (netip.Addr, bool) {
	parts := strings.Split(strings.TrimSuffix(host, "."), ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var out uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 33)
		if strings.ContainsAny(p, "_") || strings.HasPrefix(strings.ToLower(p), "0b") || strings.HasPrefix(strings.ToLower(p), "0o") {
			return netip.Addr{}, false
		}
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if err != nil || n >= 1<<bits {
			return netip.Addr{}, false
		}
		out = out<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(out >> 24), byte(out >> 16), byte(out >> 8), byte(out)}), true
}

// disguises are ways to write an address inside that have worked on somebody.
var disguises = []string{
	"127.0.0.1", "localhost", "LOCALHOST", "localhost.", "2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "0",
	"0.0.0.0", "127.0.0.1.", "127.000.000.001", "%31%32%37.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127.0.0.1%00.example.com",
	"[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
	"[::1%25lo]", "[fe80::1%25eth0]", "169.254.169.254", "0xa9fea9fe", "2852039166", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]",
	"10.0.0.1", "192.168.0.1", "172.16.0.1", "100.100.100.200", "metadata.google.internal@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1#@example.com",
	"example.com\\@127.0.0.1", "127.0.0.1\t", " 127.0.0.1", "127.0.0.1?x@example.com", "1.1.1.1 &@127.0.0.1# @8.8.8.8", "127.0.0.1:80@example.com",
}

// Whatever a disguise looks like, nothing is connected to that listens inside: it is
// refused as a URL, or resolved and refused when it is dialled.
func TestDisguisesLeadNowhere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, host := range disguises {
		text := "http://" + host + ":" + port + "/"
		g := New(nil)
		dialled := false
		g.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled = true
			return nil, errors.New("reached the dialler")
		}
		if u, err := g.URL(text, "http"); err == nil {
			address := u.Host
			if u.Port() == "" {
				address = net.JoinHostPort(u.Hostname(), port)
			}
			if _, err := g.DialContext(t.Context(), "tcp", address); err == nil {
				t.Errorf("%s was connected to", host)
			}
		}
		if dialled {
			t.Errorf("%s was dialled", host)
		}
	}
}

// A name that means something else each time it is asked for is looked up once for
// each connection, and that very address is dialled.
func TestRebinding(t *testing.T) {
	answers := 0
	n := &fakeNet{}
	g := n.guard()
	g.resolve = func(context.Context, string, string) ([]netip.Addr, error) {
		answers++
		if answers%2 == 1 {
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	for range 10 {
		if _, err := g.DialContext(t.Context(), "tcp", "rebinding.example:80"); err == nil {
			t.Error("connected")
		}
	}
	if answers != 10 {
		t.Errorf("%d look-ups for 10 connections", answers)
	}
	for _, address := range n.dialled {
		if address != "8.8.8.8:80" {
			t.Errorf("dialled %s", address)
		}
	}
	if len(n.dialled) != 5 {
		t.Errorf("dialled %d times", len(n.dialled))
	}
}

func FuzzURL(f *testing.F) {
	for _, host := range disguises {
		f.Add("https://" + host + "/")
	}
	f.Add("https://hooks.example.com:8443/a?b=c")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := New(nil).URL(text, "https", "http")
		if err != nil {
			return
		}
		host := u.Hostname()
		if a, err := netip.ParseAddr(host); err == nil {
			if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
				t.Errorf("%q names %s", text, a)
			}
		} else if a, ok := inet(host); ok {
			t.Errorf("%q is %s to some", text, a)
		}
		// What we looked at is what a client will look at.
		again, err := url.Parse(u.String())
		if err != nil || again.Host != u.Host || again.User != nil {
			t.Errorf("%q becomes %v %v", text, again, err)
		}
	})
}
