package runtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// logOptions are those of kubectl logs.
type logOptions struct {
	follow, previous, timestamps bool
	tail, limit                  int64 // -1: all
	since                        time.Time
	stream                       string // "", "Stdout", "Stderr"
}

func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{tail: -1, limit: -1}
	var err error
	flag := func(name string) bool {
		v := q.Get(name)
		if v == "" {
			return false
		}
		b, e := strconv.ParseBool(v)
		if e != nil && err == nil {
			err = fmt.Errorf("%s: must be true or false", name)
		}
		return b
	}
	number := func(name string, least int64) int64 {
		v := q.Get(name)
		if v == "" {
			return -1
		}
		n, e := strconv.ParseInt(v, 10, 64)
		if (e != nil || n < least) && err == nil {
			err = fmt.Errorf("%s: must be a number of at least %d", name, least)
		}
		return n
	}
	o.follow, o.previous, o.timestamps = flag("follow"), flag("previous"), flag("timestamps")
	o.tail, o.limit = number("tailLines", 0), number("limitBytes", 1)
	if s := number("sinceSeconds", 1); s >= 0 {
		o.since = now.Add(-time.Duration(s) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		t, e := time.Parse(time.RFC3339Nano, v)
		if e != nil && err == nil {
			err = fmt.Errorf("sinceTime: %w", e)
		}
		o.since = t
	}
	if s := q.Get("stream"); s != "" && s != "All" {
		o.stream = strings.ToLower(s)
	}
	return o, err
}

// logFiles are a log's files, oldest first: path.N … path.1, path.
func logFiles(path string) []string {
	var out []string
	for n := 1; ; n++ {
		p := path + "." + strconv.Itoa(n)
		if _, err := os.Stat(p); err != nil {
			break
		}
		out = append(out, p)
	}
	slices.Reverse(out)
	return append(out, path)
}

// readLogs copies a log in CRI format to w. alive says whether more may come.
func readLogs(ctx context.Context, w io.Writer, path string, o logOptions, alive func() bool) error {
	out := &logWriter{w: w, left: o.limit, o: o, midline: map[string]bool{}}
	files := logFiles(path)
	end := int64(0) // how far tail has read the newest file
	if o.tail >= 0 {
		lines, n, err := tail(files, o)
		if err != nil {
			return err
		}
		end = n
		for _, l := range lines {
			if err := out.line(l); err != nil {
				return ignoreLimit(err)
			}
		}
		if !o.follow {
			return nil
		}
	}
	var f *os.File
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	if o.tail < 0 {
		for _, p := range files[:len(files)-1] {
			if err := copyFile(p, out); err != nil {
				return ignoreLimit(err)
			}
		}
	}
	f, err := os.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) || !o.follow {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
	} else if o.tail >= 0 {
		if _, err := f.Seek(end, io.SeekStart); err != nil {
			return err
		}
	}
	var part []byte
	buf := make([]byte, 32<<10)
	for {
		last := !alive()
		for f != nil {
			n, err := f.Read(buf)
			part = append(part, buf[:n]...)
			for {
				i := bytes.IndexByte(part, '\n')
				if i < 0 {
					break
				}
				if err := out.line(part[:i]); err != nil {
					return ignoreLimit(err)
				}
				part = part[i+1:]
			}
			if err == io.EOF || n == 0 {
				break
			}
			if err != nil {
				return err
			}
		}
		if !o.follow || last {
			return nil
		}
		if fl, ok := w.(http.Flusher); ok {
			fl.Flush()
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return nil
		}
		// Rotated: the old file is read to its end above, then the new one is opened.
		cur, err := os.Stat(path)
		if err != nil {
			continue
		}
		if f != nil {
			if mine, err := f.Stat(); err == nil && !os.SameFile(mine, cur) {
				if rest, _ := io.ReadAll(f); len(rest) > 0 {
					part = append(part, rest...)
				}
				f.Close()
				f = nil
			}
		}
		if f == nil {
			if f, err = os.Open(path); err != nil {
				f = nil
			}
		}
	}
}

var errLimit = errors.New("limit of bytes reached")

func ignoreLimit(err error) error {
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

func copyFile(path string, out *logWriter) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // rotated away
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 32<<10)
	for {
		l, err := r.ReadBytes('\n')
		if len(l) > 0 && l[len(l)-1] == '\n' {
			if err := out.line(l[:len(l)-1]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// tail returns the last lines that pass the filters, over all files of the log, and where the last whole
// line of the newest file ends.
func tail(files []string, o logOptions) ([][]byte, int64, error) {
	var lines [][]byte
	end := int64(0)
	full := int64(0)
	for i := len(files) - 1; i >= 0 && (full < o.tail || i == len(files)-1); i-- {
		b, err := os.ReadFile(files[i])
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, 0, err
		}
		if i == len(files)-1 {
			end = int64(bytes.LastIndexByte(b, '\n') + 1)
		}
		var mine [][]byte
		for l := range bytes.Lines(b) {
			if t := bytes.TrimSuffix(l, []byte("\n")); len(t) < len(l) && o.wants(t) {
				mine = append(mine, t)
			}
		}
		lines = append(mine, lines...)
		full = 0
		for _, l := range lines {
			if _, _, partial, _, ok := criLine(l); ok && !partial {
				full++
			}
		}
	}
	// Cut in front: partial pieces belong to the line that follows them.
	for skip := full - o.tail; skip > 0 && len(lines) > 0; lines = lines[1:] {
		if _, _, partial, _, ok := criLine(lines[0]); !ok || !partial {
			skip--
		}
	}
	if o.tail == 0 {
		return nil, end, nil
	}
	return lines, end, nil
}

// criLine takes a line apart: time, stream, P or F, text.
func criLine(l []byte) (at time.Time, stream string, partial bool, text []byte, ok bool) {
	f := bytes.SplitN(l, []byte(" "), 4)
	if len(f) < 4 {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, string(f[0]))
	if err != nil {
		return
	}
	return at, string(f[1]), bytes.HasPrefix(f[2], []byte("P")), f[3], true
}

func (o logOptions) wants(l []byte) bool {
	at, stream, _, _, ok := criLine(l)
	return ok && (o.since.IsZero() || !at.Before(o.since)) && (o.stream == "" || o.stream == stream)
}

type logWriter struct {
	w       io.Writer
	o       logOptions
	left    int64
	midline map[string]bool
}

func (l *logWriter) line(raw []byte) error {
	if !l.o.wants(raw) {
		return nil
	}
	_, stream, partial, text, _ := criLine(raw)
	var b []byte
	if l.o.timestamps && !l.midline[stream] {
		ts, _, _ := bytes.Cut(raw, []byte(" "))
		b = append(append(b, ts...), ' ')
	}
	b = append(b, text...)
	if !partial {
		b = append(b, '\n')
	}
	l.midline[stream] = partial
	if l.left >= 0 {
		if int64(len(b)) > l.left {
			b = b[:l.left]
		}
		l.left -= int64(len(b))
	}
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	if l.left == 0 {
		return errLimit
	}
	return nil
}

// lastLines is the end of a log, for termination messages.
func lastLines(path string, lines int64, limit int) string {
	all, _, err := tail(logFiles(path), logOptions{tail: lines, limit: -1})
	if err != nil {
		return ""
	}
	var b bytes.Buffer
	for _, l := range all {
		_, _, partial, text, _ := criLine(l)
		b.Write(text)
		if !partial {
			b.WriteByte('\n')
		}
	}
	s := b.Bytes()
	if len(s) > limit {
		s = s[len(s)-limit:]
	}
	return strings.ToValidUTF8(string(s), "�")
}

// logOf finds the log of the newest attempt of a container, or of the one before it.
func (w *worker) logOf(container string, previous bool) (path string, attempt int, err error) {
	entries, err := os.ReadDir(filepath.Join(w.a.logDir(w.uid), container))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", 0, err
	}
	var attempts []int
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log")); err == nil && strings.HasSuffix(e.Name(), ".log") {
			attempts = append(attempts, n)
		}
	}
	slices.Sort(attempts)
	if previous {
		if len(attempts) < 2 {
			return "", 0, fmt.Errorf("previous terminated container %q in pod %q not found", container, w.name)
		}
		n := attempts[len(attempts)-2]
		return w.logPath(container, n), n, nil
	}
	if len(attempts) == 0 {
		return "", 0, fmt.Errorf("container %q in pod %q is waiting to start: ContainerCreating", container, w.name)
	}
	n := attempts[len(attempts)-1]
	return w.logPath(container, n), n, nil
}
