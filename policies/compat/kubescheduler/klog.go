package kubescheduler

import (
	"context"
	"log/slog"
	"strings"

	"github.com/pintle/pintle/policies/guest"
)

// maxLine bounds what one call logs, in bytes.
const maxLine = 4 << 10

// klog is what guests log with. A guest asks for the severity first, and says nothing below it.
func (a *Adapter) klog() []guest.HostFunc {
	i32 := guest.I32
	level := func(severity uint64) slog.Level {
		return [...]slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelError, slog.LevelError}[min(uint32(severity), 3)]
	}
	line := func(in *guest.Instance, ptr, n uint64) (string, bool) {
		b, err := in.Read(uint32(ptr), uint32(n))
		if err != nil {
			return "", false // as klog's: a line that can't be read is not worth a failure
		}
		return strings.ToValidUTF8(string(b[:min(len(b), maxLine)]), "�"), true
	}
	log := func(ctx context.Context, in *guest.Instance, s []uint64, args ...any) error {
		message, ok := line(in, s[1], s[2])
		if int32(uint32(s[0])) < int32(a.cfg.LogSeverity) || !ok {
			return nil
		}
		if err := in.Charge(uint64(1000 + len(message))); err != nil {
			return err
		}
		policy := ""
		if c, ok := in.State.(*cycle); ok {
			policy = c.e.policy
		}
		a.cfg.Logger.Log(ctx, level(s[0]), "a policy logged", append([]any{"policy", policy, "line", strings.TrimRight(message, "\n")}, args...)...)
		return nil
	}
	return []guest.HostFunc{
		{Name: "log", Params: []guest.ValueType{i32, i32, i32},
			Call: func(ctx context.Context, in *guest.Instance, s []uint64) error { return log(ctx, in, s) }},
		{Name: "logs", Params: []guest.ValueType{i32, i32, i32, i32, i32},
			Call: func(ctx context.Context, in *guest.Instance, s []uint64) error {
				pairs, _ := line(in, s[3], s[4])
				return log(ctx, in, s, "pairs", strings.Split(strings.TrimRight(pairs, "\x00"), "\x00"))
			}},
		{Name: "severity", Results: []guest.ValueType{i32},
			Call: func(_ context.Context, _ *guest.Instance, s []uint64) error {
				s[0] = uint64(uint32(a.cfg.LogSeverity))
				return nil
			}},
	}
}
