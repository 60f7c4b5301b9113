package raftstore

import (
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLog hands raft's log to slog, one level down: what raft calls information is of use to
// somebody who debugs raft.
type raftLog struct {
	l    *slog.Logger
	name string
	args []any
}

func (r *raftLog) level(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Info:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

func (r *raftLog) Log(l hclog.Level, msg string, args ...any) {
	if msg == "failed to get previous log" {
		l = hclog.Debug // a follower is behind, as it says of each nudge; raft sends what it lacks
	}
	if !r.l.Enabled(context.Background(), r.level(l)) {
		return
	}
	for i := range args {
		if f, ok := args[i].(hclog.Format); ok && len(f) > 0 {
			args[i] = f[1:]
		}
	}
	r.l.Log(context.Background(), r.level(l), "raft: "+msg, args...)
}

func (r *raftLog) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLog) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLog) Info(msg string, args ...any)  { r.Log(hclog.Info, msg, args...) }
func (r *raftLog) Warn(msg string, args ...any)  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLog) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLog) enabled(l hclog.Level) bool {
	return r.l.Enabled(context.Background(), r.level(l))
}
func (r *raftLog) IsTrace() bool { return r.enabled(hclog.Trace) }
func (r *raftLog) IsDebug() bool { return r.enabled(hclog.Debug) }
func (r *raftLog) IsInfo() bool  { return r.enabled(hclog.Info) }
func (r *raftLog) IsWarn() bool  { return r.enabled(hclog.Warn) }
func (r *raftLog) IsError() bool { return r.enabled(hclog.Error) }

func (r *raftLog) ImpliedArgs() []any { return r.args }
func (r *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{l: r.l.With(args...), name: r.name, args: append(r.args[:len(r.args):len(r.args)], args...)}
}
func (r *raftLog) Name() string                        { return r.name }
func (r *raftLog) Named(name string) hclog.Logger      { return &raftLog{l: r.l, name: name, args: r.args} }
func (r *raftLog) ResetNamed(name string) hclog.Logger { return r.Named(name) }
func (r *raftLog) SetLevel(hclog.Level)                {}
func (r *raftLog) GetLevel() hclog.Level               { return hclog.Info }

func (r *raftLog) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(r.StandardWriter(o), "", 0)
}
func (r *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{r} }

type lineWriter struct{ r *raftLog }

func (w lineWriter) Write(b []byte) (int, error) {
	w.r.Warn(string(b))
	return len(b), nil
}
