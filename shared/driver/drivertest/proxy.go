package drivertest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a stretch of network between a driver and a target that a test can
// disturb. Of itself it passes everything on.
type Proxy struct {
	t    testing.TB
	addr string
	wg   sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener  // nil while it refuses
	changed  chan struct{} // closed and made anew whenever something below changes
	target   string
	faults   faults
	held     chan struct{} // closed when a byte is held back by Hang
	conns    map[*conduit]bool
	passed   [2]int64
	count    struct{ accepted, cut int }
	closed   bool
}

// faults is what a proxy does to the bytes it sees.
type faults struct {
	hang  bool
	delay time.Duration
	traps [2]*trap // by way
}

// trap does something once, when so many more bytes have passed.
type trap struct {
	after int64
	do    func()
}

// Which way bytes go.
const (
	toTarget = iota
	toDriver
)

// NewProxy starts a proxy to the address given, which Target may change later.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, addr: l.Addr().String(), listener: l, target: target, changed: make(chan struct{}), held: make(chan struct{}), conns: map[*conduit]bool{}}
	p.wg.Go(func() { p.accept(l) })
	t.Cleanup(p.close)
	return p
}

// Addr is where drivers connect: host and port.
func (p *Proxy) Addr() string { return p.addr }

// Target changes where new connections lead.
func (p *Proxy) Target(addr string) { p.change(func() { p.target = addr }) }

// Heal ends all faults. What Hang has held back goes on its way.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.change(func() {
		p.faults = faults{}
		if p.listener != nil || p.closed {
			return
		}
		// Nobody else asks for this very port, but it can be given to who asks for any.
		var err error
		for range 100 {
			if p.listener, err = net.Listen("tcp", p.addr); err == nil {
				l := p.listener
				p.wg.Go(func() { p.accept(l) })
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		p.t.Errorf("the proxy's port is lost: %v", err)
	})
}

// Hang takes connections and bytes and passes none of them on, either way.
func (p *Proxy) Hang() {
	p.change(func() { p.faults.hang, p.held = true, make(chan struct{}) })
}

// Held is closed when something that was sent since Hang is held back.
func (p *Proxy) Held() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// Delay has every piece of an answer come later.
func (p *Proxy) Delay(d time.Duration) { p.change(func() { p.faults.delay = d }) }

// Refuse severs all connections, and nobody listens any more, until Heal.
func (p *Proxy) Refuse() {
	p.change(func() {
		if p.listener != nil {
			_ = p.listener.Close()
			p.listener = nil
		}
		p.sever()
	})
}

// Cut severs all connections now. New ones may be made.
func (p *Proxy) Cut() { p.change(p.sever) }

// CutRequests severs all connections once, when so many more bytes have gone to
// the target.
func (p *Proxy) CutRequests(after int64) { p.OnRequests(after, p.Cut) }

// CutAnswers severs all connections once, when so many more bytes have come from
// the target. With 0, the next answer is lost whole; what it answers has arrived.
func (p *Proxy) CutAnswers(after int64) { p.arm(toDriver, after, p.Cut) }

// OnRequests calls do once, when so many more bytes have gone to the target, and
// passes nothing on over that connection until it returns.
func (p *Proxy) OnRequests(after int64, do func()) { p.arm(toTarget, after, do) }

func (p *Proxy) arm(way int, after int64, do func()) {
	p.change(func() { p.faults.traps[way] = &trap{after, do} })
}

// Passed is how many bytes have gone to the target and come from it.
func (p *Proxy) Passed() (requests, answers int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed[toTarget], p.passed[toDriver]
}

// Cuts is how many connections the proxy has severed, Accepted how many it has seen.
func (p *Proxy) Cuts() int     { return p.counted(&p.count.cut) }
func (p *Proxy) Accepted() int { return p.counted(&p.count.accepted) }

func (p *Proxy) counted(n *int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *n
}

// Connections is how many are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func (p *Proxy) change(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) close() {
	p.Refuse()
	p.change(func() { p.closed, p.faults = true, faults{} })
	p.wg.Wait()
}

// sever is called with mu held.
func (p *Proxy) sever() {
	for c := range p.conns {
		c.end(true)
		p.count.cut++
	}
	clear(p.conns)
}

func (p *Proxy) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(l, conn) })
	}
}

// conduit is one connection through the proxy.
type conduit struct {
	driver, target net.Conn
	gone           chan struct{}
	once           sync.Once
}

// end closes both sides. What has been passed on must arrive, so the target sees
// an orderly end; the driver sees a reset, as from a crash, if it is to.
func (c *conduit) end(reset bool) {
	c.once.Do(func() {
		close(c.gone)
		if tcp, ok := c.driver.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = c.driver.Close()
		_ = c.target.Close()
	})
}

func (p *Proxy) serve(l net.Listener, conn net.Conn) {
	p.mu.Lock()
	addr := p.target
	p.count.accepted++
	p.mu.Unlock()
	target, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		return
	}
	c := &conduit{driver: conn, target: target, gone: make(chan struct{})}
	defer c.end(false)
	p.mu.Lock()
	usable := p.listener == l // else it was made to refuse meanwhile
	if usable {
		p.conns[c] = true
	}
	p.mu.Unlock()
	if !usable {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(c, conn, target, toTarget) })
	wg.Go(func() { p.pump(c, target, conn, toDriver) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// pump passes on what comes from one side, until the connection ends. One side's
// end is the other's.
func (p *Proxy) pump(c *conduit, from, to net.Conn, way int) {
	defer c.end(false)
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.pass(c, to, buf[:n], way) || err != nil {
			return
		}
	}
}

// pass applies the faults to some bytes and reports whether the connection goes on.
func (p *Proxy) pass(c *conduit, to net.Conn, bytes []byte, way int) bool {
	if !p.hold(c, way) {
		return false
	}
	var sprung *trap
	p.mu.Lock()
	if trap := p.faults.traps[way]; trap != nil {
		if int64(len(bytes)) > trap.after {
			p.faults.traps[way], sprung = nil, trap
		} else {
			trap.after -= int64(len(bytes))
		}
	}
	p.passed[way] += int64(len(bytes))
	p.mu.Unlock()
	if sprung == nil {
		_, err := to.Write(bytes)
		return err == nil
	}
	if _, err := to.Write(bytes[:sprung.after]); err != nil {
		return false
	}
	sprung.do()
	_, err := to.Write(bytes[sprung.after:])
	return err == nil
}

// hold keeps bytes back for as long as the proxy hangs or delays, and reports
// whether the connection is still there then.
func (p *Proxy) hold(c *conduit, way int) bool {
	delayed := false
	for {
		p.mu.Lock()
		f, changed := p.faults, p.changed
		if f.hang {
			select {
			case <-p.held:
			default:
				close(p.held)
			}
		}
		p.mu.Unlock()
		switch {
		case f.hang:
			select {
			case <-changed:
			case <-c.gone:
				return false
			}
		case f.delay > 0 && way == toDriver && !delayed:
			delayed = true
			select {
			case <-time.After(f.delay):
			case <-c.gone:
				return false
			}
		default:
			return true
		}
	}
}
