package nodelink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// lineTimeout bounds the wait for the first line.
	lineTimeout = 10 * time.Second
	// pingEvery and silence say how soon a broken connection is noticed.
	pingEvery = 5 * time.Second
	silence   = 15 * time.Second
	maxLine   = 64
)

// Switch is the server's end: it knows the nodes that are connected. Its zero value is ready; methods
// are safe for concurrent use.
type Switch struct {
	// mu guards what follows.
	mu    sync.Mutex
	nodes map[string]*control
	calls map[uint64]*call
	last  uint64
}

type control struct {
	conn net.Conn
	// write is held while a line is written.
	write sync.Mutex
}

type call struct {
	node     string
	answered chan net.Conn // one
}

// Serve takes a connection of node and returns when it has ended, or is a caller's.
func (s *Switch) Serve(ctx context.Context, node string, conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(lineTimeout))
	line, err := readLine(conn)
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("node %s: first line: %w", node, err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	if line == "control" {
		return s.control(ctx, node, conn)
	}
	text, ok := strings.CutPrefix(line, "call ")
	id, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		_ = conn.Close()
		return fmt.Errorf("node %s: first line %q is not understood", node, line)
	}
	s.mu.Lock()
	c := s.calls[id]
	if c != nil && c.node == node {
		delete(s.calls, id)
		c.answered <- conn
		conn = nil
	}
	s.mu.Unlock()
	if conn != nil { // nobody waits any more
		return conn.Close()
	}
	return nil
}

// control serves a control connection until it breaks, ctx ends, or the node has dialled a newer one.
func (s *Switch) control(ctx context.Context, node string, conn net.Conn) error {
	c := &control{conn: conn}
	s.mu.Lock()
	if s.nodes == nil {
		s.nodes = map[string]*control{}
	}
	if old := s.nodes[node]; old != nil {
		_ = old.conn.Close()
	}
	s.nodes[node] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.nodes[node] == c {
			delete(s.nodes, node)
		}
	}()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	pings := time.NewTicker(pingEvery)
	defer pings.Stop()
	ended := make(chan struct{})
	defer func() { <-ended }()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(ended)
		for {
			select {
			case <-pings.C:
				if c.say("ping") != nil {
					_ = conn.Close()
				}
			case <-stop:
				return
			}
		}
	}()
	lines := bufio.NewReaderSize(conn, maxLine)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		if _, err := lines.ReadSlice('\n'); err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("node %s: control connection: %w", node, err)
		}
	}
}

func (c *control) say(line string) error {
	c.write.Lock()
	defer c.write.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(silence))
	_, err := io.WriteString(c.conn, line+"\n")
	return err
}

// Dial connects to the node. It is an error at once when the node isn't connected here.
func (s *Switch) Dial(ctx context.Context, node string) (net.Conn, error) {
	s.mu.Lock()
	to := s.nodes[node]
	if to == nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("node %q is not connected to this server", node)
	}
	s.last++
	id := s.last
	c := &call{node: node, answered: make(chan net.Conn, 1)}
	if s.calls == nil {
		s.calls = map[uint64]*call{}
	}
	s.calls[id] = c
	s.mu.Unlock()
	err := to.say("call " + strconv.FormatUint(id, 10))
	if err == nil {
		select {
		case conn := <-c.answered:
			return conn, nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	s.mu.Lock()
	delete(s.calls, id)
	s.mu.Unlock()
	select {
	case conn := <-c.answered: // it came all the same
		_ = conn.Close()
	default:
	}
	return nil, fmt.Errorf("connect to node %q: %w", node, err)
}

// Connected says whether the node has a control connection here.
func (s *Switch) Connected(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[node] != nil
}

// readLine reads one line and not a byte more: what follows is somebody else's.
func readLine(conn net.Conn) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for len(line) < maxLine {
		if _, err := conn.Read(b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
	return "", errors.New("the line is too long")
}
