package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/appliance"
	"github.com/pintle/pintle/orchestrator/cluster"
)

// asAppliance makes this test binary run the appliance that the JSON in it describes.
const asAppliance = "PINTLE_UPGRADE_AS_APPLIANCE"

func TestMain(m *testing.M) {
	text := os.Getenv(asAppliance)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := runAppliance(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// spec is one appliance, for the process that it runs in.
type spec struct {
	Dir, Node, Address string
	Join               []string // addresses; none: the first member
	Token              string
	Worker             bool
	Archive            string // of an image
}

// runAppliance works until SIGTERM. What the test needs of it, it writes into its folder; the file "ready" comes last.
func runAppliance(text string) error {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	cfg := appliance.Config{Name: "upgrade", DataDir: filepath.Join(s.Dir, "data"), Node: s.Node, Address: s.Address, Engine: appliance.Wasm, Worker: s.Worker,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if len(s.Join) > 0 {
		cfg.Join = &orchestrator.Join{Addresses: s.Join, Token: s.Token}
	}
	a, err := appliance.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		select {
		case <-a.Ready():
			if err := s.describe(ctx, a); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "describe:", err)
			}
		case <-ctx.Done():
		}
	}()
	return a.Run(ctx)
}

func (s spec) describe(ctx context.Context, a *appliance.Appliance) error {
	archive, err := os.ReadFile(s.Archive)
	if err != nil {
		return err
	}
	if err := a.ImportImages(ctx, bytes.NewReader(archive)); err != nil {
		return err
	}
	if !s.Worker {
		config, err := a.Kubeconfig()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.Dir, "kubeconfig"), config, 0o600); err != nil {
			return err
		}
	}
	if len(s.Join) == 0 {
		for file, role := range map[string]cluster.Role{"member": orchestrator.RoleMember, "node": orchestrator.RoleNode} {
			token, err := a.JoinToken(ctx, role, time.Hour)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(s.Dir, file), []byte(token), 0o600); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(s.Dir, "ready"), nil, 0o600)
}

// box is a machine with an appliance on it.
type box struct {
	spec    spec
	process *exec.Cmd
	exited  chan struct{}
	output  *os.File
}

func newBox(t *testing.T, dir string, s spec) *box {
	t.Helper()
	s.Dir = filepath.Join(dir, s.Node)
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(filepath.Join(s.Dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	b := &box{spec: s, output: output}
	t.Cleanup(func() {
		if b.process != nil {
			_ = b.process.Process.Kill()
			<-b.exited
		}
		output.Close()
	})
	return b
}

// start runs a program there.
func (b *box) start(t *testing.T, program string) {
	t.Helper()
	text, err := json.Marshal(b.spec)
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(b.spec.Dir, "ready"))
	b.process = exec.Command(program)
	b.process.Env = append(os.Environ(), asAppliance+"="+string(text))
	b.process.Stdout, b.process.Stderr = b.output, b.output
	if err := b.process.Start(); err != nil {
		t.Fatal(err)
	}
	process, exited := b.process, make(chan struct{})
	b.exited = exited
	go func() { _ = process.Wait(); close(exited) }()
}

func (b *box) waitReady(t *testing.T) {
	t.Helper()
	b.until(t, "it is ready", func() bool {
		_, err := os.Stat(filepath.Join(b.spec.Dir, "ready"))
		return err == nil
	})
}

// until fails if the process ends first.
func (b *box) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !ok() {
		select {
		case <-b.exited:
			t.Fatalf("%s ended before %s:\n%s", b.spec.Node, what, b.said())
		case <-deadline:
			t.Fatalf("%s: never: %s\n%s", b.spec.Node, what, b.said())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the process in an orderly way.
func (b *box) stop(t *testing.T) {
	t.Helper()
	if err := b.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.ends(t)
	if code := b.process.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("%s ended with %d:\n%s", b.spec.Node, code, b.said())
	}
}

func (b *box) ends(t *testing.T) {
	t.Helper()
	select {
	case <-b.exited:
	case <-time.After(time.Minute):
		t.Fatalf("%s has not ended:\n%s", b.spec.Node, b.said())
	}
}

// said is everything that it has written.
func (b *box) said() string {
	data, _ := os.ReadFile(filepath.Join(b.spec.Dir, "output"))
	return string(data)
}

func (b *box) read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.spec.Dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// nextVersion compiles the program of the next version.
func nextVersion(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "next")
	if out, err := exec.Command("go", "test", "-c", "-tags", "raftstore_next", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the next version: %v\n%s", err, out)
	}
	return bin
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
