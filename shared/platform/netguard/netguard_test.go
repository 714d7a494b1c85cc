package netguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestGuardAllows(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "2606:4700:4700::1111": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "198.18.0.1": false, "224.0.0.1": false, "240.0.0.1": false,
		"255.255.255.255": false, "192.0.2.1": false, "203.0.113.9": false,
		"::": false, "::1": false, "fe80::1": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false, "fec0::1": false,
		"::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, "2001:0:1::1": false, "2001:db8::1": false,
		"fe80::1%eth0": false, "2606:4700::1%eth0": false,
	} {
		if got := New(nil).allows(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
	g := New([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")})
	for address, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "127.0.0.1": false, "8.8.8.8": true} {
		if got := g.allows(netip.MustParseAddr(address)); got != want {
			t.Errorf("with an exception, %s: %t", address, got)
		}
	}
}

// fakeNet resolves a name to each list of addresses in turn and notes what is dialled.
type fakeNet struct {
	answers [][]string
	dialled []string
}

func (n *fakeNet) guard() *Guard {
	g := New(nil)
	g.resolve = func(context.Context, string, string) ([]netip.Addr, error) {
		var out []netip.Addr
		for _, a := range n.answers[0] {
			out = append(out, netip.MustParseAddr(a))
		}
		n.answers = n.answers[1:]
		return out, nil
	}
	g.dial = func(_ context.Context, _, address string) (net.Conn, error) {
		n.dialled = append(n.dialled, address)
		return nil, errors.New("not answering")
	}
	return g
}

func TestGuardPinsWhatItLookedAt(t *testing.T) {
	n := &fakeNet{answers: [][]string{{"8.8.8.8", "::ffff:1.1.1.1"}, {"127.0.0.1"}, {"8.8.8.8", "10.0.0.1"}, {}}}
	g := n.guard()
	if _, err := g.DialContext(t.Context(), "tcp", "rebinding.example:443"); err == nil || len(n.dialled) != 2 ||
		n.dialled[0] != "8.8.8.8:443" || n.dialled[1] != "1.1.1.1:443" {
		t.Errorf("%v %v", n.dialled, err)
	}
	// The name now means something inside, alone or among others, or nothing.
	for range 2 {
		if _, err := g.DialContext(t.Context(), "tcp", "rebinding.example:443"); !errors.Is(err, ErrForbidden) {
			t.Error(err)
		}
	}
	if _, err := g.DialContext(t.Context(), "tcp", "rebinding.example:443"); err == nil {
		t.Error("a name without addresses")
	}
	if _, err := g.DialContext(t.Context(), "tcp", "[::1]:443"); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
	if len(n.dialled) != 2 {
		t.Errorf("dialled %v", n.dialled)
	}
}
