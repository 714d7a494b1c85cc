package redis

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// A stream is one key and so is on one server of a cluster. Which one, every other
// server says when it is asked for the key: the map of all slots is not needed. The
// address it names is dialled like any other, through the guard: a cluster may be
// told by anybody to name addresses of our own network.

// maxHops is how often a transaction follows such an answer.
const maxHops = 5

var errToAndFro = errors.New("the servers of the cluster send us to and fro")

// redirect is what a server says of a stream that it does not have.
type redirect struct {
	address string
	ask     bool // for this time only: the slot is on its way
}

// redirectOf reads an error of the server at the address given.
func redirectOf(err error, from string) (redirect, bool) {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return redirect{}, false
	}
	return parseRedirect(answer.Error(), from)
}

// parseRedirect reads "MOVED 3999 10.0.0.1:6381" or "ASK …". A server that does not
// know its own name leaves the host out: it is the one we asked it by.
func parseRedirect(text, from string) (redirect, bool) {
	words := strings.Split(text, " ")
	if len(words) != 3 || words[0] != "MOVED" && words[0] != "ASK" {
		return redirect{}, false
	}
	if slot, err := strconv.ParseUint(words[1], 10, 16); err != nil || slot >= 16384 {
		return redirect{}, false
	}
	at := strings.LastIndexByte(words[2], ':')
	if at < 0 {
		return redirect{}, false
	}
	host, port := strings.Trim(words[2][:at], "[]"), words[2][at+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return redirect{}, false
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(from)
	}
	if !isHost(host) {
		return redirect{}, false
	}
	return redirect{address: net.JoinHostPort(host, port), ask: words[0] == "ASK"}, true
}

// isHost reports whether s may be a name or an address; "?" is what a server says
// that does not know.
func isHost(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return r > 0x7f || !driver.IsPlain(byte(r)) && r != '.' && r != ':'
	})
}

// reach returns a connection to the server that has the stream, as far as is known.
// It gives back link, which may be nil, if that is another's.
func (d *redisStream) reach(ctx context.Context, link *redisLink, stream string) (*redisLink, error) {
	d.mu.Lock()
	owner, addresses := d.owners[stream], slices.Clone(d.known)
	d.mu.Unlock()
	if owner != "" {
		addresses = slices.Insert(slices.DeleteFunc(addresses, func(a string) bool { return a == owner }), 0, owner)
	}
	if link != nil && link.address == addresses[0] && !link.gone.Load() {
		return link, nil
	}
	d.give(link)
	var first error
	for _, a := range addresses {
		next, err := d.take(ctx, a)
		if err == nil {
			return next, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
		d.avoid(a)
	}
	return nil, first
}

// send appends a chunk where the stream is. It also returns the connection that it
// used last, which is of no use after an error.
func (d *redisStream) send(ctx context.Context, link *redisLink, batch []driver.Event, chunk []int) (*redisLink, error) {
	stream, asking := d.stream(batch[chunk[0]]), false
	for hop := 0; ; hop++ {
		err := d.append(ctx, link, batch, chunk, asking)
		to, ok := redirectOf(err, link.address)
		switch {
		case !ok || !d.config.Cluster:
			return link, err
		case hop == maxHops:
			return link, errToAndFro
		}
		next, err := d.take(ctx, to.address)
		if err != nil {
			return link, err
		}
		d.give(link) // its transaction was refused whole, and it is as good as before
		link, asking = next, to.ask
		if !to.ask {
			d.learn(stream, to.address)
		}
	}
}

func (d *redisStream) learn(stream, address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.owners) >= maxOwners {
		clear(d.owners) // to be learned again
	}
	d.owners[stream] = address
	if !slices.Contains(d.known, address) && len(d.known) < 2*maxRedisNodes {
		d.known = append(d.known, address)
	}
}

// maxOwners is for how many formations it is remembered where their streams are.
const maxOwners = 4096

// forget has the next batch ask anew where a stream is.
func (d *redisStream) forget(stream string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.owners, stream)
}

// avoid has a server that does not answer asked last.
func (d *redisStream) avoid(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.known, address); i >= 0 {
		d.known = append(slices.Delete(d.known, i, i+1), address)
	}
	for stream, owner := range d.owners {
		if owner == address {
			delete(d.owners, stream)
		}
	}
}
