package guest

import (
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"strings"
)

const wasiName = "wasi_snapshot_preview1"

// system is the state of WASI in one instance.
type system struct {
	log    *slog.Logger
	logged int    // bytes of the current call
	now    uint64 // ns since the instance began; moves only while the guest sleeps
	random uint64
	stdin  int // bytes read
}

// epoch is what the guest's clock shows when it begins, in ns of Unix time: 2020-01-01. It is the same everywhere, so
// that what guests decide is too.
const epoch = 1577836800e9

// maxLog bounds what one call may write to the log through WASI, in bytes.
const maxLog = 16 << 10

// Errors of WASI preview 1.
const (
	wasiOK     = 0
	wasiBadf   = 8
	wasiFault  = 21
	wasiInval  = 28
	wasiNosys  = 52
	wasiNotsup = 58
	wasiSpipe  = 70
)

// wasi is WASI preview 1 as a deterministic nothing: every function is there, and all but a few say that there is no
// such file, or no such thing at all.
func wasi() HostModule {
	h := HostModule{Name: wasiName}
	add := func(name, params string, call func(in *Instance, s []uint64) (uint32, error)) {
		f := HostFunc{Name: name, Results: []ValueType{I32}}
		for _, p := range params {
			f.Params = append(f.Params, map[rune]ValueType{'i': I32, 'I': I64}[p])
		}
		f.Call = func(_ context.Context, in *Instance, s []uint64) error {
			errno, err := call(in, s)
			s[0] = uint64(errno)
			return err
		}
		h.Funcs = append(h.Funcs, f)
	}
	says := func(errno uint32) func(*Instance, []uint64) (uint32, error) {
		return func(*Instance, []uint64) (uint32, error) { return errno, nil }
	}

	add("args_sizes_get", "ii", func(in *Instance, s []uint64) (uint32, error) {
		size := 0
		for _, a := range in.Args {
			size += len(a) + 1
		}
		return in.put32(s[0], len(in.Args), s[1], size), nil
	})
	add("args_get", "ii", func(in *Instance, s []uint64) (uint32, error) {
		at, text := uint32(s[0]), uint32(s[1])
		for _, a := range in.Args {
			if in.Write(at, binary.LittleEndian.AppendUint32(nil, text)) != nil || in.Write(text, append([]byte(a), 0)) != nil {
				return wasiFault, nil
			}
			at, text = at+4, text+uint32(len(a))+1
		}
		return wasiOK, nil
	})
	add("environ_sizes_get", "ii", func(in *Instance, s []uint64) (uint32, error) { return in.put32(s[0], 0, s[1], 0), nil })
	add("environ_get", "ii", says(wasiOK))
	add("clock_res_get", "ii", func(in *Instance, s []uint64) (uint32, error) {
		if uint32(s[0]) > 3 {
			return wasiInval, nil
		}
		return in.put64(s[1], 1e6), nil
	})
	add("clock_time_get", "iIi", func(in *Instance, s []uint64) (uint32, error) {
		switch uint32(s[0]) {
		case 0:
			return in.put64(s[2], epoch+in.system.now), nil
		case 1, 2, 3:
			return in.put64(s[2], 1e9+in.system.now), nil // Go's runtime refuses a monotonic clock that shows zero
		}
		return wasiInval, nil
	})
	add("fd_write", "iiii", fdWrite)
	add("fd_read", "iiii", fdRead)
	add("fd_fdstat_get", "ii", func(in *Instance, s []uint64) (uint32, error) {
		if uint32(s[0]) > 2 {
			return wasiBadf, nil
		}
		stat := make([]byte, 24)
		stat[0] = 2                                                                // a character device, so that nobody buffers for its sake
		binary.LittleEndian.PutUint64(stat[8:], []uint64{2, 64, 64}[uint32(s[0])]) // the right to read, or to write
		return fault(in.Write(uint32(s[1]), stat)), nil
	})
	add("fd_filestat_get", "ii", func(in *Instance, s []uint64) (uint32, error) {
		if uint32(s[0]) > 2 {
			return wasiBadf, nil
		}
		stat := make([]byte, 64)
		stat[16] = 2
		return fault(in.Write(uint32(s[1]), stat)), nil
	})
	add("poll_oneoff", "iiii", poll)
	add("random_get", "ii", func(in *Instance, s []uint64) (uint32, error) {
		if err := in.Charge(uint64(uint32(s[1]))); err != nil {
			return 0, err
		}
		b, err := in.Read(uint32(s[0]), uint32(s[1]))
		for i := range b {
			b[i] = in.system.randomByte()
		}
		return fault(err), nil
	})
	h.Funcs = append(h.Funcs, HostFunc{Name: "proc_exit", Params: []ValueType{I32},
		Call: func(_ context.Context, _ *Instance, s []uint64) error { return &Exit{uint32(s[0])} }})
	add("proc_raise", "i", says(wasiNosys))
	add("sched_yield", "", func(*Instance, []uint64) (uint32, error) { return wasiOK, nil })

	stdio := func(errno uint32) func(*Instance, []uint64) (uint32, error) {
		return func(_ *Instance, s []uint64) (uint32, error) {
			if uint32(s[0]) > 2 {
				return wasiBadf, nil
			}
			return errno, nil
		}
	}
	add("fd_close", "i", stdio(wasiOK))
	add("fd_seek", "iIii", stdio(wasiSpipe))
	add("fd_tell", "ii", stdio(wasiSpipe))
	add("fd_fdstat_set_flags", "ii", stdio(wasiOK))
	for name, params := range map[string]string{
		"fd_advise": "iIIi", "fd_allocate": "iII", "fd_datasync": "i", "fd_fdstat_set_rights": "iII",
		"fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi", "fd_pread": "iiiIi", "fd_prestat_get": "ii",
		"fd_prestat_dir_name": "iii", "fd_pwrite": "iiiIi", "fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_sync": "i",
		"path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi",
		"path_link": "iiiiiii", "path_open": "iiiiiIIii", "path_readlink": "iiiiii", "path_remove_directory": "iii",
		"path_rename": "iiiiii", "path_symlink": "iiiii", "path_unlink_file": "iii",
		"sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
	} {
		add(name, params, says(wasiBadf))
	}
	slices.SortFunc(h.Funcs, func(a, b HostFunc) int { return strings.Compare(a.Name, b.Name) })
	return h
}

func fault(err error) uint32 {
	if err != nil {
		return wasiFault
	}
	return wasiOK
}

func (in *Instance) put32(at1 uint64, v1 int, at2 uint64, v2 int) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(v1))
	if in.Write(uint32(at1), b[:]) != nil {
		return wasiFault
	}
	binary.LittleEndian.PutUint32(b[:], uint32(v2))
	return fault(in.Write(uint32(at2), b[:]))
}

func (in *Instance) put64(at, v uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	return fault(in.Write(uint32(at), b[:]))
}

// randomByte is xorshift64*, from one seed for all.
func (s *system) randomByte() byte {
	if s.random == 0 {
		s.random = 0x9e3779b97f4a7c15
	}
	s.random ^= s.random >> 12
	s.random ^= s.random << 25
	s.random ^= s.random >> 27
	return byte((s.random * 0x2545f4914f6cdd1d) >> 56)
}

// vectors calls fn with each buffer of a list of (address, length), and charges for them.
func (in *Instance) vectors(at, n uint32, fn func(b []byte) (more bool, err error)) (uint32, error) {
	if n > 1024 {
		return wasiInval, nil
	}
	list, err := in.Read(at, n*8)
	if err != nil {
		return wasiFault, nil
	}
	for ; len(list) > 0; list = list[8:] {
		b, err := in.Read(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		if err != nil {
			return wasiFault, nil
		}
		if err := in.Charge(uint64(len(b)) / 8); err != nil {
			return 0, err
		}
		if more, err := fn(b); err != nil || !more {
			return 0, err
		}
	}
	return wasiOK, nil
}

func fdWrite(in *Instance, s []uint64) (uint32, error) {
	fd := uint32(s[0])
	if fd != 1 && fd != 2 {
		return wasiBadf, nil
	}
	written := 0
	errno, err := in.vectors(uint32(s[1]), uint32(s[2]), func(b []byte) (bool, error) {
		written += len(b)
		to := in.Stdout
		if fd == 2 {
			to = in.Stderr
		}
		if to != nil {
			if err := in.CountOutput(len(b)); err != nil {
				return false, err
			}
			_, err := to.Write(b)
			return true, err
		}
		in.system.write(fd == 2, b)
		return true, nil
	})
	if err != nil || errno != wasiOK {
		return errno, err
	}
	return in.put32(s[3], written, s[3], written), nil
}

// write logs one piece of output, as far as the call's share of the log goes.
func (s *system) write(stderr bool, b []byte) {
	room := maxLog - s.logged
	s.logged += len(b)
	if room <= 0 || len(b) == 0 {
		return
	}
	level := slog.LevelInfo
	if stderr {
		level = slog.LevelWarn
	}
	text := strings.ToValidUTF8(string(b[:min(len(b), room)]), "�")
	s.log.Log(context.Background(), level, "guest output", "text", strings.TrimRight(text, "\n"), "cut", len(b) > room)
}

func fdRead(in *Instance, s []uint64) (uint32, error) {
	if uint32(s[0]) != 0 {
		return wasiBadf, nil
	}
	read := 0
	errno, err := in.vectors(uint32(s[1]), uint32(s[2]), func(b []byte) (bool, error) {
		n := 0
		if in.system.stdin < len(in.Stdin) {
			n = copy(b, in.Stdin[in.system.stdin:])
		}
		in.system.stdin += n
		read += n
		return n == len(b), nil
	})
	if err != nil || errno != wasiOK {
		return errno, err
	}
	return in.put32(s[3], read, s[3], read), nil
}

// poll answers every subscription at once. A clock's has its time passed: a guest that sleeps wakes in no time, and its
// clock has moved by just what it slept.
func poll(in *Instance, s []uint64) (uint32, error) {
	from, to, n := uint32(s[0]), uint32(s[1]), uint32(s[2])
	if n == 0 || n > 256 {
		return wasiInval, nil
	}
	subs, err := in.Read(from, n*48)
	if err != nil {
		return wasiFault, nil
	}
	events := make([]byte, n*32)
	slept := uint64(3600e9)
	sleeps := false
	for i := range n {
		sub, event := subs[i*48:], events[i*32:]
		copy(event[:8], sub[:8]) // user data
		event[10] = sub[8]       // type
		if sub[8] != 0 {
			event[8] = wasiNotsup
			continue
		}
		timeout := binary.LittleEndian.Uint64(sub[24:])
		if sub[40]&1 != 0 { // an absolute time
			now := 1e9 + in.system.now
			if sub[16] == 0 {
				now = epoch + in.system.now
			}
			timeout = max(timeout, now) - now
		}
		slept = min(slept, timeout)
		sleeps = true
	}
	if sleeps {
		in.system.now += slept
	}
	if in.Write(to, events) != nil {
		return wasiFault, nil
	}
	return in.put32(s[3], int(n), s[3], int(n)), nil
}
