// Package netguard dials addresses that somebody else chose, and keeps them from being
// inside our own network.
package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Guard keeps an organization from pointing a sink or an identity provider at what only the gateway can
// reach: itself, its neighbours, the cloud's metadata.
//
// It looks at addresses at the moment of dialling and dials the very address it
// looked at, so a name that resolves differently a moment later gains nothing.
type Guard struct {
	allow   []netip.Prefix // by the operator; never by an organization
	resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns a guard that also lets addresses in the given networks through.
func New(allow []netip.Prefix) *Guard {
	d := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &Guard{allow: allow, resolve: net.DefaultResolver.LookupNetIP, dial: d.DialContext}
}

// ErrForbidden says no more than it must: which addresses a name has inside
// our network is not the organization's business.
var ErrForbidden = errors.New("the target's address is in a range that may not be reached from here")

// DialContext connects to a host and port if every address of the host may be reached.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	addrs := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, ip)
	} else if addrs, err = g.resolve(ctx, "ip", host); err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	if len(addrs) == 0 {
		return nil, errors.New("the target's name has no address")
	}
	// One address inside among several outside is how a name is made to slip through.
	if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !g.allows(a) }) {
		return nil, ErrForbidden
	}
	var failed error
	for _, a := range addrs {
		conn, err := g.dial(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, failed
}

// forbidden are the ranges that are not the public internet, beyond what netip
// can tell by itself. Those that carry an IPv4 address inside are all forbidden:
// nobody needs them to reach a receiver.
var forbidden = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// allows reports whether anybody may connect to the address.
func (g *Guard) allows(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	holds := func(p netip.Prefix) bool { return p.Contains(a) }
	if slices.ContainsFunc(g.allow, holds) {
		return true
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(forbidden, holds)
}

// maxURL is longer than any address a person would configure.
const maxURL = 2048

// URL reads the address of a target. What is plainly wrong or forbidden is refused
// here; what a name resolves to is looked at when it is dialled. The errors are
// written to stand behind a field's name.
func (g *Guard) URL(text string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxURL:
		return nil, errors.New("is longer than 2048 bytes")
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("is not a URL with a host")
	case !slices.Contains(schemes, u.Scheme):
		return nil, errors.New("must begin with " + strings.Join(schemes, ":// or ") + "://")
	case u.User != nil:
		return nil, errors.New("must not hold a user or password: a URL is shown to everybody who may see what it is for")
	case u.Fragment != "":
		return nil, errors.New("must not hold a fragment")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		// What a dialler would make of a zone is not ours to guess; allows refuses it.
		if !g.allows(ip) {
			return nil, errors.New("names an address that may not be reached from here")
		}
	} else if !isHostname(u.Hostname()) || oddAddress(u.Hostname()) {
		return nil, errors.New("has a host that is neither a name nor a plain IP address")
	}
	return u, nil
}

const hostnameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// isHostname reports whether s is written like a name in the DNS. Names in other
// scripts have such a form too (xn--…).
func isHostname(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(hostnameRunes, r) })
}

// oddAddress reports whether a host that netip does not take for an address ends
// in a number all the same: 2130706433, 0x7f.1 and 0177.0.0.1 are the loopback
// address to some resolvers and a name to others.
func oddAddress(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if last == "" || strings.Contains(host, ":") {
		return true
	}
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		last, digits = hex, "0123456789abcdef"
	}
	return strings.Trim(last, digits) == ""
}
