package nodeapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"
)

// LogOptions say which part of a log to read, and how. The zero value is all of it, as it was
// written.
type LogOptions struct {
	Follow     bool      // go on until ctx ends or Running says no
	TailLines  *int64    // begin that many lines before the end; nil: at the beginning
	LimitBytes *int64    // stop after so many bytes, in the middle of a line if need be; nil: none
	Since      time.Time // leave out what was written before
	Timestamps bool      // put the time of each line before it
	Stream     string    // "stdout" or "stderr" alone; "": both
	// Running says whether the writer may still append; nil: it may.
	Running func() bool
	// Idle is called when everything that is there was written to w; may be nil.
	Idle func()
	// Poll is how often a follower looks for more; 0: 50 ms.
	Poll time.Duration
}

const (
	maxRotated    = 100  // bounds the search for rotated files
	maxChainTries = 1000 // and how often a rotation may come between
)

var errLimit = errors.New("limit of bytes reached")

// ReadLogs writes the text of a log in CRI's format to w. path is the newest file; those that were
// rotated away lie beside it as path.1, path.2 and so on, the greater the older. Rotation while it
// reads loses and repeats nothing, as long as files aren't removed faster than they are read. A log
// that isn't there yet is empty. It returns nil at the end, and when ctx ends.
func ReadLogs(ctx context.Context, path string, o LogOptions, w io.Writer) error {
	if o.Poll == 0 {
		o.Poll = 50 * time.Millisecond
	}
	r := &logReader{path: path, o: o, w: w, inLine: map[string]bool{}}
	defer r.close()
	err := r.run(ctx)
	if errors.Is(err, errLimit) || ctx.Err() != nil {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read log %s: %w", path, err)
	}
	return nil
}

type logReader struct {
	path   string
	o      LogOptions
	w      io.Writer
	files  []*os.File // to read, the oldest first
	at     int64      // offset in files[0], of whole lines
	wrote  int64
	inLine map[string]bool // streams whose last part had no end
	buf    []byte
}

func (r *logReader) close() {
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}

func (r *logReader) run(ctx context.Context) error {
	var err error
	if r.files, err = openChain(r.path, nil); err != nil {
		return err
	}
	if err := r.start(); err != nil {
		return err
	}
	for ended := false; ; {
		if err := r.drain(ctx); err != nil {
			return err
		}
		if r.o.Idle != nil {
			r.o.Idle()
		}
		if !r.o.Follow || ended {
			return nil
		}
		// What was written before the writer ended is read in one more round.
		if ended = r.o.Running != nil && !r.o.Running(); !ended {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(r.o.Poll):
			}
		}
	}
}

// openChain opens the log's files, the oldest first, down to the one that is known.
func openChain(path string, known os.FileInfo) ([]*os.File, error) {
	for range maxChainTries {
		files, steady, err := walkChain(path, known)
		if err == nil && steady {
			return files, nil
		}
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("it is rotated faster than its files can be opened")
}

// walkChain opens them from the newest on. It is steady when the newest kept its name meanwhile: then no rotation has
// ended, and one that goes on shows a file twice, which is left out, or leaves one gap. Where one has ended, a name may
// hold a file that is newer than the one before.
func walkChain(path string, known os.FileInfo) (files []*os.File, steady bool, err error) {
	var infos []os.FileInfo
	newest := "" // the name of the newest file
	missing := 0
	for i := 0; i < maxRotated && missing < 2; i++ {
		name := path
		if i > 0 {
			name += "." + strconv.Itoa(i)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			return files, false, err
		}
		missing = 0
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return files, false, err
		}
		if slices.ContainsFunc(infos, func(o os.FileInfo) bool { return os.SameFile(o, info) }) {
			f.Close()
			continue
		}
		if infos = append(infos, info); newest == "" {
			newest = name
		}
		if known != nil && os.SameFile(info, known) {
			f.Close()
			break
		}
		files = append(files, f)
	}
	slices.Reverse(files)
	if newest == "" {
		return files, true, nil
	}
	now, err := os.Stat(newest)
	steady = err == nil && os.SameFile(now, infos[0])
	if newest != path {
		_, err := os.Stat(path)
		steady = steady && errors.Is(err, fs.ErrNotExist)
	}
	return files, steady, nil
}

// start leaves out what the options don't ask for.
func (r *logReader) start() error {
	drop := func(n int) {
		for _, f := range r.files[:n] {
			f.Close()
		}
		r.files = r.files[n:]
	}
	if n := r.o.TailLines; n != nil {
		left := *n
		for i := len(r.files) - 1; i >= 0; i-- {
			offset, found, err := tailOffset(r.files[i], left)
			if err != nil {
				return err
			}
			r.at = offset
			if left -= found; left <= 0 || i == 0 {
				drop(i)
				break
			}
		}
	}
	for len(r.files) > 1 && !r.o.Since.IsZero() {
		if info, err := r.files[0].Stat(); err != nil || !info.ModTime().Before(r.o.Since) {
			break
		}
		drop(1)
		r.at = 0
	}
	return nil
}

// tailOffset finds where the last n lines of a file begin, and how many it has of them. A line that
// was cut into parts counts once. It reads backwards, so that a long log costs nothing.
func tailOffset(f *os.File, n int64) (offset, found int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	end := info.Size()
	const block = 64 << 10
	var tail []byte // what begins in a block that wasn't read yet
	limit := end    // where tail ends
	for pos := end; pos > 0; {
		size := min(block, pos)
		pos -= size
		buf := make([]byte, size, size+int64(len(tail)))
		if _, err := f.ReadAt(buf, pos); err != nil && err != io.EOF {
			return 0, 0, err
		}
		buf = append(buf, tail...)
		for len(buf) > 0 {
			// buf holds [pos, limit) and ends with a line's end, or is the file's end.
			body := bytes.TrimSuffix(buf, []byte{'\n'})
			i := bytes.LastIndexByte(body, '\n')
			if i < 0 && pos > 0 {
				break
			}
			line := body[i+1:]
			whole := len(body) < len(buf) // what isn't is read when it is
			if _, _, tag, _, ok := parse(line); ok && tag == 'F' && whole {
				if found == n {
					return limit, found, nil
				}
				found++
			}
			limit = pos + int64(i) + 1
			buf = buf[:i+1]
		}
		tail = buf
	}
	return 0, found, nil
}

// drain writes everything that is there now.
func (r *logReader) drain(ctx context.Context) error {
	if len(r.files) == 0 {
		var err error
		if r.files, err = openChain(r.path, nil); err != nil || len(r.files) == 0 {
			return err
		}
		r.at = 0
	}
	for {
		if err := r.readFile(ctx, r.files[0]); err != nil {
			return err
		}
		if len(r.files) == 1 {
			info, err := r.files[0].Stat()
			if err != nil {
				return err
			}
			now, err := os.Stat(r.path)
			if err == nil && os.SameFile(info, now) {
				if info.Size() < r.at {
					r.at = 0 // cut off by a writer that keeps no rotated files
					continue
				}
				return nil
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			// It was rotated away: its end was perhaps written since, and then come the newer ones.
			if err := r.readFile(ctx, r.files[0]); err != nil {
				return err
			}
			newer, err := openChain(r.path, info)
			if err != nil {
				return err
			}
			r.files = append(r.files, newer...)
			if len(newer) == 0 {
				return nil
			}
		}
		r.files[0].Close()
		r.files, r.at = r.files[1:], 0
	}
}

// readFile writes the whole lines of f from r.at on.
func (r *logReader) readFile(ctx context.Context, f *os.File) error {
	if _, err := f.Seek(r.at, io.SeekStart); err != nil {
		return err
	}
	in := bufio.NewReaderSize(f, 64<<10)
	for ctx.Err() == nil {
		line, err := in.ReadSlice('\n')
		r.buf = append(r.buf[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = in.ReadSlice('\n')
			r.buf = append(r.buf, line...)
		}
		if err == io.EOF {
			return nil // a half line is read again when it is whole
		}
		if err != nil {
			return err
		}
		r.at += int64(len(r.buf))
		if err := r.line(r.buf); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// line writes one line of the file.
func (r *logReader) line(raw []byte) error {
	stamp, stream, tag, text, ok := parse(bytes.TrimSuffix(raw, []byte{'\n'}))
	if !ok {
		return nil // torn by a crash
	}
	if r.o.Stream != "" && string(stream) != r.o.Stream {
		return nil
	}
	if !r.o.Since.IsZero() {
		if t, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && t.Before(r.o.Since) {
			return nil
		}
	}
	out := make([]byte, 0, len(raw)+1)
	if r.o.Timestamps && !r.inLine[string(stream)] {
		out = append(append(out, stamp...), ' ')
	}
	out = append(out, text...)
	if tag == 'F' {
		out = append(out, '\n')
	}
	r.inLine[string(stream)] = tag != 'F'
	if l := r.o.LimitBytes; l != nil && r.wrote+int64(len(out)) >= *l {
		if _, err := r.w.Write(out[:*l-r.wrote]); err != nil {
			return err
		}
		return errLimit
	}
	n, err := r.w.Write(out)
	r.wrote += int64(n)
	return err
}

// parse takes a line of CRI's format apart: "<time> <stream> <tags> <text>". tag is 'F' for a
// line's last part and 'P' for the others.
func parse(line []byte) (stamp, stream []byte, tag byte, text []byte, ok bool) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok3 {
		tags = rest // an empty line may have lost its last blank
	}
	if !ok1 || !ok2 || len(tags) == 0 {
		return nil, nil, 0, nil, false
	}
	return stamp, stream, tags[0], text, true
}
