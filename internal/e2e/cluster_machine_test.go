package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
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
)

// asMachine makes this test binary run, or tear down, the appliance that the JSON in it describes.
const asMachine = "PINTLE_E2E_AS_MACHINE"

// machineSpec is one machine of the cluster, for the process that runs there.
type machineSpec struct {
	Dir, Node, At string
	Join          []string // addresses; none: the first member
	Token         string
	Worker        bool
	Teardown      bool
}

func (s machineSpec) config() appliance.Config {
	cfg := appliance.Config{Name: "trio", DataDir: filepath.Join(s.Dir, "data"), Node: s.Node, Engine: appliance.Containerd,
		Address: ":6443", MemberAddress: s.At + ":6443", NodeAddress: netip.MustParseAddr(s.At), Worker: s.Worker,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if os.Getenv("PINTLE_E2E_DEBUG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if len(s.Join) > 0 {
		cfg.Join = &orchestrator.Join{Addresses: s.Join, Token: s.Token}
	}
	return cfg
}

// runMachine is the process on a machine. SIGTERM ends it in an orderly way. What the test needs of it, it writes
// into its folder; the file "ready" comes last.
func runMachine(text string) error {
	var s machineSpec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	a, err := appliance.New(s.config())
	if err != nil {
		return err
	}
	if s.Teardown {
		return a.Teardown(context.Background())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		select {
		case <-a.Ready():
			if err := s.describe(ctx, a); err != nil {
				fmt.Fprintln(os.Stderr, "describe:", err)
			}
		case <-ctx.Done():
		}
	}()
	return a.Run(ctx)
}

func (s machineSpec) describe(ctx context.Context, a *appliance.Appliance) error {
	images, err := filepath.Glob(filepath.Join(s.Dir, "..", "*.tar"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "imported")); err != nil {
		for _, image := range images {
			archive, err := os.ReadFile(image)
			if err == nil {
				err = a.ImportImages(ctx, bytes.NewReader(archive))
			}
			if err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(s.Dir, "imported"), nil, 0o600); err != nil {
			return err
		}
	}
	if !s.Worker {
		config, err := a.Kubeconfig()
		if err != nil {
			return err
		}
		config = bytes.ReplaceAll(config, []byte("127.0.0.1"), []byte(s.At)) // it listens everywhere, and says where it is itself
		if err := os.WriteFile(filepath.Join(s.Dir, "kubeconfig"), config, 0o600); err != nil {
			return err
		}
	}
	if len(s.Join) == 0 {
		member, err := a.JoinToken(ctx, orchestrator.RoleMember, time.Hour)
		if err != nil {
			return err
		}
		node, err := a.JoinToken(ctx, orchestrator.RoleNode, time.Hour)
		if err != nil {
			return err
		}
		tokens, err := json.Marshal([]string{member, node})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.Dir, "tokens"), tokens, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(s.Dir, "ready"), nil, 0o600)
}

// machine is a network, mount and process namespace of its own. A process keeps them; with it everything there ends,
// as with the power.
type machine struct {
	spec    machineSpec
	program string // "": this test binary
	keeper  *exec.Cmd
	output  *os.File

	process *exec.Cmd // the appliance
	exited  chan struct{}
}

func shell(t *testing.T, format string, args ...any) {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// newMachine makes a machine that is connected to nothing.
func newMachine(t *testing.T, dir, node, at string) *machine {
	t.Helper()
	m := &machine{spec: machineSpec{Dir: filepath.Join(dir, node), Node: node, At: at}}
	if err := os.MkdirAll(m.spec.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// A session leader that dies with the test. The first process of the namespace waits for what it inherits.
	m.keeper = exec.Command("unshare", "-m", "-n", "-p", "-u", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
		"mount -t tmpfs tmpfs /run && ip link set lo up && echo up && trap : TERM && while :; do sleep 1000 & wait; done")
	m.keeper.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := m.keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.keeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.keeper.Process.Kill()
		_ = m.keeper.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatalf("machine %s: %v", node, err)
	}
	if m.output, err = os.Create(filepath.Join(m.spec.Dir, "output")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.output.Close() })
	return m
}

// pid is the first process of the machine's namespaces.
func (m *machine) pid(t *testing.T) string {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.keeper.Process.Pid, m.keeper.Process.Pid))
	if err != nil || len(strings.Fields(string(children))) == 0 {
		t.Fatalf("machine %s is off: %v", m.spec.Node, err)
	}
	return strings.Fields(string(children))[0]
}

// command runs on the machine.
func (m *machine) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.Command("nsenter", append([]string{"-t", m.pid(t), "-m", "-n", "-p", "-u", "-F", "--"}, args...)...)
}

// sh runs a shell command on the machine.
func (m *machine) sh(t *testing.T, format string, args ...any) {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	if out, err := m.command(t, "sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s on %s: %v\n%s", command, m.spec.Node, err, out)
	}
}

// start starts the appliance.
func (m *machine) start(t *testing.T) {
	t.Helper()
	_ = os.Remove(filepath.Join(m.spec.Dir, "ready"))
	m.process, m.exited = m.run(t, m.spec), make(chan struct{})
	go func() {
		m.process.Wait()
		close(m.exited)
	}()
}

func (m *machine) run(t *testing.T, spec machineSpec) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	// nsenter forks, to be in the process namespace: see signal.
	command := exec.Command("nsenter", "-t", m.pid(t), "-m", "-n", "-p", "-u", "--", cmp.Or(m.program, os.Args[0]))
	command.Env = append(os.Environ(), asMachine+"="+string(text))
	command.Stdout, command.Stderr = m.output, m.output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}

// signal goes to the appliance itself, the child of nsenter.
func (m *machine) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.process.Process.Pid, m.process.Process.Pid))
	if err != nil || len(strings.Fields(string(children))) == 0 {
		t.Fatalf("the appliance on %s does not run: %v", m.spec.Node, err)
	}
	var pid int
	if _, err := fmt.Sscan(string(children), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// stop ends the appliance in an orderly way.
func (m *machine) stop(t *testing.T) {
	t.Helper()
	m.signal(t, syscall.SIGTERM)
	select {
	case <-m.exited:
	case <-time.After(time.Minute):
		t.Fatalf("the appliance on %s has not ended\n%s", m.spec.Node, m.said())
	}
}

func (m *machine) runs() bool {
	if m.process == nil {
		return false
	}
	select {
	case <-m.exited:
		return false
	default:
		return true
	}
}

// said is the end of what the appliance wrote.
func (m *machine) said() string {
	data, _ := os.ReadFile(filepath.Join(m.spec.Dir, "output"))
	return string(data[max(0, len(data)-6000):])
}

func (m *machine) waitReady(t *testing.T) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		if _, err := os.Stat(filepath.Join(m.spec.Dir, "ready")); err == nil {
			return
		}
		select {
		case <-m.exited:
			t.Fatalf("the appliance on %s ended by itself:\n%s", m.spec.Node, m.said())
		case <-deadline:
			t.Fatalf("the appliance on %s is not ready:\n%s", m.spec.Node, m.said())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// nextVersion compiles the next version of the program: see internal/e2e/upgrade.
func nextVersion(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(dir, "next")
	if out, err := exec.Command("go", "test", "-c", "-tags", "raftstore_next", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the next version: %v\n%s", err, out)
	}
	return bin
}

// off ends the machine.
func (m *machine) off(t *testing.T) {
	t.Helper()
	_ = m.keeper.Process.Kill()
	_ = m.keeper.Wait()
	if err := os.RemoveAll(m.spec.Dir); err != nil {
		t.Error(err)
	}
}

// teardown takes everything off the machine, and so off the kernel that it shares with the others.
func (m *machine) teardown(t *testing.T) {
	t.Helper()
	if m.runs() {
		m.stop(t)
	}
	spec := m.spec
	spec.Teardown = true
	if err := m.run(t, spec).Wait(); err != nil {
		t.Errorf("teardown of %s: %v\n%s", m.spec.Node, err, m.said())
	}
}
