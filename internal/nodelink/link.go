package nodelink

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

// Link is the node's end: a net.Listener of the calls that servers make. Run it, and Accept.
type Link struct {
	cfg   Config
	calls chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Config says whom a Link connects to.
type Config struct {
	// Servers are the addresses of all servers, as they are now. It is asked each time a second has gone by.
	Servers func() []string
	// Dial connects to one, authenticated.
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Logger *slog.Logger // nil discards
}

// New makes a Link. It starts nothing.
func New(cfg Config) *Link {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Link{cfg: cfg, calls: make(chan net.Conn), done: make(chan struct{})}
}

// Run keeps a control connection to every server until ctx ends.
func (l *Link) Run(ctx context.Context) error {
	defer l.Close()
	kept := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		wanted := map[string]bool{}
		for _, address := range l.cfg.Servers() {
			wanted[address] = true
			if kept[address] == nil {
				keepCtx, cancel := context.WithCancel(ctx)
				kept[address] = cancel
				running.Go(func() { l.keep(keepCtx, address) })
			}
		}
		for address, cancel := range kept {
			if !wanted[address] {
				cancel()
				delete(kept, address)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, cancel := range kept {
				cancel()
			}
			return nil
		}
	}
}

// keep dials a server again and again, and serves the control connection.
func (l *Link) keep(ctx context.Context, address string) {
	const shortest, longest = 100 * time.Millisecond, 5 * time.Second
	wait := shortest
	for ctx.Err() == nil {
		begun := time.Now()
		err := l.control(ctx, address)
		if ctx.Err() != nil {
			return
		}
		l.cfg.Logger.Debug("no connection to a server", "server", address, "error", err)
		if time.Since(begun) > longest {
			wait = shortest
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, longest)
	}
}

func (l *Link) control(ctx context.Context, address string) error {
	conn, err := l.dial(ctx, address, "control")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var calls sync.WaitGroup
	defer calls.Wait()
	lines := bufio.NewReaderSize(conn, maxLine)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return err
		}
		text := strings.TrimSuffix(string(line), "\n")
		if text == "ping" {
			_ = conn.SetWriteDeadline(time.Now().Add(silence))
			if _, err := io.WriteString(conn, "pong\n"); err != nil {
				return err
			}
			continue
		}
		if strings.HasPrefix(text, "call ") {
			calls.Go(func() { l.answer(ctx, address, text) })
		}
	}
}

// answer dials the connection for one call and offers it to Accept.
func (l *Link) answer(ctx context.Context, address, line string) {
	conn, err := l.dial(ctx, address, line)
	if err != nil {
		l.cfg.Logger.Debug("a call could not be answered", "server", address, "error", err)
		return
	}
	select {
	case l.calls <- plain{conn}:
	case <-l.done:
		_ = conn.Close()
	case <-ctx.Done():
		_ = conn.Close()
	}
}

// plain hides that a connection is TLS: net/http drops those whose protocol it doesn't know.
type plain struct{ net.Conn }

func (l *Link) dial(ctx context.Context, address, line string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, lineTimeout)
	defer cancel()
	conn, err := l.cfg.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(lineTimeout))
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = conn.SetWriteDeadline(time.Time{})
	return conn, nil
}

// Accept waits for a call.
func (l *Link) Accept() (net.Conn, error) {
	select {
	case conn := <-l.calls:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. Calls that were accepted go on.
func (l *Link) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is a fixed name; nothing can be dialled by it.
func (l *Link) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "nodelink" }
func (addr) String() string  { return "nodelink" }
