package raftstore

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// The store's own calls between members. A connection carries many at once: a frame is
//
//	length u32 of what follows, call u64, kind or status u8, payload
//
// little-endian; an answer has the number of its call. The payload is a protobuf message of
// store.proto, or, where the status says so, an error.
const (
	callHeader = 4 + 8 + 1
	maxCall    = 64 << 20
	// callWait bounds a call whose caller has all the time in the world; it is asked again then.
	callWait = 10 * time.Second
)

type callKind uint8

const (
	callPropose   callKind = 1 // Proposals → Results
	callReadIndex callKind = 2 // nothing → index
	callTerm      callKind = 3 // nothing → term
	callStatus    callKind = 4 // nothing → MemberStatus
	callChange    callKind = 5 // MemberChange → nothing
	callList      callKind = 6 // nothing → MemberList
	callKeepAlive callKind = 7 // lease → nothing
)

const (
	statusOK    = 0
	statusError = 1
)

// errPeerLost: the connection broke before the answer came. The call may have had its effect.
var errPeerLost = errors.New("raftstore: the connection to the member broke")

func appendCall(b []byte, call uint64, kind uint8, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(8+1+len(payload)))
	b = binary.LittleEndian.AppendUint64(b, call)
	b = append(b, kind)
	return append(b, payload...)
}

func readCall(r *bufio.Reader) (call uint64, kind uint8, payload []byte, err error) {
	var head [callHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 9 || n > maxCall {
		return 0, 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrCorrupt, n)
	}
	payload = make([]byte, n-9)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, 0, nil, err
	}
	return binary.LittleEndian.Uint64(head[4:]), head[12], payload, nil
}

// frameWriter writes frames of many goroutines; what gathers while one is written goes out at once.
type frameWriter struct {
	c net.Conn

	mu      sync.Mutex
	buf     []byte
	spare   []byte
	writing bool
	err     error
}

func (w *frameWriter) write(call uint64, kind uint8, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.buf = appendCall(w.buf, call, kind, payload)
	if w.writing {
		return nil // whoever writes takes it along
	}
	w.writing = true
	for len(w.buf) > 0 && w.err == nil {
		b := w.buf
		w.buf = w.spare[:0]
		w.mu.Unlock()
		_ = w.c.SetWriteDeadline(time.Now().Add(callWait))
		_, err := w.c.Write(b)
		w.mu.Lock()
		w.spare = b
		if cap(b) > 4<<20 {
			w.spare = nil
		}
		if err != nil {
			w.err = fmt.Errorf("%w: %w", errPeerLost, err)
			_ = w.c.Close() // the reader sees it, and ends every call
		}
	}
	w.writing = false
	return w.err
}

// peer is a connection to another member, for calls.
type peer struct {
	w    frameWriter
	done chan struct{} // closed when it is of no more use

	mu    sync.Mutex
	next  uint64
	calls map[uint64]chan answer
	lost  bool
}

type answer struct {
	status  uint8
	payload []byte
}

func newPeer(c net.Conn) *peer {
	return &peer{w: frameWriter{c: c}, done: make(chan struct{}), calls: map[uint64]chan answer{}}
}

// read takes the answers until the connection ends.
func (p *peer) read() {
	r := bufio.NewReaderSize(p.w.c, 64<<10)
	for {
		call, status, payload, err := readCall(r)
		if err != nil {
			break
		}
		p.mu.Lock()
		c := p.calls[call]
		delete(p.calls, call)
		p.mu.Unlock()
		if c != nil {
			c <- answer{status, payload}
		}
	}
	_ = p.w.c.Close()
	p.mu.Lock()
	p.lost = true
	p.mu.Unlock()
	close(p.done)
}

func (p *peer) call(ctx context.Context, kind callKind, payload []byte) ([]byte, error) {
	c := make(chan answer, 1)
	p.mu.Lock()
	if p.lost {
		p.mu.Unlock()
		return nil, errPeerLost
	}
	p.next++
	call := p.next
	p.calls[call] = c
	p.mu.Unlock()
	if err := p.w.write(call, uint8(kind), payload); err != nil {
		return nil, err
	}
	select {
	case a := <-c:
		if a.status != statusOK {
			return nil, decodeError(a.payload)
		}
		return a.payload, nil
	case <-p.done:
		select {
		case a := <-c: // it came just before
			if a.status != statusOK {
				return nil, decodeError(a.payload)
			}
			return a.payload, nil
		default:
		}
		return nil, errPeerLost
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.calls, call)
		p.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

// peers keeps one connection to each member that is called.
type peers struct {
	h       *hub
	reading sync.WaitGroup

	mu      sync.Mutex
	byAddr  map[string]*peer
	dialing map[string]chan struct{}
	ended   bool
}

func newPeers(h *hub) *peers {
	return &peers{h: h, byAddr: map[string]*peer{}, dialing: map[string]chan struct{}{}}
}

// to returns the connection to the address, and dials if there is none.
func (ps *peers) to(ctx context.Context, address string) (*peer, error) {
	for {
		ps.mu.Lock()
		if ps.ended {
			ps.mu.Unlock()
			return nil, errHubClosed
		}
		if p := ps.byAddr[address]; p != nil {
			select {
			case <-p.done:
				delete(ps.byAddr, address)
			default:
				ps.mu.Unlock()
				return p, nil
			}
		}
		if d := ps.dialing[address]; d != nil {
			ps.mu.Unlock()
			select {
			case <-d:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		d := make(chan struct{})
		ps.dialing[address] = d
		ps.mu.Unlock()
		c, err := ps.h.dial(ctx, address, connCall)
		ps.mu.Lock()
		delete(ps.dialing, address)
		close(d)
		var p *peer
		if err == nil && ps.ended {
			_ = c.Close()
			err = errHubClosed
		}
		if err == nil {
			p = newPeer(c)
			ps.byAddr[address] = p
			ps.reading.Go(p.read)
		}
		ps.mu.Unlock()
		return p, err
	}
}

// call asks the member at the address. It ends by itself after callWait.
func (ps *peers) call(ctx context.Context, address string, kind callKind, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	p, err := ps.to(ctx, address)
	if err != nil {
		return nil, err
	}
	return p.call(ctx, kind, payload)
}

// close follows the hub's: every connection is ended already.
func (ps *peers) close() {
	ps.mu.Lock()
	ps.ended = true
	ps.mu.Unlock()
	ps.reading.Wait()
}

// serveCalls answers the calls of one connection until it ends. handle runs on a goroutine for each.
func serveCalls(ctx context.Context, c net.Conn, handle func(context.Context, callKind, []byte) ([]byte, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var handling sync.WaitGroup
	defer handling.Wait()
	defer cancel()
	w := &frameWriter{c: c}
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		call, kind, payload, err := readCall(r)
		if err != nil {
			_ = c.Close()
			return
		}
		handling.Go(func() {
			out, err := handle(ctx, callKind(kind), payload)
			status := uint8(statusOK)
			if err != nil {
				status, out = statusError, encodeError(err)
			}
			_ = w.write(call, status, out)
		})
	}
}
