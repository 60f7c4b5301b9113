package nodelink

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// server is a Switch behind a port.
type server struct {
	Switch
	l      net.Listener
	cancel context.CancelFunc
	served sync.WaitGroup
}

func newServer(t *testing.T) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{l: l, cancel: cancel}
	s.served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.served.Go(func() { _ = s.Serve(ctx, "n1", conn) })
		}
	})
	return s
}

func (s *server) stop() {
	s.cancel()
	s.l.Close()
	s.served.Wait()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func TestServersReachANodeThatListensOnNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, b := newServer(t), newServer(t)
	defer a.stop()
	ctx, cancel := context.WithCancel(t.Context())
	link := New(Config{
		Servers: func() []string { return []string{a.l.Addr().String(), b.l.Addr().String()} },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		},
	})
	var running sync.WaitGroup
	running.Go(func() { _ = link.Run(ctx) })
	running.Go(func() {
		for {
			conn, err := link.Accept()
			if err != nil {
				return
			}
			running.Go(func() { _, _ = io.Copy(conn, conn); conn.Close() })
		}
	})
	defer running.Wait()
	defer cancel()
	for _, s := range []*server{a, b} {
		eventually(t, "the node is connected", func() bool { return s.Connected("n1") })
		var calls sync.WaitGroup
		for i := range 20 {
			calls.Go(func() {
				conn, err := s.Dial(t.Context(), "n1")
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				said := fmt.Sprintf("call number %d", i)
				io.WriteString(conn, said)
				heard := make([]byte, len(said))
				if _, err := io.ReadFull(conn, heard); err != nil || string(heard) != said {
					t.Errorf("heard %q: %v", heard, err)
				}
			})
		}
		calls.Wait()
	}
	if _, err := a.Dial(t.Context(), "n2"); err == nil {
		t.Error("a node that is not there was reached")
	}
	b.stop() // the other server goes on
	conn, err := a.Dial(t.Context(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestACallNamesItsNode(t *testing.T) {
	var s Switch
	there, here := net.Pipe()
	defer there.Close()
	go func() { _ = s.Serve(t.Context(), "n1", here) }()
	io.WriteString(there, "control\n")
	eventually(t, "the node is connected", func() bool { return s.Connected("n1") })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	dialled := make(chan error, 1)
	go func() { _, err := s.Dial(ctx, "n1"); dialled <- err }()
	line, err := readLine(there)
	if err != nil {
		t.Fatal(err)
	}
	// Another node that guesses the number gets nothing of the call.
	mallory, end := net.Pipe()
	go func() { _ = s.Serve(t.Context(), "mallory", end) }()
	io.WriteString(mallory, line+"\n")
	if _, err := mallory.Read(make([]byte, 1)); err == nil {
		t.Error("another node's connection was kept")
	}
	if err := <-dialled; err == nil {
		t.Error("the call was answered by another node")
	}
}
