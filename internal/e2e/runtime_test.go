package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually runs a kubectl command until it succeeds and prints the text.
func (k *kubectl) eventually(args []string, want string) string {
	k.t.Helper()
	var out string
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if out, err = k.run("", args...); err == nil && strings.Contains(out, want) {
			return out
		}
	}
	k.t.Fatalf("kubectl %s: %v, never %q in\n%s", strings.Join(args, " "), err, want, out)
	return ""
}

// inTerminal runs kubectl with a terminal, as a person has it.
func (k *kubectl) inTerminal(stdin string, args string, env ...string) string {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "script", "-qec", os.Args[0]+" "+args, "/dev/null")
	command.Env = append(append(os.Environ(), asKubectl+"=1", "KUBECONFIG="+k.config, "HOME="+k.home, "TERM=xterm"), env...)
	command.Stdin = strings.NewReader(stdin)
	out, err := command.CombinedOutput()
	if err != nil {
		k.t.Errorf("kubectl %s in a terminal: %v\n%s", args, err, out)
	}
	return string(out)
}

const talker = `
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: example.com/busybox:1
    stdin: true
    command: [sh, -c, "busybox --install -s /bin; echo one; echo two >&2; echo three; while read line; do echo got $line; [ $line = end ] && exit 7; done"]
`

func TestKubectlReadsAndSpeaksToContainers(t *testing.T) {
	a, k := startAppliance(t, "streams")
	_, archive := busybox(t)
	if err := a.ImportImages(context.Background(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	k.ok(talker, words("apply -f -"), "created")
	k.ok(webPod, words("apply -f -"), "created")
	k.ok("", words("wait --for=condition=Ready pod/talker pod/web --timeout=60s"), "condition met")
	k.eventually(words("logs talker"), "three")
	if out := k.ok("", words("logs talker --tail=1")); strings.TrimSpace(out) != "three" {
		t.Errorf("--tail=1 gives %q", out)
	}
	if out := k.ok("", words("logs talker --since=1h --timestamps")); strings.Count(out, "Z ") != 3 {
		t.Errorf("--timestamps gives %q", out)
	}
	if out := k.ok("", words("logs talker --since-time=2100-01-01T00:00:00Z")); out != "" {
		t.Errorf("--since-time in the future gives %q", out)
	}
	if out := k.ok("", words("logs talker --limit-bytes=5")); len(out) != 5 {
		t.Errorf("--limit-bytes gives %q", out)
	}

	for _, protocol := range []string{"true", "false"} { // WebSockets, SPDY
		t.Run("websockets="+protocol, func(t *testing.T) {
			t.Setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", protocol)
			t.Setenv("KUBECTL_PORT_FORWARD_WEBSOCKETS", protocol)
			k := &kubectl{t: t, config: k.config, home: k.home}
			k.ok("", words("exec talker -- echo from inside"), "from inside")
			big := strings.Repeat("0123456789abcde\n", 1<<16)
			if out := k.ok(big, words("exec -i talker -- cat")); out != big {
				t.Errorf("exec -i brought %d of %d bytes back", len(out), len(big))
			}
			out, err := k.run("", "exec", "talker", "--", "sh", "-c", "echo bad >&2; exit 3")
			if e := new(exec.ExitError); err == nil || !strings.Contains(out, "bad") || !strings.Contains(out, "exit code 3") {
				t.Errorf("exec of a command that fails: %v (%T)\n%s", err, e, out)
			}
			if out := k.inTerminal("", "exec -it talker -- sh -c 'stty size; tty; echo tty ok'"); !strings.Contains(out, "tty ok") || !strings.Contains(out, "/dev/") {
				t.Errorf("exec -it: %s", out)
			}
			k.fails("", words("exec talker -- no-such-command"), "no-such-command")
			file := filepath.Join(k.home, "file-"+protocol)
			if err := os.WriteFile(file, []byte(big), 0o600); err != nil {
				t.Fatal(err)
			}
			k.ok("", words("cp "+file+" talker:/tmp/copy-"+protocol))
			k.ok("", words("cp talker:/tmp/copy-"+protocol+" "+file+".back"))
			if back, err := os.ReadFile(file + ".back"); err != nil || string(back) != big {
				t.Errorf("cp there and back: %v, %d of %d bytes", err, len(back), len(big))
			}
			k.portForward("pod/web", 8080)
		})
	}

	follow := make(chan string, 1)
	go func() {
		out, _ := k.run("", words("logs -f talker")...)
		follow <- out
	}()
	k.ok("hello\nend\n", words("attach -i talker"), "got hello")
	select {
	case out := <-follow:
		if !strings.Contains(out, "three") || !strings.Contains(out, "got hello") || !strings.Contains(out, "got end") {
			t.Errorf("logs -f: %s", out)
		}
	case <-time.After(30 * time.Second):
		t.Error("logs -f goes on after its container ended")
	}
	k.eventually([]string{"get", "pod", "talker", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"}, "1")
	k.ok("", words("logs talker --previous"), "got end")
	if out := k.ok("", words("logs talker")); strings.Contains(out, "got") {
		t.Errorf("logs of the new attempt: %s", out)
	}
	k.fails("", words("logs web --previous"), `previous terminated container "web" in pod "web" not found`)

	k.ok("", words("run missing --image=example.com/missing:1"), "created")
	k.eventually([]string{"get", "pod", "missing", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}"}, "Pull")
	k.fails("", words("logs missing"), "is waiting to start: trying and failing to pull image")
	k.fails("", words("exec missing -- true"), "is waiting to start")
	k.ok("", words("delete pod talker web missing --now"), "deleted")
}

// daemonOf finds the private containerd of this test's appliance by its config, which lies below the
// test's own folder.
func daemonOf(t *testing.T) int {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range lines {
			line, _ := os.ReadFile(file)
			args := strings.Split(string(line), "\x00")
			if len(args) > 2 && filepath.Base(args[0]) == "containerd" && args[1] == "--config" && strings.Contains(args[2], t.Name()) {
				pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
				if err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatal("no containerd runs for this test")
	return 0
}

func podNames(names []string) (out []string) {
	for _, name := range names {
		out = append(out, "pod/"+name)
	}
	return out
}

func TestPodsOutliveTheirContainerd(t *testing.T) {
	a, k := startAppliance(t, "daemon")
	_, archive := busybox(t)
	if err := a.ImportImages(context.Background(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	gates := t.TempDir()
	k.ok(webPod, words("apply -f -"), "created")
	k.ok(strings.ReplaceAll(talker, "talker", "steady"), words("apply -f -"), "created")
	k.ok("", words("wait --for=condition=Ready pod/web pod/steady --timeout=60s"), "condition met")
	identity := func() string {
		return k.ok("", []string{"get", "pods", "web", "steady", "-o",
			`jsonpath={range .items[*]}{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.podIP}{"\n"}{end}`})
	}
	before := identity()

	for i, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		gate := filepath.Join(gates, strconv.Itoa(i))
		if err := os.Mkdir(gate, 0o755); err != nil {
			t.Fatal(err)
		}
		// Containers that end while nobody is there to hear of it: for good, and to be restarted.
		leaving := fmt.Sprintf("leaving-%d", i)
		k.ok(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 1
  volumes: [{name: gate, hostPath: {path: %s, type: Directory}}]
  containers:
  - name: done
    image: example.com/busybox:1
    volumeMounts: [{name: gate, mountPath: /gate}]
    command: [sh, -c, "while [ ! -e /gate/open ]; do sleep 0.05; done; echo last words; exit 0"]
  - name: crash
    image: example.com/busybox:1
    volumeMounts: [{name: gate, mountPath: /gate}]
    command: [sh, -c, "[ -e /gate/open ] && exec sleep 1000; while [ ! -e /gate/open ]; do sleep 0.05; done; exit 5"]
`, leaving, gate), words("apply -f -"), "created")
		k.ok("", words("wait --for=condition=Ready pod/"+leaving+" --timeout=60s"), "condition met")

		// Pods whose start falls into the gap; one that may never restart must not fail for it.
		var starting []string
		for n := range 4 {
			starting = append(starting, fmt.Sprintf("starting-%d-%d", i, n))
		}
		var manifests string
		for _, name := range starting {
			manifests += strings.Replace(strings.ReplaceAll(webPod, "web", name), "spec:", "spec:\n  restartPolicy: Never", 1) + "---"
		}

		old := daemonOf(t)
		k.ok(manifests, words("apply -f -"), "created")
		if err := os.WriteFile(filepath.Join(gate, "open"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(old, signal); err != nil {
			t.Fatal(err)
		}
		k.eventually([]string{"get", "pod", leaving, "-o", `jsonpath={range .status.containerStatuses[*]}{.name}={.state.terminated.exitCode}/{.lastState.terminated.exitCode} {end}`}, "done=0/")
		k.eventually([]string{"get", "pod", leaving, "-o", `jsonpath={range .status.containerStatuses[*]}{.name}={.restartCount}/{.lastState.terminated.exitCode} {end}`}, "crash=1/5")
		k.ok("", words("logs "+leaving+" -c done"), "last words")
		k.ok("", append(words("wait --for=condition=Ready --timeout=60s"), podNames(starting)...), "condition met")
		if now := daemonOf(t); now == old {
			t.Errorf("the containerd that got %v still runs", signal)
		}
		k.eventually(words("exec web -- echo from inside"), "from inside")
		fresh := fmt.Sprintf("fresh-%d", i)
		k.ok(strings.ReplaceAll(webPod, "web", fresh), words("apply -f -"), "created")
		k.ok("", words("wait --for=condition=Ready pod/"+fresh+" --timeout=60s"), "condition met")
		k.ok("", words("exec "+fresh+" -- echo from inside"), "from inside")
		k.ok("", words("logs "+fresh), "started")
		if after := identity(); after != before {
			t.Errorf("after %v the pods are others:\n%s\nbefore:\n%s", signal, after, before)
		}
		// What was attached before reaches the container still, and its output the log.
		mark := fmt.Sprintf("after-%d", i)
		k.ok("", []string{"exec", "steady", "--", "sh", "-c", "echo " + mark + " > /proc/1/fd/1"})
		k.eventually(words("logs steady"), mark)
		k.ok("", append(words("delete --wait --timeout=30s pod/"+leaving+" pod/"+fresh), podNames(starting)...), "deleted")
	}
	k.ok("", words("delete pod web steady --now"), "deleted")
}
