package wasm

import (
	"net"
	goruntime "runtime"
	"testing"
)

// What the kernel accepted before the order to end reaches the guest, however late its acceptor is.
func TestDrainTakesWhatTheKernelHadAccepted(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	late := &lateListener{Listener: tcp, goOn: make(chan struct{})}
	done := make(chan struct{})
	g := newGuest(done, func() uint32 { return 0 }, late, 0, 0)
	const queued = 5
	for range queued {
		c, err := net.Dial("tcp4", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	called := make(chan struct{})
	go func() {
		defer close(called)
		g.lastCall()
	}()
	for rung := false; !rung; {
		select {
		case <-called:
			t.Fatal("the listener was closed without waiting for them")
		default:
			goruntime.Gosched()
		}
		g.bellMu.Lock()
		rung = g.bell != ""
		g.bellMu.Unlock()
	}
	close(late.goOn)
	<-called
	if len(g.pending) != queued {
		t.Errorf("%d of %d connections came", len(g.pending), queued)
	}
	if c, err := net.Dial("tcp4", tcp.Addr().String()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
	close(done)
	g.end(true)
}

// lateListener accepts nothing before goOn.
type lateListener struct {
	net.Listener
	goOn chan struct{}
}

func (l *lateListener) Accept() (net.Conn, error) {
	<-l.goOn
	return l.Listener.Accept()
}
