package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// workshop is where the measurements work: a temporary folder and the programs built into it.
type workshop struct{ dir string }

func newWorkshop() (*workshop, error) {
	dir, err := os.MkdirTemp("", "pintle-bench-")
	if err != nil {
		return nil, fmt.Errorf("temporary folder: %w", err)
	}
	return &workshop{dir: dir}, nil
}

// Close removes the folder.
func (w *workshop) Close() error { return os.RemoveAll(w.dir) }

// folder makes an empty folder inside.
func (w *workshop) folder(name string) (string, error) {
	return os.MkdirTemp(w.dir, name+"-")
}

// build compiles the package pkg, in the module in folder module, as the product would be shipped:
// static and stripped. A second call returns the first's program.
func (w *workshop) build(ctx context.Context, module, pkg string) (string, error) {
	path := filepath.Join(w.dir, "bin", filepath.Base(module), filepath.Base(pkg))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", module, "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", pkg, err, firstLines(string(out), 3))
	}
	return path, nil
}

func firstLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[:min(n, len(lines))], "; ")
}

// process is a program that is measured or that load goes to.
type process struct {
	cmd    *exec.Cmd
	lines  chan string // what it prints, line by line
	stdin  io.WriteCloser
	ended  chan struct{}
	stderr strings.Builder
}

// start runs a program in a process group of its own. Subjects end when this process does: their stdin closes.
func start(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), lines: make(chan string, 64), ended: make(chan struct{})}
	p.cmd.SysProcAttr = ownGroup()
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			select {
			case p.lines <- scan.Text():
			default: // nobody waits for it
			}
		}
		close(p.lines)
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// line waits for the next line that the program prints.
func (p *process) line(ctx context.Context, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.ended
			return "", fmt.Errorf("%s ended: %s", filepath.Base(p.cmd.Path), firstLines(p.stderr.String(), 3))
		}
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s said nothing within %s", filepath.Base(p.cmd.Path), within)
	}
}

// stop closes the program's stdin, which tells subjects to end, and kills it after ninety seconds: an appliance takes
// its containers along.
func (p *process) stop() {
	p.stdin.Close()
	p.end(90 * time.Second)
}

// terminate ends a program that doesn't know of stdin.
func (p *process) terminate() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.end(5 * time.Second)
}

func (p *process) end(within time.Duration) {
	select {
	case <-p.ended:
	case <-time.After(within):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// rss is the process's resident memory in MiB.
func (p *process) rss() (float64, error) { return rssOf(p.cmd.Process.Pid) }

func rssOf(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("resident memory: /proc has no VmRSS")
}

// idleRSS waits, then reads rss once: the garbage collector frees in its own time, nobody forces it.
func (p *process) idleRSS(ctx context.Context, wait time.Duration) (float64, error) {
	select {
	case <-time.After(wait):
	case <-p.ended:
		return 0, fmt.Errorf("%s ended: %s", filepath.Base(p.cmd.Path), firstLines(p.stderr.String(), 3))
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	return p.rss()
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

func median(d []time.Duration) time.Duration { return quantile(d, 0.5) }

func quantile(d []time.Duration, q float64) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

// freeName is a name that no other run on this host has.
func freeName() string { return fmt.Sprintf("bench%05d", rand.IntN(100_000)) }
