package wasm

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

var errAgain = errors.New("not ready")

const (
	listenerFD = 3
	firstConn  = 1 << 16 // above any descriptor that wazero gives to files
	backlog    = 128
	drainQuiet = time.Second
	askQuiet   = 5 * time.Second // of a connection that has not asked anything: on a busy host its request may be late
	bellWait   = time.Second
	drainTick  = 20 * time.Millisecond
)

// guest is what the host's functions know of one running module. Its module calls from one
// goroutine; connections and signals come from others.
type guest struct {
	done     <-chan struct{} // closed when the module must end
	exitCode func() uint32   // valid once done is closed
	started  time.Time       // the guest's monotonic clock starts here
	listener net.Listener    // nil: none
	pending  chan net.Conn
	accepted chan struct{} // closed when nothing more is accepted; nil without a listener
	woken    chan struct{} // capacity 1: something that a poll may wait for has changed
	meter    meter
	wg       sync.WaitGroup // accepting and connections
	polls    atomic.Int64   // how often a poll looked at its subscriptions, for the idleness test

	bellMu sync.Mutex // guards bell; held while it is rung
	bell   string     // address of the connection that drain makes, "" before

	mu       sync.Mutex // guards the rest
	conns    map[uint32]*guestConn
	flushing map[*guestConn]struct{} // closed by the guest, not ended yet
	nextConn uint32
	ended    bool
	listenNB bool // true at first: Go takes the flag as it finds it, and a blocking accept would stop the whole guest
}

func newGuest(done <-chan struct{}, exitCode func() uint32, l net.Listener, quota time.Duration, period time.Duration) *guest {
	g := &guest{
		done: done, exitCode: exitCode, started: time.Now(), listener: l, pending: make(chan net.Conn, backlog), woken: make(chan struct{}, 1),
		listenNB: true, conns: map[uint32]*guestConn{}, flushing: map[*guestConn]struct{}{}, nextConn: firstConn,
	}
	g.meter.init(quota, period)
	if l != nil {
		g.accepted = make(chan struct{})
		g.wg.Go(func() {
			defer close(g.accepted)
			g.accept()
		})
	}
	return g
}

func (g *guest) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

func (g *guest) accept() {
	for {
		c, err := g.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, say: others may end
			select {
			case <-g.done:
				return
			case <-time.After(drainTick):
			}
			continue
		}
		if g.isBell(c) {
			_ = c.Close()
			return
		}
		select {
		case g.pending <- c:
			g.wake()
		case <-g.done:
			_ = c.Close()
			return
		}
	}
}

// take gives the guest its next connection.
func (g *guest) take() (uint32, error) {
	select {
	case c := <-g.pending:
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.ended {
			_ = c.Close()
			return 0, net.ErrClosed
		}
		gc := newGuestConn(c, g.wake)
		gc.nonblock = g.listenNB
		for g.conns[g.nextConn] != nil {
			g.nextConn++
		}
		fd := g.nextConn
		if g.nextConn++; g.nextConn >= 1<<30 {
			g.nextConn = firstConn
		}
		g.conns[fd] = gc
		g.wg.Go(func() {
			gc.serve()
			g.mu.Lock()
			delete(g.flushing, gc)
			g.mu.Unlock()
		})
		return fd, nil
	default:
		return 0, errAgain
	}
}

func (g *guest) conn(fd uint32) *guestConn {
	if fd < firstConn {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns[fd]
}

func (g *guest) closeConn(fd uint32) bool {
	g.mu.Lock()
	c := g.conns[fd]
	delete(g.conns, fd)
	if c != nil {
		g.flushing[c] = struct{}{}
	}
	g.mu.Unlock()
	if c != nil {
		c.close(false)
	}
	return c != nil
}

// lastCall closes the listener once all that the kernel had accepted for it is here: a closed listener
// resets what still queues, and on a busy host that is what the proxies sent a moment ago. Connections
// queue in order, so one of our own tells.
func (g *guest) lastCall() {
	defer g.listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), bellWait)
	defer cancel()
	g.bellMu.Lock()
	c, err := new(net.Dialer).DialContext(ctx, "tcp4", g.listener.Addr().String())
	if err == nil {
		defer c.Close()
		g.bell = c.LocalAddr().String()
	}
	g.bellMu.Unlock()
	if err != nil {
		return // the guest has closed it itself, or its queue is full
	}
	select {
	case <-g.accepted:
	case <-g.done:
	}
}

func (g *guest) isBell(c net.Conn) bool {
	g.bellMu.Lock()
	defer g.bellMu.Unlock()
	return g.bell != "" && c.RemoteAddr().String() == g.bell
}

// drain closes the listener and returns when no request is in flight, or the guest has ended. The
// guest keeps its descriptor and sees no more connections: were accept to fail, most guests would
// return from main and cut off the requests that they are answering.
func (g *guest) drain() {
	if g.listener == nil {
		return
	}
	g.lastCall()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for !g.idle(time.Now()) {
		select {
		case <-g.done:
			return
		case <-tick.C:
		}
	}
}

func (g *guest) idle(now time.Time) bool {
	select {
	case <-g.accepted:
	default:
		return false // one may be between the listener and the queue
	}
	if len(g.pending) > 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		if !c.idle(now, drainQuiet) {
			return false
		}
	}
	for c := range g.flushing {
		if !c.idle(now, 0) {
			return false
		}
	}
	return true
}

// end closes what is open and waits for the goroutines. What the guest wrote and closed before it
// ended by itself still goes out, for up to a second; with kill nothing does.
func (g *guest) end(kill bool) {
	if g.listener != nil {
		_ = g.listener.Close()
	}
	g.mu.Lock()
	g.ended = true
	for fd, c := range g.conns {
		g.flushing[c] = struct{}{}
		delete(g.conns, fd)
		c.close(kill)
	}
	all := make([]*guestConn, 0, len(g.flushing))
	for c := range g.flushing {
		all = append(all, c)
	}
	g.mu.Unlock()
	for _, c := range all {
		if kill {
			c.close(true)
		} else {
			_ = c.conn.SetDeadline(time.Now().Add(time.Second))
		}
	}
	for {
		select {
		case c := <-g.pending:
			_ = c.Close()
			continue
		default:
		}
		break
	}
	g.wg.Wait()
}

// wait blocks the guest until something changed, the deadline passed (true) or it must end (panics
// with the exit error, as proc_exit does: wazero turns it into the module's end).
func (g *guest) wait(deadline <-chan time.Time) bool {
	select {
	case <-g.woken:
		return false
	case <-deadline:
		return true
	case <-g.done:
		panic(sys.NewExitError(g.exitCode()))
	}
}

// enter and leave frame each host call: the time between a leave and the next enter is the guest's.
func (g *guest) enter() {
	pause := g.meter.stop(time.Now())
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-g.done:
		}
	}
	select {
	case <-g.done:
		panic(sys.NewExitError(g.exitCode()))
	default:
	}
}

func (g *guest) leave() { g.meter.start(time.Now()) }

// meter counts the time that a guest runs and says how long it must pause to stay within its quota.
type meter struct {
	mu      sync.Mutex // the guest writes, Stats reads
	used    time.Duration
	running time.Time // zero while in the host
	rate    float64   // quota/period; 0: no limit
	burst   float64   // ns
	credit  float64   // ns
	filled  time.Time
}

func (m *meter) init(quota, period time.Duration) {
	if quota <= 0 {
		return
	}
	if period <= 0 {
		period = 100 * time.Millisecond
	}
	m.rate, m.burst, m.filled = float64(quota)/float64(period), float64(quota), time.Now()
	m.credit = m.burst
}

// set makes another quota the meter's from now on.
func (m *meter) set(quota, period time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init(quota, period)
}

func (m *meter) start(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = now
}

func (m *meter) stop(now time.Time) (pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running.IsZero() {
		return 0
	}
	ran := now.Sub(m.running)
	m.running = time.Time{}
	m.used += ran
	if m.rate == 0 {
		return 0
	}
	// The bucket fills with the clock and drains with the guest's running.
	m.credit = min(m.credit+float64(now.Sub(m.filled))*m.rate, m.burst+float64(ran)*m.rate) - float64(ran)
	m.credit = min(m.credit, m.burst)
	m.filled = now
	if m.credit >= 0 {
		return 0
	}
	return time.Duration(-m.credit / m.rate)
}

func (m *meter) total(now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running.IsZero() {
		return m.used
	}
	return m.used + now.Sub(m.running)
}
