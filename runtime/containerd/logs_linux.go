package containerd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"
)

// pump moves a container's output from its fifos to its log and to those attached. The shim holds
// the fifos open at both ends, so a pump that dies with our process loses nothing: the next one
// goes on where it stopped.
type pump struct {
	io   *cio.DirectIO
	log  *logFile
	done chan struct{}

	mu   sync.Mutex
	subs map[*subscriber]struct{}
}

type subscriber struct{ stdout, stderr io.Writer }

func fifoPaths(dir string, stdin, tty bool) *cio.FIFOSet {
	c := cio.Config{Stdout: filepath.Join(dir, "stdout"), Terminal: tty}
	if stdin {
		c.Stdin = filepath.Join(dir, "stdin")
	}
	if !tty {
		c.Stderr = filepath.Join(dir, "stderr")
	}
	return cio.NewFIFOSet(c, nil)
}

func startPump(fifos *cio.FIFOSet, path string, maxBytes int64, maxFiles int) (*pump, error) {
	p := &pump{done: make(chan struct{}), subs: map[*subscriber]struct{}{}}
	var err error
	if p.log, err = openLog(path, maxBytes, maxFiles); err != nil {
		return nil, err
	}
	if p.io, err = cio.NewDirectIO(context.Background(), fifos); err != nil {
		p.log.close()
		return nil, fmt.Errorf("open container fifos: %w", err)
	}
	var wg sync.WaitGroup
	if p.io.Stdout != nil {
		wg.Go(func() { p.copy(p.io.Stdout, "stdout") })
	}
	if p.io.Stderr != nil {
		wg.Go(func() { p.copy(p.io.Stderr, "stderr") })
	}
	go func() {
		wg.Wait()
		p.log.close()
		close(p.done)
	}()
	return p, nil
}

func (p *pump) stop() {
	p.io.Cancel()
	p.io.Close() //nolint:errcheck // ends the readers
	<-p.done
}

// drain waits until the last output is written, but not for a process that keeps the output open.
func (p *pump) drain(limit time.Duration) {
	select {
	case <-p.done:
	case <-time.After(limit):
	}
	p.stop()
}

func (p *pump) copy(r io.Reader, stream string) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			p.log.write(stream, buf[:n])
			p.mu.Lock()
			for s := range p.subs {
				w := s.stdout
				if stream == "stderr" {
					w = s.stderr
				}
				if w != nil {
					if _, err := w.Write(buf[:n]); err != nil {
						delete(p.subs, s)
					}
				}
			}
			p.mu.Unlock()
		}
		if err != nil {
			p.log.flush(stream)
			return
		}
	}
}

func (p *pump) attach(s *subscriber) (detach func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subs[s] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.subs, s)
	}
}

// maxLine is where a line is cut into parts tagged P, as CRI does.
const maxLine = 16 << 10

// logFile is a log in CRI's format: "<RFC 3339 time> <stream> <F|P> <line>".
type logFile struct {
	path     string
	maxBytes int64
	maxFiles int

	mu   sync.Mutex
	f    *os.File // nil: discards
	size int64
	part map[string][]byte // the unfinished line of each stream
	out  bytes.Buffer
}

func openLog(path string, maxBytes int64, maxFiles int) (*logFile, error) {
	l := &logFile{path: path, maxBytes: maxBytes, maxFiles: max(maxFiles, 1), part: map[string][]byte{}}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create log folder: %w", err)
	}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.f, l.size = f, 0
	if fi, err := f.Stat(); err == nil {
		l.size = fi.Size()
	}
	return nil
}

func (l *logFile) write(stream string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return
	}
	now := time.Now().UTC()
	for len(data) > 0 {
		line, tag, full := data, byte('F'), false
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, full = data[:i], true
		}
		rest := data[len(line):]
		if room := maxLine - len(l.part[stream]); len(line) > room {
			line, rest, tag, full = data[:room], data[room:], 'P', false
		} else if full {
			rest = rest[1:]
		}
		if !full && tag == 'F' {
			l.part[stream] = append(l.part[stream], line...)
			break
		}
		l.line(now, stream, tag, line)
		data = rest
	}
	l.commit()
}

// flush writes what a stream ended with, without a newline.
func (l *logFile) flush(stream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil && len(l.part[stream]) > 0 {
		l.line(time.Now().UTC(), stream, 'F', nil)
		l.commit()
	}
}

func (l *logFile) line(now time.Time, stream string, tag byte, line []byte) {
	l.out.Write(now.AppendFormat(l.out.AvailableBuffer(), "2006-01-02T15:04:05.000000000Z07:00"))
	l.out.WriteByte(' ')
	l.out.WriteString(stream)
	l.out.Write([]byte{' ', tag, ' '})
	l.out.Write(l.part[stream])
	l.out.Write(line)
	l.out.WriteByte('\n')
	l.part[stream] = l.part[stream][:0]
}

func (l *logFile) commit() {
	n, _ := l.f.Write(l.out.Bytes()) // a full disk must not block the container
	l.size += int64(n)
	l.out.Reset()
	if l.maxBytes > 0 && l.size >= l.maxBytes {
		l.f.Close()
		l.f = nil
		for i := l.maxFiles - 1; i > 1; i-- {
			os.Rename(l.path+"."+strconv.Itoa(i-1), l.path+"."+strconv.Itoa(i)) //nolint:errcheck // not there yet
		}
		if l.maxFiles > 1 {
			os.Rename(l.path, l.path+".1") //nolint:errcheck // then it grows on
		} else {
			os.Truncate(l.path, 0) //nolint:errcheck // then it grows on
		}
		l.open() //nolint:errcheck // then the output is discarded
	}
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}
