package drivertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
)

// hall is the target of the reference driver: a line per event, a line per answer.
type hall struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
	password string
	refused  map[string]bool
	busy     bool
	drops    bool
	got      []Received
	seen     map[string]bool
}

const hallMax = 1 << 20

type hallLine struct {
	Password string
	Event    string
}

func openHall(t testing.TB) *hall {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &hall{t: t, addr: l.Addr().String(), conns: map[net.Conn]bool{}, password: "hush", refused: map[string]bool{}, seen: map[string]bool{}}
	x.listen(l)
	t.Cleanup(x.kill)
	return x
}

func (x *hall) listen(l net.Listener) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.listener = l
	x.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			x.mu.Lock()
			x.conns[conn] = true
			x.mu.Unlock()
			x.wg.Go(func() { x.serve(conn) })
		}
	})
}

func (x *hall) kill() {
	x.mu.Lock()
	_ = x.listener.Close()
	for c := range x.conns {
		_ = c.Close()
	}
	x.mu.Unlock()
	x.wg.Wait()
}

func (x *hall) restart() {
	x.kill()
	l, err := net.Listen("tcp", x.addr)
	if err != nil {
		x.t.Fatal(err)
	}
	x.listen(l)
}

func (x *hall) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.conns, conn)
	}()
	in := bufio.NewReaderSize(conn, 3*hallMax)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		var l hallLine
		if err := json.Unmarshal(line, &l); err != nil {
			x.t.Errorf("%v in %.100q", err, line)
			return
		}
		if _, err := fmt.Fprintln(conn, x.take(l)); err != nil {
			return
		}
	}
}

func (x *hall) take(l hallLine) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := Structured(x.t, []byte(l.Event))
	switch {
	case l.Password != x.password:
		return "denied"
	case x.busy:
		return "busy"
	case x.refused[r.Document], len(l.Event) > hallMax:
		return "refused"
	case x.drops && x.seen[r.ID]:
		return "ok"
	}
	x.got, x.seen[r.ID] = append(x.got, r), true
	return "ok"
}

// flaws are what a driver may do wrong.
type flaws struct {
	lies, swaps, goesOn, renames, retriesRefused, refusesBusy, forgetsTime, late, deaf, cancelIsTrouble, believes, tells, blabs,
	leaks, unguarded, oneLife, loses, mixes, hasty, patient, silent, talks bool
}

// reference is the simplest driver there can be: one event after the other.
type reference struct {
	addr, password string
	o              Options
	flaws          flaws
	repeats        int

	turn chan struct{}
	conn net.Conn
	in   *bufio.Reader
	dead bool
}

func newReference(addr, password string, o Options, f flaws) *reference {
	d := &reference{addr: addr, password: password, o: o, flaws: f, turn: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	return d
}

func (d *reference) Deliver(ctx context.Context, batch []driver.Event, until time.Time) []driver.Outcome {
	outs := make([]driver.Outcome, len(batch))
	<-d.turn
	defer func() { d.turn <- struct{}{} }()
	if len(batch) == 0 && d.flaws.talks {
		return make([]driver.Outcome, 1)
	}
	batch = slices.Clone(batch)
	if n := len(batch); d.flaws.swaps && n > 3 {
		batch[0], batch[2] = batch[2], batch[0]
	}
	if d.flaws.lies {
		return driver.All(batch)
	}
	stuck := map[string]bool{}
	for i, e := range batch {
		name := driver.DocumentOf(e)
		if stuck[name] && !d.flaws.goesOn || (ctx.Err() != nil && !d.flaws.deaf || !time.Now().Before(until) && !d.flaws.late) {
			if ctx.Err() != nil && d.flaws.cancelIsTrouble {
				outs[i] = driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: ctx.Err().Error()}
			}
			stuck[name] = true
			continue
		}
		outs[i] = d.send(ctx, e)
		if stuck[name] && d.flaws.goesOn {
			outs[i] = driver.Outcome{}
		}
		stuck[name] = stuck[name] || outs[i].Verdict != driver.Delivered
		if outs[i].Unreachable {
			break
		}
	}
	return outs
}

func (d *reference) send(ctx context.Context, e driver.Event) driver.Outcome {
	limit := d.o.AttemptTimeout
	if d.flaws.hasty {
		limit = 50 * time.Millisecond
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	if d.flaws.patient {
		attempt, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	if d.flaws.deaf {
		attempt = context.WithoutCancel(attempt)
	}
	answer, err := d.ask(attempt, e)
	switch {
	case err != nil && d.flaws.believes && d.conn == nil && answer == "sent":
		return driver.Outcome{Verdict: driver.Delivered}
	case err != nil && ctx.Err() != nil && !d.flaws.cancelIsTrouble:
		return driver.Outcome{}
	case err != nil:
		return driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: d.describe(err)}
	case answer == "ok":
		return driver.Outcome{Verdict: driver.Delivered}
	case answer == "busy" && !d.flaws.refusesBusy:
		o := driver.Outcome{Verdict: driver.Retry, Unreachable: true, Reason: answer, NotBefore: time.Now().Add(time.Minute)}
		if d.flaws.forgetsTime {
			o.NotBefore = time.Time{}
		}
		return o
	case answer == "denied":
		return driver.Outcome{Verdict: driver.Retry, Unreachable: !d.flaws.silent, Reason: answer}
	case d.flaws.retriesRefused:
		return driver.Outcome{Verdict: driver.Retry, Reason: answer}
	}
	return driver.Outcome{Verdict: driver.Refused, Reason: answer}
}

func (d *reference) describe(err error) string {
	switch {
	case d.flaws.tells:
		return "cannot send to " + d.addr
	case d.flaws.blabs:
		return "cannot sign in with " + d.password
	case strings.Contains(err.Error(), netguard.ErrForbidden.Error()):
		return netguard.ErrForbidden.Error()
	}
	return "the connection is lost"
}

// ask sends an event and returns the answer, or "sent" if only that is missing.
func (d *reference) ask(ctx context.Context, e driver.Event) (string, error) {
	if d.dead {
		return "", net.ErrClosed
	}
	if d.conn == nil {
		guard := netguard.New(d.o.Settings().AllowPrivate)
		if d.flaws.unguarded {
			guard = netguard.New(Loopback)
		}
		conn, err := guard.DialContext(ctx, "tcp", d.addr)
		if err != nil {
			return "", err
		}
		d.conn, d.in = conn, bufio.NewReader(conn)
	}
	defer context.AfterFunc(ctx, func() { _ = d.conn.SetDeadline(time.Unix(1, 0)) })()
	text := string(e.Structured())
	if d.flaws.renames {
		d.repeats++
		text = strings.Replace(text, e.ID, fmt.Sprint(e.ID, d.repeats), 1)
	}
	if d.flaws.loses {
		text = strings.Replace(text, `"subject":`, `"about":`, 1)
	}
	if d.flaws.mixes {
		text = strings.ToLower(text)
	}
	line, _ := json.Marshal(hallLine{d.password, text})
	if _, err := d.conn.Write(append(line, '\n')); err != nil {
		d.hangUp()
		return "", err
	}
	answer, err := d.in.ReadString('\n')
	if err != nil {
		d.hangUp()
		return "sent", err
	}
	return strings.TrimSpace(answer), nil
}

func (d *reference) hangUp() {
	_ = d.conn.Close()
	d.conn, d.dead = nil, d.flaws.oneLife
}

func (d *reference) Close() error {
	<-d.turn
	defer func() { d.turn <- struct{}{} }()
	if d.conn != nil && !d.flaws.leaks {
		_ = d.conn.Close()
	}
	d.conn, d.dead = nil, true
	return nil
}
