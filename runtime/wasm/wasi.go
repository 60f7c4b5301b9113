package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// Error numbers of WASI preview 1.
const (
	wasiAgain  = 6
	wasiBadf   = 8
	wasiReset  = 15
	wasiFault  = 21
	wasiInval  = 28
	wasiNotdir = 54
	wasiNotsup = 58
	wasiPipe   = 64
	wasiSpipe  = 70
)

const (
	socketStream    = 6    // filetype
	flagNonblock    = 0x04 // fdflags
	preopenOther    = 1    // a preopen that is no folder: libraries skip it
	maxPollSubs     = 1 << 16
	subscriptionLen = 48
	eventLen        = 32
)

// hostFunc answers a call about our descriptors; handled false passes it to wazero's own function.
type hostFunc func(mem api.Memory, stack []uint64) (errno uint32, handled bool)

// exportWASI builds wasi_snapshot_preview1 for one guest: wazero's functions, each counted, with
// sockets and poll replaced. wazero's own accept blocks the whole guest, and its poll cannot wait
// for sockets.
func exportWASI(ctx context.Context, r wazero.Runtime, g *guest) error {
	// The exporter's functions are had from a module that is compiled and never instantiated.
	scratch := r.NewHostModuleBuilder("pintle.wasi")
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(scratch)
	compiled, err := scratch.Compile(ctx)
	if err != nil {
		return fmt.Errorf("build wasi: %w", err)
	}
	defer compiled.Close(ctx)
	own := map[string]hostFunc{
		"fd_read": g.fdRead, "fd_write": g.fdWrite, "fd_close": g.fdClose, "fd_fdstat_get": g.fdstatGet,
		"fd_fdstat_set_flags": g.fdstatSetFlags, "fd_filestat_get": g.filestatGet, "fd_prestat_get": g.prestatGet,
		"poll_oneoff": g.pollOneoff, "sock_accept": g.sockAccept, "sock_recv": g.sockRecv, "sock_send": g.sockSend,
		"sock_shutdown": g.sockShutdown,
	}
	builder := r.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	for name, def := range compiled.ExportedFunctions() {
		original, ok := def.GoFunction().(api.GoModuleFunction)
		if !ok {
			return fmt.Errorf("build wasi: %s is no Go function", name)
		}
		mine := own[name]
		if mine == nil && strings.HasPrefix(name, "fd_") {
			mine = g.notForSockets
		}
		if mine == nil && strings.HasPrefix(name, "path_") {
			mine = g.notAFolder
		}
		call := func(ctx context.Context, mod api.Module, stack []uint64) {
			g.enter()
			if mine != nil {
				if errno, handled := mine(mod.Memory(), stack); handled {
					stack[0] = uint64(errno)
					g.leave()
					return
				}
			}
			original.Call(ctx, mod, stack)
			g.leave()
		}
		builder.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(call), def.ParamTypes(), def.ResultTypes()).Export(name)
	}
	if _, err := builder.Instantiate(ctx); err != nil {
		return fmt.Errorf("build wasi: %w", err)
	}
	return nil
}

func (g *guest) isListener(fd uint32) bool { return g.listener != nil && fd == listenerFD }

// ours says whether a descriptor is a socket, or a number that only sockets have.
func (g *guest) ours(fd uint32) bool { return g.isListener(fd) || fd >= firstConn && fd < 1<<30 }

func (g *guest) notForSockets(_ api.Memory, stack []uint64) (uint32, bool) {
	fd := uint32(stack[0])
	switch {
	case !g.ours(fd):
		return 0, false
	case g.isListener(fd), g.conn(fd) != nil:
		return wasiSpipe, true
	}
	return wasiBadf, true
}

func (g *guest) notAFolder(_ api.Memory, stack []uint64) (uint32, bool) {
	return wasiNotdir, g.ours(uint32(stack[0]))
}

func (g *guest) prestatGet(mem api.Memory, stack []uint64) (uint32, bool) {
	fd, at := uint32(stack[0]), uint32(stack[1])
	if !g.isListener(fd) {
		return wasiBadf, g.ours(fd)
	}
	// Not an error: C libraries stop at the first, and would miss the folders behind it.
	if !mem.WriteUint32Le(at, preopenOther) || !mem.WriteUint32Le(at+4, 0) {
		return wasiFault, true
	}
	return 0, true
}

func (g *guest) fdstatGet(mem api.Memory, stack []uint64) (uint32, bool) {
	fd, at := uint32(stack[0]), uint32(stack[1])
	if !g.ours(fd) {
		return 0, false
	}
	var b [24]byte
	b[0] = socketStream
	var nonblock bool
	if g.isListener(fd) {
		nonblock = g.listenNonblock()
	} else if c := g.conn(fd); c != nil {
		c.mu.Lock()
		nonblock = c.nonblock
		c.mu.Unlock()
	} else {
		return wasiBadf, true
	}
	if nonblock {
		b[2] = flagNonblock
	}
	binary.LittleEndian.PutUint64(b[8:], 1<<30-1) // all rights; nobody checks them
	if !mem.Write(at, b[:]) {
		return wasiFault, true
	}
	return 0, true
}

func (g *guest) listenNonblock() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.listenNB
}

func (g *guest) fdstatSetFlags(_ api.Memory, stack []uint64) (uint32, bool) {
	fd, nonblock := uint32(stack[0]), stack[1]&flagNonblock != 0
	if g.isListener(fd) {
		g.mu.Lock()
		g.listenNB = nonblock
		g.mu.Unlock()
		return 0, true
	}
	if c := g.conn(fd); c != nil {
		c.mu.Lock()
		c.nonblock = nonblock
		c.mu.Unlock()
		return 0, true
	}
	return wasiBadf, g.ours(fd)
}

func (g *guest) filestatGet(mem api.Memory, stack []uint64) (uint32, bool) {
	fd, at := uint32(stack[0]), uint32(stack[1])
	if !g.ours(fd) {
		return 0, false
	}
	if !g.isListener(fd) && g.conn(fd) == nil {
		return wasiBadf, true
	}
	var b [64]byte
	b[16] = socketStream
	if !mem.Write(at, b[:]) {
		return wasiFault, true
	}
	return 0, true
}

func (g *guest) fdClose(_ api.Memory, stack []uint64) (uint32, bool) {
	fd := uint32(stack[0])
	switch {
	case g.isListener(fd):
		_ = g.listener.Close()
		return 0, true
	case !g.ours(fd):
		return 0, false
	case g.closeConn(fd):
		return 0, true
	}
	return wasiBadf, true
}

func (g *guest) sockAccept(mem api.Memory, stack []uint64) (uint32, bool) {
	fd, flags, at := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if !g.isListener(fd) {
		return wasiBadf, true
	}
	for {
		conn, err := g.take()
		switch {
		case err == nil:
			if flags&flagNonblock != 0 {
				if c := g.conn(conn); c != nil {
					c.mu.Lock()
					c.nonblock = true
					c.mu.Unlock()
				}
			}
			if !mem.WriteUint32Le(at, conn) {
				g.closeConn(conn)
				return wasiFault, true
			}
			return 0, true
		case !errors.Is(err, errAgain):
			return wasiInval, true
		case g.listenNonblock():
			return wasiAgain, true
		}
		g.wait(nil)
	}
}

// vectors returns the guest's buffers; writes to them are writes to its memory.
func vectors(mem api.Memory, at, count uint32) ([][]byte, bool) {
	if count > 1024 {
		return nil, false
	}
	out := make([][]byte, 0, count)
	for i := range count {
		p, ok1 := mem.ReadUint32Le(at + i*8)
		n, ok2 := mem.ReadUint32Le(at + i*8 + 4)
		if !ok1 || !ok2 {
			return nil, false
		}
		b, ok := mem.Read(p, n)
		if !ok {
			return nil, false
		}
		if n > 0 {
			out = append(out, b)
		}
	}
	return out, true
}

func (g *guest) transfer(mem api.Memory, fd, iovs, count, result uint32, move func(*guestConn, []byte) (int, error)) uint32 {
	c := g.conn(fd)
	if c == nil {
		if g.isListener(fd) {
			return wasiNotsup
		}
		return wasiBadf
	}
	buffers, ok := vectors(mem, iovs, count)
	if !ok {
		return wasiFault
	}
	total := 0
	for _, b := range buffers {
		n, err := move(c, b)
		for errors.Is(err, errAgain) && total == 0 {
			c.mu.Lock()
			nonblock := c.nonblock
			c.mu.Unlock()
			if nonblock {
				return wasiAgain
			}
			g.wait(nil)
			n, err = move(c, b)
		}
		total += n
		if errors.Is(err, io.EOF) || err == nil && n == len(b) {
			continue
		}
		if err != nil && total == 0 {
			return connErrno(err)
		}
		break
	}
	if !mem.WriteUint32Le(result, uint32(total)) {
		return wasiFault
	}
	return 0
}

func connErrno(err error) uint32 {
	if strings.Contains(err.Error(), "broken pipe") {
		return wasiPipe
	}
	return wasiReset
}

func (g *guest) fdRead(mem api.Memory, stack []uint64) (uint32, bool) {
	if !g.ours(uint32(stack[0])) {
		return 0, false
	}
	return g.transfer(mem, uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3]), func(c *guestConn, p []byte) (int, error) { return c.read(p, false) }), true
}

func (g *guest) fdWrite(mem api.Memory, stack []uint64) (uint32, bool) {
	if !g.ours(uint32(stack[0])) {
		return 0, false
	}
	return g.transfer(mem, uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3]), (*guestConn).write), true
}

func (g *guest) sockRecv(mem api.Memory, stack []uint64) (uint32, bool) {
	peek := stack[3]&1 != 0
	if stack[3]&^1 != 0 {
		return wasiNotsup, true // MSG_WAITALL
	}
	errno := g.transfer(mem, uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[4]), func(c *guestConn, p []byte) (int, error) { return c.read(p, peek) })
	if errno == 0 && !mem.WriteUint16Le(uint32(stack[5]), 0) {
		return wasiFault, true
	}
	return errno, true
}

func (g *guest) sockSend(mem api.Memory, stack []uint64) (uint32, bool) {
	return g.transfer(mem, uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[4]), (*guestConn).write), true
}

func (g *guest) sockShutdown(_ api.Memory, stack []uint64) (uint32, bool) {
	c := g.conn(uint32(stack[0]))
	if c == nil {
		return wasiBadf, true
	}
	c.shutdown(stack[1]&1 != 0, stack[1]&2 != 0)
	return 0, true
}

// pollOneoff waits until a subscribed socket is ready or the earliest clock has struck. All other
// descriptors, files and the standard streams, are always ready.
func (g *guest) pollOneoff(mem api.Memory, stack []uint64) (uint32, bool) {
	in, out, count, result := uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3])
	if count == 0 || count > maxPollSubs {
		return wasiInval, true
	}
	view, ok := mem.Read(in, count*subscriptionLen)
	if !ok {
		return wasiFault, true
	}
	subs := append([]byte(nil), view...) // in and out may overlap
	began := time.Now()
	deadline, timed := g.earliest(subs, began)
	var strike <-chan time.Time
	if timed && deadline.After(began) {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		strike = t.C
	}
	for {
		g.polls.Add(1)
		if n := g.ready(mem, subs, out, began, time.Now()); n > 0 {
			if !mem.WriteUint32Le(result, n) {
				return wasiFault, true
			}
			return 0, true
		}
		g.wait(strike)
	}
}

// strikes is when a clock subscription is due.
func (g *guest) strikes(sub []byte, began time.Time) time.Time {
	timeout := time.Duration(min(binary.LittleEndian.Uint64(sub[24:]), 1<<62))
	if sub[40]&1 == 0 {
		return began.Add(timeout)
	}
	if binary.LittleEndian.Uint32(sub[16:]) == 0 {
		return time.Unix(0, int64(timeout))
	}
	return g.started.Add(timeout)
}

func (g *guest) earliest(subs []byte, began time.Time) (when time.Time, ok bool) {
	for ; len(subs) > 0; subs = subs[subscriptionLen:] {
		if subs[8] != 0 {
			continue
		}
		if t := g.strikes(subs, began); !ok || t.Before(when) {
			when, ok = t, true
		}
	}
	return when, ok
}

// ready writes an event for each subscription that is due and returns how many.
func (g *guest) ready(mem api.Memory, subs []byte, out uint32, began, now time.Time) (n uint32) {
	for ; len(subs) > 0; subs = subs[subscriptionLen:] {
		var event [eventLen]byte
		copy(event[:8], subs[:8])
		kind := subs[8]
		event[10] = kind
		if kind == 0 {
			if g.strikes(subs, began).After(now) {
				continue
			}
		} else if size, errno, due := g.descriptorReady(binary.LittleEndian.Uint32(subs[16:]), kind == 2); !due {
			continue
		} else {
			binary.LittleEndian.PutUint16(event[8:], errno)
			binary.LittleEndian.PutUint64(event[16:], uint64(size))
		}
		if !mem.Write(out+n*eventLen, event[:]) {
			return n
		}
		n++
	}
	return n
}

func (g *guest) descriptorReady(fd uint32, write bool) (size int, errno uint16, due bool) {
	if !g.ours(fd) {
		return 1, 0, true
	}
	if g.isListener(fd) {
		return len(g.pending), 0, len(g.pending) > 0 && !write
	}
	c := g.conn(fd)
	if c == nil {
		return 0, wasiBadf, true
	}
	if write {
		size, due = c.writable()
	} else {
		size, due = c.readable()
	}
	return size, 0, due
}
