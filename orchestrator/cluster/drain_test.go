package cluster

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/pintle/pintle/internal/pki"
)

// Who has connected before a port is drained is served, and who comes later is refused at once.
func TestADrainedPortServesWhoHasConnected(t *testing.T) {
	ca, err := pki.NewCA("test", clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := NewPort(l, &tls.Config{GetCertificate: ca.Rotating(pki.ServerRequest("api", "api")).GetCertificate}, nil)
	api := port.API()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- port.Run(ctx) }()
	raw, err := net.Dial("tcp", l.Addr().String()) // its handshake is still to come
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		port.mu.Lock()
		pending := len(port.pending)
		port.mu.Unlock()
		if pending == 1 {
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatal("the connection was never taken")
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		port.Drain(t.Context())
	}()
	go func() {
		if conn, err := api.Accept(); err == nil {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn := tls.Client(raw, &tls.Config{RootCAs: ca.Pool(), ServerName: "api", NextProtos: []string{"h2"}})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	<-drained
	if late, err := net.Dial("tcp", l.Addr().String()); err == nil {
		late.Close()
		t.Error("a drained port takes connections")
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
