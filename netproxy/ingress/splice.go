package ingress

import (
	"context"
	"io"
	"net"
)

// splice joins a client that switched protocols with its endpoint until both ends have ended.
func splice(ctx context.Context, client net.Conn, up *upConn, head []byte) {
	stop := context.AfterFunc(ctx, func() { client.Close(); up.Close() })
	defer stop()
	defer up.Close()
	if _, err := client.Write(head); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up.Conn, client)
		if cw, ok := up.Conn.(interface{ CloseWrite() error }); ok {
			cw.CloseWrite()
		} else {
			up.Close()
		}
	}()
	io.Copy(client, up.br)
	client.Close()
	up.Close()
	<-done
}
