package apiserver

import (
	"crypto/tls"
	"net"
)

// onlyTLS refuses connections in the clear: certificates and tokens must not cross the network so.
type onlyTLS struct{ net.Listener }

func (l onlyTLS) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if _, ok := conn.(*tls.Conn); ok {
			return conn, nil
		}
		_ = conn.Close()
	}
}
