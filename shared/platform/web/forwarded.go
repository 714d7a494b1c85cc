package web

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the networks of those who may say for whom they ask. Nobody else's
// word counts: anybody can send a header.
type Proxies []netip.Prefix

// ParseProxies reads networks (CIDR) and addresses with commas between them.
func ParseProxies(text string) (Proxies, error) {
	var out Proxies
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		p, err := netip.ParsePrefix(word)
		if err != nil {
			a, err := netip.ParseAddr(word)
			if err != nil || a.Zone() != "" {
				return nil, errors.New("must be a list of CIDR ranges and addresses")
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Bits() == 0 {
			return nil, errors.New("must not hold a range of all addresses: then everybody would be believed")
		}
		if p.Addr().Is4In6() {
			return nil, errors.New("must write IPv4 as IPv4")
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Trust reports whether what comes from an address is from a proxy of ours.
func (p Proxies) Trust(a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Peer is the address at the other end of a request's connection. It is the zero
// Addr where there is none, as on a Unix socket.
func Peer(r *http.Request) netip.Addr {
	a, _ := parseHop(r.RemoteAddr)
	return a
}

// maxHops is how many addresses are looked at; nobody has that many proxies.
const maxHops = 32

// Caller is the address that a request comes from. X-Forwarded-For grows to the right,
// so it is read from there: as long as it was a proxy of ours who wrote, what it wrote
// is true. Further left stands whatever the caller likes.
func (p Proxies) Caller(r *http.Request) netip.Addr {
	at := Peer(r)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for n := 0; p.Trust(at) && n < maxHops && n < len(hops); n++ {
		next, ok := parseHop(strings.TrimSpace(hops[len(hops)-1-n]))
		if !ok {
			break
		}
		at = next
	}
	return at
}

// parseHop reads an address that may have a port.
func parseHop(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		with, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		a = with.Addr()
	}
	return a.Unmap().WithZone(""), true
}

type addressKey struct{}

// Address returns whom the request of ctx comes from, as far as our own proxies say;
// limits may go by it. It is the zero Addr where that is not known.
func Address(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(addressKey{}).(netip.Addr)
	return a
}

// WithAddress returns a context of a request that comes from an address. Mux does it;
// tests of what lies below may.
func WithAddress(ctx context.Context, a netip.Addr) context.Context {
	return context.WithValue(ctx, addressKey{}, a)
}
