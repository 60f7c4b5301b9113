package policies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// What a call may say: lines, and bytes of each.
const (
	logLines = 20
	logBytes = 1 << 10
)

// Hosts are the functions of host module "pintle".
func (n *native) Hosts(*guest.Info) []guest.HostModule {
	const i32, i64 = guest.I32, guest.I64
	types := func(t ...guest.ValueType) []guest.ValueType { return t }
	return []guest.HostModule{{Name: "pintle", Funcs: []guest.HostFunc{
		{Name: "intern", Params: types(i32, i32), Results: types(i32), Call: hostIntern},
		{Name: "log", Params: types(i32, i32, i32), Call: hostLog},
		{Name: "now_ms", Results: types(i64), Call: hostNow},
		{Name: "lookup", Params: types(i32, i32), Results: types(i64), Call: hostLookup},
	}}}
}

// errTooEarly is a host function that is called before the instance is configured: by a start function.
var errTooEarly = errors.New("the host can't be called before pintle_configure")

func stateOf(in *guest.Instance) (*instance, error) {
	if s, ok := in.State.(*instance); ok {
		return s, nil
	}
	return nil, errTooEarly
}

// text reads a string of the guest, whose bytes cost fuel.
func text(in *guest.Instance, at, size uint64) (string, error) {
	b, err := in.Read(uint32(at), uint32(size))
	if err != nil {
		return "", err
	}
	if err := in.Charge(uint64(len(b))); err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%w: the string isn't UTF-8", abi.ErrMalformed)
	}
	return string(b), nil
}

func hostIntern(_ context.Context, in *guest.Instance, stack []uint64) error {
	s, err := stateOf(in)
	if err != nil {
		return err
	}
	name, err := text(in, stack[0], stack[1])
	if err != nil {
		return fmt.Errorf("intern: %w", err)
	}
	if s.strings == nil {
		s.strings = abi.NewNodeTable() // an admission policy's ids are its instance's
	}
	id, ok := s.strings.Lookup(name)
	if !ok {
		if err := s.budget.take(len(name)); err != nil {
			return err
		}
		id = s.strings.Intern(name)
	}
	stack[0] = uint64(id)
	return nil
}

func hostLog(ctx context.Context, in *guest.Instance, stack []uint64) error {
	s, err := stateOf(in)
	if err != nil {
		return err
	}
	b, err := in.Read(uint32(stack[1]), uint32(stack[2]))
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if s.logged++; s.logged > logLines {
		return nil
	}
	levels := [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	level := levels[min(uint32(stack[0]), uint32(len(levels)-1))]
	if !s.n.log.Enabled(ctx, level) {
		return nil
	}
	cut := len(b) > logBytes || s.logged == logLines
	line := strings.ToValidUTF8(string(b[:min(len(b), logBytes)]), "")
	s.n.log.Log(ctx, level, "a policy says", "policy", s.policy.Name, "text", line, "cut", cut)
	return nil
}

func hostNow(_ context.Context, in *guest.Instance, stack []uint64) error {
	s, err := stateOf(in)
	if err != nil {
		return err
	}
	if s.now == 0 && s.grants.clock {
		s.now = s.n.clock.Now().UnixMilli()
	}
	stack[0] = uint64(s.now)
	return nil
}

func hostLookup(ctx context.Context, in *guest.Instance, stack []uint64) error {
	s, err := stateOf(in)
	if err != nil {
		return err
	}
	path, err := text(in, stack[0], stack[1])
	if err != nil {
		return fmt.Errorf("lookup: %w", err)
	}
	stack[0] = 0
	parts := strings.Split(path, "/")
	if len(parts) != 5 {
		return fmt.Errorf("lookup: %q isn't group/version/resource/namespace/name", path)
	}
	if !s.grants.read[parts[0]+"/"+parts[2]] || s.n.lookup == nil {
		return nil
	}
	object, err := s.n.lookup(ctx, path)
	if err != nil {
		return fmt.Errorf("lookup of %s: %w", path, err)
	}
	if len(object) == 0 {
		return nil
	}
	if err := in.Charge(uint64(len(object)) / 8); err != nil { // a copy
		return err
	}
	at, err := place(ctx, in, object)
	if err != nil {
		return fmt.Errorf("lookup of %s: %w", path, err)
	}
	stack[0] = uint64(at)<<32 | uint64(len(object))
	return nil
}
