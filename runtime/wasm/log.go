package wasm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLogLine is how much of a line one record of the log holds; longer ones are in parts, tagged P.
const maxLogLine = 16 << 10

// containerLog writes a container's output in CRI format, rotates it, and passes it on to those attached.
type containerLog struct {
	path     string
	maxBytes int64
	maxFiles int
	now      func() time.Time

	mu   sync.Mutex // guards all below; writes of a guest come from one goroutine, attaches from others
	file *os.File
	size int64
	subs map[*subscriber]struct{}
}

type subscriber struct{ stdout, stderr io.Writer }

func openLog(path string, maxBytes int64, maxFiles int, now func() time.Time) (*containerLog, error) {
	l := &containerLog{path: path, maxBytes: maxBytes, maxFiles: maxFiles, now: now, subs: map[*subscriber]struct{}{}}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open container log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open container log: %w", err)
	}
	l.file = f
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
	return l, nil
}

// stream returns the writer for "stdout" or "stderr". Flush writes what has no newline yet.
func (l *containerLog) stream(name string) *logStream { return &logStream{log: l, name: name} }

type logStream struct {
	log  *containerLog
	name string
	rest []byte // only the guest's goroutine is here
}

func (s *logStream) Write(p []byte) (int, error) {
	s.log.fanOut(s.name, p)
	data := append(s.rest, p...)
	for {
		i := bytes.IndexByte(data, '\n')
		switch {
		case i >= 0 && i <= maxLogLine:
			s.log.record(s.name, 'F', data[:i])
			data = data[i+1:]
		case len(data) > maxLogLine:
			s.log.record(s.name, 'P', data[:maxLogLine])
			data = data[maxLogLine:]
		default:
			s.rest = append(s.rest[:0], data...)
			return len(p), nil
		}
	}
}

func (s *logStream) flush() {
	if len(s.rest) > 0 {
		s.log.record(s.name, 'F', s.rest)
		s.rest = nil
	}
}

// record appends one line. A full disk loses output and never stops the guest.
func (l *containerLog) record(stream string, tag byte, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	out := make([]byte, 0, len(line)+64)
	out = l.now().UTC().AppendFormat(out, time.RFC3339Nano)
	out = append(append(out, ' '), stream...)
	out = append(out, ' ', tag, ' ')
	out = append(append(out, line...), '\n')
	if l.maxBytes > 0 && l.size > 0 && l.size+int64(len(out)) > l.maxBytes {
		l.rotateLocked()
	}
	if l.file == nil {
		return
	}
	n, _ := l.file.Write(out)
	l.size += int64(n)
}

// rotateLocked moves LogPath to .1, .1 to .2 and so on, keeping maxFiles files in all.
func (l *containerLog) rotateLocked() {
	_ = l.file.Close()
	keep := max(l.maxFiles, 2)
	_ = os.Remove(fmt.Sprintf("%s.%d", l.path, keep-1))
	for i := keep - 2; i >= 1; i-- {
		_ = os.Rename(fmt.Sprintf("%s.%d", l.path, i), fmt.Sprintf("%s.%d", l.path, i+1))
	}
	_ = os.Rename(l.path, l.path+".1")
	l.file, _ = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	l.size = 0
}

func (l *containerLog) fanOut(stream string, p []byte) {
	l.mu.Lock()
	subs := make([]*subscriber, 0, len(l.subs))
	for s := range l.subs {
		subs = append(subs, s)
	}
	l.mu.Unlock()
	for _, s := range subs {
		w := s.stdout
		if stream == "stderr" {
			w = s.stderr
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(p); err != nil {
			l.detach(s)
		}
	}
}

func (l *containerLog) attach(s *subscriber) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs[s] = struct{}{}
}

func (l *containerLog) detach(s *subscriber) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.subs, s)
}

func (l *containerLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
