package ingress

import (
	"io"
	"net"
	"time"
)

// How much of a refused body is read all the same, and for how long.
const (
	lingerBytes = 1 << 20
	lingerTime  = 2 * time.Second
)

// linger reads on for a little while, before an answer that ends the connection: a socket that is closed with
// unread bytes is reset, and the client would lose the answer while it still sends (RFC 9112, section 9.6).
func linger(client net.Conn, body io.Reader) {
	if body == nil {
		return
	}
	client.SetReadDeadline(time.Now().Add(lingerTime))     //nolint:errcheck // a client that is gone shows in the read
	io.Copy(io.Discard, io.LimitReader(body, lingerBytes)) //nolint:errcheck // what comes is of no use
	client.SetReadDeadline(time.Time{})                    //nolint:errcheck // see above
}
