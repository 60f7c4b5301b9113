package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
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
	k.eventually(words("logs talker"), "two") // from stderr: its order among the others is nobody's
	if out := k.ok("", words("logs talker --tail=1")); strings.Count(out, "\n") != 1 {
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

// imageWith packs one static binary as /program.
func imageWith(t *testing.T, reference string, binary []byte) []byte {
	t.Helper()
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: "program", Mode: 0o755, Size: int64(len(binary))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(binary); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/program"}}); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, image, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestInClusterConfigWorksInAPod(t *testing.T) {
	program := filepath.Join(t.TempDir(), "incluster")
	build := exec.Command("go", "build", "-o", program, "./testdata/incluster")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	a, k := startAppliance(t, "incluster")
	if err := a.ImportImages(context.Background(), bytes.NewReader(imageWith(t, "example.com/incluster:1", binary))); err != nil {
		t.Fatal(err)
	}
	k.ok(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: treasure, labels: {mine: "yes"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: read-maps}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: read-maps}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: read-maps}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
---
apiVersion: v1
kind: Pod
metadata: {name: inside}
spec:
  serviceAccountName: reader
  restartPolicy: Never
  securityContext: {runAsUser: 1000}
  containers: [{name: c, image: "example.com/incluster:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: unbound}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "example.com/incluster:1"}]
`, words("apply -f -"), "created")
	k.eventually(words("get pod inside -o jsonpath={.status.containerStatuses[0].state}"), "terminated")
	out := k.ok("", words("logs inside"), "I am system:serviceaccount:default:reader", "found treasure",
		`refused: secrets is forbidden: User "system:serviceaccount:default:reader" cannot list resource "secrets"`, "all is well")
	if strings.Count(out, "found treasure") != 3 {
		t.Errorf("by address and by both names: %s", out)
	}
	k.ok("", words("get pod inside"), "Completed")
	k.eventually(words("get pod unbound -o jsonpath={.status.containerStatuses[0].state}"), "terminated")
	k.ok("", words("logs unbound"), "list what is allowed", "configmaps is forbidden")
	k.ok("", words("delete pod inside unbound --now"), "deleted")
}

const fieldsPod = `
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {one: "1", two: "2"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {key: treasure}
---
apiVersion: v1
kind: Service
metadata: {name: linked}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: fields, labels: {tier: front}, annotations: {note: hello}}
spec:
  restartPolicy: Never
  hostname: host-of-mine
  subdomain: below
  hostAliases: [{ip: 10.1.2.3, hostnames: [alias.example]}]
  dnsConfig: {searches: [extra.example], options: [{name: ndots, value: "2"}]}
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  securityContext:
    runAsUser: 1000
    runAsGroup: 2000
    fsGroup: 3000
    supplementalGroups: [4000]
    sysctls: [{name: net.core.somaxconn, value: "333"}]
  volumes:
  - {name: conf, configMap: {name: conf, defaultMode: 0440, items: [{key: one, path: deep/uno, mode: 0400}, {key: two, path: due}]}}
  - {name: none, configMap: {name: missing, optional: true}}
  - name: all
    projected:
      defaultMode: 0640
      sources:
      - {serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 601}}
      - {configMap: {name: conf}}
      - {secret: {name: hidden, items: [{key: key, path: secret/key}]}}
      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}]}}
  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: disk, emptyDir: {}}
  initContainers:
  - {name: init, image: "example.com/busybox:1", command: [sh, -c, "echo from init > /disk/init; busybox mkdir -p /disk/fields"], volumeMounts: [{name: disk, mountPath: /disk}]}
  - {name: side, image: "example.com/busybox:1", restartPolicy: Always, command: [sh, -c, "exec sleep 1000"]}
  containers:
  - name: c
    image: example.com/busybox:1
    workingDir: /work/dir
    command: [sh, -c]
    args: ["$(SCRIPT)"]
    terminationMessagePath: /tmp/last
    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 100m}}
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
      seccompProfile: {type: RuntimeDefault}
    envFrom: [{prefix: C_, configMapRef: {name: conf}}, {secretRef: {name: hidden}}, {configMapRef: {name: missing, optional: true}}]
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: KEY, valueFrom: {secretKeyRef: {name: hidden, key: key}}}
    - {name: JOINED, value: "$(NAME)-$(KEY)-$$(NAME)-$(UNKNOWN)"}
    - name: SCRIPT
      value: |
        say() { echo "$1=[$2]"; }
        say pwd "$(pwd)"
        say joined "$JOINED"; say prefixed "$C_one $C_two"; say key "$key"; say note "$NOTE"; say memory "$MEMORY"
        say ip "$(busybox ip -4 addr show eth0 | busybox grep -c "$POD_IP/")"
        say links "$(env | busybox grep -c '^LINKED_') $(env | busybox grep -c '^KUBERNETES_SERVICE_HOST=')"
        say id "$(busybox id -u):$(busybox id -g):$(busybox id -G)"
        say hostname "$(busybox hostname)"
        say alias "$(busybox grep -c 'alias.example' /etc/hosts)"
        say fqdn "$(busybox grep -c 'host-of-mine.below.default.svc.cluster.local' /etc/hosts)"
        say resolv "$(busybox grep -c 'extra.example' /etc/resolv.conf) $(busybox grep -c 'ndots:2' /etc/resolv.conf) $(busybox grep -c 'ndots:5' /etc/resolv.conf)"
        say conf "$(busybox find /conf -type l | busybox sort | busybox tr '\n' ' ')"
        say due "$(cat /conf/due) $(busybox stat -L -c '%a %g' /conf/due)"
        say none "$(busybox ls /none | busybox wc -l)"
        say projected "$(cat /all/one)$(cat /all/secret/key) $(cat /all/labels) $(cat /all/cpu)"
        say token "$(busybox wc -c < /all/token | busybox tr -d ' ' | busybox grep -c '[0-9][0-9][0-9]') $(busybox stat -L -c %a /all/token)"
        say readonly "$(echo x 2>&1 > /conf/x; echo x 2>&1 > /file)"
        say mem "$(busybox df -k /mem | busybox tail -1 | busybox awk '{print $1, $2}') $(echo ok > /mem/x && cat /mem/x)"
        say disk "$(cat /disk/init) $(busybox stat -c '%g %a' /disk)"
        say sub "$(echo sub > /expr/x && cat /disk/fields/x) $(cat /one)"
        say somaxconn "$(cat /proc/sys/net/core/somaxconn)"
        say caps "$(busybox grep CapBnd /proc/self/status | busybox tr -d '\t')"
        say nnp "$(busybox grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | busybox tr -d '\t' | busybox tr '\n' ' ')"
        say limits "$(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null) $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null)"
        echo my last words > /tmp/last
        exit 4
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: none, mountPath: /none}
    - {name: all, mountPath: /all}
    - {name: mem, mountPath: /mem}
    - {name: disk, mountPath: /disk}
    - {name: disk, mountPath: /expr, subPathExpr: $(NAME)}
    - {name: conf, mountPath: /one, subPath: deep/uno}
    - {name: disk, mountPath: /work/dir, subPath: work}
`

// TestPodFieldsAreHonoured asks a container what it sees of the fields that its pod sets.
func TestPodFieldsAreHonoured(t *testing.T) {
	a, k := startAppliance(t, "fields")
	_, archive := busybox(t)
	if err := a.ImportImages(context.Background(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	k.ok(fieldsPod, words("apply -f -"), "created")
	k.eventually([]string{"get", "pod", "fields", "-o", `jsonpath={.status.phase}`}, "Failed")
	out := k.ok("", words("logs fields -c c"))
	for _, want := range []string{
		"pwd=[/work/dir]", "joined=[fields-treasure-$(NAME)-$(UNKNOWN)]", "prefixed=[1 2]", "key=[treasure]", "note=[hello]", "memory=[64]",
		"ip=[1]", "links=[0 1]", "id=[1000:2000:2000 3000 4000]", "hostname=[host-of-mine]", "alias=[1]", "fqdn=[1]", "resolv=[1 1 0]",
		"due=[2 440 3000]", "none=[0]", `projected=[1treasure tier="front" 500]`, "token=[1 640]", "Read-only file system",
		"mem=[tmpfs 1024 ok]", "disk=[from init 3000 2777]", "sub=[sub 1]", "somaxconn=[333]",
		"caps=[CapBnd:0000000000000400]", "nnp=[NoNewPrivs:1 Seccomp:2 ]", "67108864", "50000",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	k.ok("", []string{"get", "pod", "fields", "-o", `jsonpath={.status.containerStatuses[0].state.terminated}`}, "my last words", `"exitCode":4`)

	for name, pod := range map[string]struct{ spec, path, want string }{
		"deadline": {`activeDeadlineSeconds: 1, terminationGracePeriodSeconds: 1, containers: [{name: c, image: "example.com/busybox:1", command: [sleep, "1000"]}]`,
			"{.status.reason}", "DeadlineExceeded"},
		"no-such-command": {`restartPolicy: Never, containers: [{name: c, image: "example.com/busybox:1", command: [/no/such]}]`,
			"{.status.phase} {.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}", "Failed StartError 128"},
		"never-pulled": {`containers: [{name: c, image: "example.com/missing:1", imagePullPolicy: Never}]`,
			"{.status.containerStatuses[0].state.waiting.reason}", "ErrImageNeverPull"},
		"pulled": {`containers: [{name: c, image: "example.com/missing:1", imagePullPolicy: Always}]`,
			"{.status.containerStatuses[0].state.waiting.reason}", "ImagePullBackOff"},
		"fallback": {`restartPolicy: Never, containers: [{name: c, image: "example.com/busybox:1", command: [sh, -c, "echo the end; exit 1"], terminationMessagePolicy: FallbackToLogsOnError}]`,
			"{.status.containerStatuses[0].state.terminated.message}", "the end"},
		"oom": {`restartPolicy: Never, containers: [{name: c, image: "example.com/busybox:1", command: [sh, -c, "x=0123456789; while true; do x=$x$x; done"], resources: {limits: {memory: 16Mi}}}]`,
			"{.status.containerStatuses[0].state.terminated.reason}", "OOMKilled"},
		"too-full": {`terminationGracePeriodSeconds: 1, volumes: [{name: v, emptyDir: {sizeLimit: 1Ki}}], containers: [{name: c, image: "example.com/busybox:1", command: [sh, -c, "seq 2000 > /v/x; exec sleep 1000"], volumeMounts: [{name: v, mountPath: /v}]}]`,
			"{.status.reason}", "Evicted"},
		"layer-too-full": {`terminationGracePeriodSeconds: 1, containers: [{name: c, image: "example.com/busybox:1", command: [sh, -c, "seq 20000 > /tmp/x; exec sleep 1000"], resources: {limits: {ephemeral-storage: 16Ki}}}]`,
			"{.status.reason} {.status.message}", "Evicted Container c exceeded its local ephemeral storage limit"},
		"non-root": {`containers: [{name: c, image: "example.com/busybox:1", securityContext: {runAsNonRoot: true}}]`,
			"{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError"},
		"host-path": {`volumes: [{name: v, hostPath: {path: /no/such/folder, type: Directory}}], containers: [{name: c, image: "example.com/busybox:1", command: [sleep, "1000"]}]`,
			"{.status.containerStatuses[0].state.waiting.reason}", "ContainerCreating"},
		"hooks": {`terminationGracePeriodSeconds: 5, volumes: [{name: v, emptyDir: {}}], containers: [{name: c, image: "example.com/busybox:1", command: [sh, -c, "exec sleep 1000"], volumeMounts: [{name: v, mountPath: /v}], lifecycle: {postStart: {exec: {command: [sh, -c, "echo hi > /v/hook"]}}, preStop: {sleep: {seconds: 1}}}, readinessProbe: {exec: {command: [cat, /v/hook]}, periodSeconds: 1}}]`,
			`{.status.conditions[?(@.type=="Ready")].status}`, "True"},
		"killed-by-liveness": {`terminationGracePeriodSeconds: 100, containers: [{name: c, image: "example.com/busybox:1", command: [sh, -c, "trap : TERM; while true; do sleep 1; done"], livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1}}]`,
			"{.status.containerStatuses[0].restartCount}", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kubectl{t: t, config: k.config, home: k.home}
			k.ok("{apiVersion: v1, kind: Pod, metadata: {name: "+name+"}, spec: {"+pod.spec+"}}", words("apply -f -"), "created")
			k.eventually([]string{"get", "pod", name, "-o", "jsonpath=" + pod.path}, pod.want)
		})
	}
	k.ok("", words("delete pod --all --now"), "deleted")
}

// TestPodsShareWhatTheyAskFor asks for the host's namespaces and for everything that privileged means,
// and watches volumes follow their objects.
func TestPodsShareWhatTheyAskFor(t *testing.T) {
	a, k := startAppliance(t, "shares")
	_, archive := busybox(t)
	if err := a.ImportImages(context.Background(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	k.ok(`
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {word: before}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  hostPID: true
  hostIPC: true
  dnsPolicy: Default
  restartPolicy: Never
  containers:
  - name: c
    image: example.com/busybox:1
    tty: true
    securityContext: {privileged: true}
    command: [sh, -c, "for n in net pid ipc uts mnt; do echo $n $(busybox readlink /proc/self/ns/$n); done; busybox grep CapEff /proc/self/status; busybox tty; echo hosts $(busybox grep -c localhost /etc/hosts)"]
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: conf, configMap: {name: conf}}, {name: me, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]
  containers:
  - name: c
    image: example.com/busybox:1
    command: [sh, -c, "for n in net pid ipc uts mnt; do echo $n $(busybox readlink /proc/self/ns/$n); done; exec sleep 1000"]
    volumeMounts: [{name: conf, mountPath: /conf}, {name: conf, mountPath: /fixed, subPath: word}, {name: me, mountPath: /me}]
  - name: other
    image: example.com/busybox:1
    command: [sh, -c, "for n in net pid ipc uts mnt; do echo $n $(busybox readlink /proc/self/ns/$n); done; exec sleep 1000"]
`, words("apply -f -"), "created")
	k.eventually(words("get pod host -o jsonpath={.status.phase}"), "Succeeded")
	k.ok("", words("wait --for=condition=Ready pod/plain --timeout=60s"), "condition met")
	host, plain, other := k.ok("", words("logs host"), "/dev/pts/", "CapEff"), k.ok("", words("logs plain -c c")), k.ok("", words("logs plain -c other"))
	for _, ns := range []string{"net", "pid", "ipc", "uts", "mnt"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		line := ns + " " + link
		if shared := strings.Contains(host, line); shared != (ns != "mnt") {
			t.Errorf("the pod that shares the host's namespaces has %s %v of the host's: %s", ns, shared, host)
		}
		if strings.Contains(plain, line) {
			t.Errorf("the plain pod is in the host's %s namespace", ns)
		}
		mine := plain[strings.Index(plain, ns+" "):]
		mine, _, _ = strings.Cut(mine, "\n")
		if shared := strings.Contains(other, strings.TrimSpace(mine)); shared != (ns == "net" || ns == "ipc" || ns == "uts") {
			t.Errorf("containers of one pod share %s: %v", ns, shared)
		}
	}
	bounding, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(bounding)) {
		if all, ok := strings.CutPrefix(line, "CapBnd:"); ok && !strings.Contains(host, strings.TrimSpace(all)) {
			t.Errorf("privileged has not every capability of ours, %s: %s", strings.TrimSpace(all), host)
		}
	}

	k.ok("", []string{"patch", "configmap", "conf", "-p", `{"data":{"word":"after"}}`}, "patched")
	k.ok("", words("label pod plain tier=front"), "labeled")
	k.eventually(words("exec plain -c c -- cat /conf/word"), "after")
	k.eventually(words("exec plain -c c -- cat /me/labels"), `tier="front"`)
	k.ok("", words("exec plain -c c -- cat /fixed"), "before")
	k.ok("", words("delete pod host plain --now"), "deleted")
}
