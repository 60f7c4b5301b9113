package containerd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pintle/pintle/internal/containertest"
	"github.com/pintle/pintle/internal/hostcheck"
	"github.com/pintle/pintle/runtime"
)

// The child's environment: cluster name, data folder, and the number of its life.
const (
	killName = "PINTLE_TEST_KILL_NAME"
	killDir  = "PINTLE_TEST_KILL_DIR"
	killLife = "PINTLE_TEST_KILL_LIFE"
	// killCycles says how often the process is killed; unset: 8.
	killCycles = "PINTLE_TEST_KILL_CYCLES"
)

func killConfig(name, dir string) Config {
	return Config{Name: name, DataDir: dir, PodCIDR: netip.MustParsePrefix("10.233.0.0/24")}
}

func sleeper(id string) (runtime.SandboxSpec, runtime.ContainerSpec) {
	return runtime.SandboxSpec{ID: id, Hostname: id, CgroupPath: "pod" + id,
			PortMaps: []runtime.PortMap{{Protocol: "tcp", HostPort: 31990, ContainerPort: 80}}},
		runtime.ContainerSpec{ID: id + "-c", SandboxID: id, Name: "c", Image: "box:1", CgroupPath: "pod" + id,
			Args: []string{"exec busybox sleep 100000"}}
}

// TestLifeThatIsKilled is the process that TestKillLosesNothing… kills: it imports, creates and
// removes without end, and says on stdout what it was told is done.
func TestLifeThatIsKilled(t *testing.T) {
	if os.Getenv(killDir) == "" {
		t.Skip("only as a child of TestKillLosesNothingThatWasAcknowledged")
	}
	ctx := t.Context()
	e := start(t, killConfig(os.Getenv(killName), os.Getenv(killDir)))
	say := func(what, id string) { os.Stdout.WriteString("ack " + what + " " + id + "\n") }
	say("ready", "-")
	_, err := e.ImportImages(ctx, bytes.NewReader(containertest.Busybox(t, "box:1", "FROM=image")))
	must(t, err)
	say("image", "-")
	for i := 0; ; i++ {
		id := fmt.Sprintf("p%s-%d", os.Getenv(killLife), i)
		sb, c := sleeper(id)
		_, err := e.CreateSandbox(ctx, sb)
		must(t, err)
		say("sandbox", id)
		must(t, e.CreateContainer(ctx, c))
		say("created", id)
		must(t, e.StartContainer(ctx, c.ID))
		say("running", id)
		if i%2 == 1 {
			say("removing", id)
			must(t, e.RemoveSandbox(ctx, id))
			say("gone", id)
		}
	}
}

// life runs the child until it is killed, and returns what it acknowledged last, by pod. wait is how
// long it lives; it begins at the child's start or, if ready is set, when its engine serves.
func life(t *testing.T, cfg Config, number int, wait time.Duration, ready bool) (acked map[string]string, image bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLifeThatIsKilled$", "-test.count=1")
	cmd.Env = append(os.Environ(), killName+"="+cfg.Name, killDir+"="+cfg.DataDir, killLife+"="+strconv.Itoa(number))
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	kill := func() { _ = cmd.Process.Signal(syscall.SIGKILL) } // it may have ended by itself, seen below
	if !ready {
		time.AfterFunc(wait, kill)
	}
	acked = map[string]string{}
	var other []string
	for s := bufio.NewScanner(out); s.Scan(); {
		f := strings.Fields(s.Text())
		switch {
		case len(f) != 3 || f[0] != "ack":
			other = append(other, s.Text())
		case f[1] == "ready":
			if ready {
				time.AfterFunc(wait, kill)
			}
		case f[1] == "image":
			image = true
		default:
			acked[f[2]] = f[1]
		}
	}
	err = cmd.Wait()
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGKILL {
		t.Fatalf("life %d ended by itself: %v\n%s\n%s", number, err, strings.Join(other, "\n"), complaint.String())
	}
	return acked, image
}

func TestKillLosesNothingThatWasAcknowledgedAndLeavesNothingThatCannotBeRemoved(t *testing.T) {
	containertest.Need(t)
	cycles := 8
	if testing.Short() {
		cycles = 2
	}
	if v, err := strconv.Atoi(os.Getenv(killCycles)); err == nil {
		cycles = v
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	ctx := t.Context()
	before, err := hostcheck.Snapshot()
	must(t, err)
	cfg := killConfig(fmt.Sprintf("k%d", os.Getpid()), t.TempDir())
	n := namesOf(cfg.Name)
	t.Cleanup(func() {
		if e, err := New(cfg); err == nil {
			_ = e.Teardown(context.Background()) // a failed test leaves the host clean, too
		}
	})

	image := false
	old := map[string]int{} // pods of the life before → process id
	for i := range cycles {
		// Short lives end while the engine adopts, while it imports, in CNI's add; longer ones in
		// every later step.
		acked, imported := life(t, cfg, i, time.Duration(rnd.Int64N(int64(900*time.Millisecond))), i%3 != 2)
		image = image || imported

		e := start(t, cfg)
		boxes, err := e.Sandboxes(ctx)
		must(t, err)
		ctrs, err := e.Containers(ctx)
		must(t, err)
		box := func(id string) *runtime.Sandbox {
			if k := slices.IndexFunc(boxes, func(s runtime.Sandbox) bool { return s.ID == id }); k >= 0 {
				return &boxes[k]
			}
			return nil
		}
		ctr := func(id string) *runtime.Container {
			if k := slices.IndexFunc(ctrs, func(c runtime.Container) bool { return c.SandboxID == id }); k >= 0 {
				return &ctrs[k]
			}
			return nil
		}
		if _, err := e.Image(ctx, "box:1"); image && err != nil {
			t.Errorf("life %d: an imported image is lost: %v", i, err)
		}
		for id, state := range acked {
			b, c := box(id), ctr(id)
			switch state {
			case "gone":
				if b != nil || c != nil {
					t.Errorf("life %d: %s was removed and is back: %+v %+v", i, id, b, c)
				}
			case "removing": // anything between
			case "running":
				if c == nil || c.State != runtime.Running || syscall.Kill(c.PID, 0) != nil {
					t.Errorf("life %d: the container of %s ran and does no more: %+v", i, id, c)
				}
				fallthrough
			default:
				if b == nil || !b.Ready || len(b.IPs) != 1 {
					t.Errorf("life %d: the sandbox of %s (%s) is lost: %+v", i, id, state, b)
				}
				if state == "created" && c == nil {
					t.Errorf("life %d: the container of %s was created and is lost", i, id)
				}
			}
		}
		for id, pid := range old {
			if c := ctr(id); c == nil || c.State != runtime.Running || c.PID != pid {
				t.Errorf("life %d: %s ran as process %d, and now is %+v", i, id, pid, c)
			}
		}
		// Whatever was cut off can be removed. One pod stays, to be adopted again and again.
		old = map[string]int{}
		for _, b := range boxes {
			c := ctr(b.ID)
			if b.Ready && c != nil && c.State == runtime.Running && len(old) == 0 {
				old[b.ID] = c.PID
				if code, err := e.Exec(ctx, c.ID, []string{"/bin/sh", "-c", "exit 4"}, runtime.Streams{}); err != nil || code != 4 {
					t.Errorf("life %d: exec in an adopted container: %d %v", i, code, err)
				}
				continue
			}
			if err := e.RemoveSandbox(ctx, b.ID); err != nil {
				t.Errorf("life %d: %v", i, err)
			}
		}
		must(t, e.stop())
		if t.Failed() {
			break
		}
		if got := leases(t, cfg); len(got) > len(old) {
			t.Errorf("life %d: addresses leak: %v for %d pods", i, got, len(old))
		}
	}

	e := start(t, cfg)
	for id := range old {
		must(t, e.RemoveSandbox(ctx, id))
	}
	for _, kind := range []string{"sandboxes", "containers"} {
		if left, _ := os.ReadDir(filepath.Join(cfg.DataDir, kind)); len(left) > 0 {
			t.Errorf("records of %s stay: %v", kind, left)
		}
	}
	must(t, e.stop())
	must(t, e.Teardown(ctx))
	after, err := hostcheck.Snapshot()
	must(t, err)
	ours := func(l string) bool {
		return strings.Contains(l, cfg.Name) || strings.Contains(l, n.bridge) || strings.Contains(l, cfg.DataDir)
	}
	if d := hostcheck.Diff(before, after, ours); len(d) > 0 {
		t.Errorf("the host is not as it was:\n%s", strings.Join(d, "\n"))
	}
}

// leases are the pod addresses that CNI's host-local believes are in use.
func leases(t *testing.T, cfg Config) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.DataDir, "cni", "ipam", namesOf(cfg.Name).network, "10.*"))
	must(t, err)
	return files
}
