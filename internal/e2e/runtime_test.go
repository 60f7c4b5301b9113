package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
