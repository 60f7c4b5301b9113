package nodeapi

import (
	"encoding/base64"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// mux carries numbered channels over one WebSocket: the first byte of each message is the channel's
// number (a digit, with base64).
type mux struct {
	ws     *websocket.Conn
	text   bool // base64 in text messages
	inbox  []*inbox
	wmu    sync.Mutex // one writer at a time, as the library asks
	reader sync.WaitGroup
}

// upgrade makes r's connection a WebSocket that speaks one of the protocols and has n channels. gone
// is called when the connection ends. An error means that the answer is written.
func upgrade(w http.ResponseWriter, r *http.Request, gone func(), n int, protocols ...string) (*mux, error) {
	up := websocket.Upgrader{
		Subprotocols: protocols,
		CheckOrigin:  func(*http.Request) bool { return true }, // the API server authenticates, not cookies
	}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil, errAnswered
	}
	m := &mux{ws: ws}
	p := ws.Subprotocol()
	m.text = p == base64V1 || p == base64V4
	for range n {
		m.inbox = append(m.inbox, newInbox())
	}
	m.reader.Go(func() {
		defer gone()
		defer func() {
			for _, in := range m.inbox {
				in.close()
			}
		}()
		m.read(p == protocolV5)
	})
	return m, nil
}

func (m *mux) protocol() string { return m.ws.Subprotocol() }

func (m *mux) read(closes bool) {
	for {
		_, data, err := m.ws.ReadMessage()
		if err != nil {
			return
		}
		if len(data) == 0 {
			continue
		}
		if closes && data[0] == 255 { // v5: the next byte names a channel that ends
			if len(data) == 2 && int(data[1]) < len(m.inbox) {
				m.inbox[data[1]].close()
			}
			continue
		}
		number, data := int(data[0]), data[1:]
		if m.text {
			number -= '0'
			if data, err = base64.StdEncoding.DecodeString(string(data)); err != nil {
				return
			}
		}
		if number >= 0 && number < len(m.inbox) {
			m.inbox[number].put(data)
		}
	}
}

func (m *mux) write(number int, data []byte) error {
	kind := websocket.BinaryMessage
	msg := make([]byte, 0, len(data)+1)
	if m.text {
		kind = websocket.TextMessage
		msg = base64.StdEncoding.AppendEncode(append(msg, '0'+byte(number)), data)
	} else {
		msg = append(append(msg, byte(number)), data...)
	}
	m.wmu.Lock()
	defer m.wmu.Unlock()
	return m.ws.WriteMessage(kind, msg)
}

// close says goodbye, and returns when nothing reads any more.
func (m *mux) close() {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = m.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
	for _, in := range m.inbox {
		in.close() // a reader of the socket that waits for room goes on
	}
	_ = m.ws.Close()
	m.reader.Wait()
}

func (m *mux) ignore(number int) { m.inbox[number].close() }

func (m *mux) channel(number int) io.ReadWriteCloser { return &channel{m, number} }

type channel struct {
	m      *mux
	number int
}

func (c *channel) Read(p []byte) (int, error) { return c.m.inbox[c.number].Read(p) }

func (c *channel) Write(p []byte) (int, error) {
	if err := c.m.write(c.number, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *channel) Close() error {
	c.m.inbox[c.number].close()
	return nil
}

// maxInbox is how much of one channel waits for its reader before the client has to.
const maxInbox = 1 << 20

// inbox holds what came for a channel and wasn't read yet, so that one slow channel doesn't stop
// pings and the others.
type inbox struct {
	mu     sync.Mutex
	change sync.Cond
	data   []byte
	closed bool
}

func newInbox() *inbox {
	b := &inbox{}
	b.change.L = &b.mu
	return b
}

func (b *inbox) put(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) > maxInbox && !b.closed {
		b.change.Wait()
	}
	if !b.closed {
		b.data = append(b.data, p...)
		b.change.Broadcast()
	}
}

func (b *inbox) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.data) == 0 {
		if b.closed {
			return 0, io.EOF
		}
		b.change.Wait()
	}
	n := copy(p, b.data)
	if b.data = b.data[n:]; len(b.data) == 0 {
		b.data = nil
	}
	b.change.Broadcast()
	return n, nil
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.change.Broadcast()
}
