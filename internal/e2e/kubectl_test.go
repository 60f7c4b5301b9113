package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/kubectl/pkg/cmd"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// asKubectl makes this test binary be kubectl: the newest one, unmodified.
const asKubectl = "PINTLE_E2E_AS_KUBECTL"

func TestMain(m *testing.M) {
	if os.Getenv(asKubectl) != "" {
		os.Args[0] = "kubectl"
		if err := cmd.NewDefaultKubectlCommand().Execute(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(asAppliance); dir != "" {
		if err := runAppliance(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if spec := os.Getenv(asMachine); spec != "" {
		if err := runMachine(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// kubectl runs against one cluster.
type kubectl struct {
	t      *testing.T
	config string
	home   string
}

func newKubectl(t *testing.T, kubeconfig []byte) *kubectl {
	t.Helper()
	k := &kubectl{t: t, home: t.TempDir()}
	k.config = filepath.Join(k.home, "config")
	if err := os.WriteFile(k.config, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *kubectl) run(stdin string, args ...string) (string, error) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0], args...)
	command.Env = append(os.Environ(), asKubectl+"=1", "KUBECONFIG="+k.config, "HOME="+k.home)
	command.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	return out.String(), err
}

// ok runs a command that must succeed and print every one of the texts.
func (k *kubectl) ok(stdin string, args []string, want ...string) string {
	k.t.Helper()
	out, err := k.run(stdin, args...)
	if err != nil {
		k.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			k.t.Errorf("kubectl %s: no %q in\n%s", strings.Join(args, " "), text, out)
		}
	}
	return out
}

// fails runs a command that must fail and print the text.
func (k *kubectl) fails(stdin string, args []string, want string) {
	k.t.Helper()
	out, err := k.run(stdin, args...)
	if err == nil || !strings.Contains(out, want) {
		k.t.Errorf("kubectl %s: %v, no %q in\n%s", strings.Join(args, " "), err, want, out)
	}
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "example.com/web:v1", ports: [{containerPort: 80}]}
`

func words(s string) []string { return strings.Fields(s) }

func TestKubectlWithoutNodes(t *testing.T) {
	t.Parallel()
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) { cfg.Address = "127.0.0.1:0" })
	config, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	k := newKubectl(t, config)
	// A kubectl that is built from its module has no version of its own, and says so after the server's.
	k.fails("", words("version"), "Server Version: v1.37.2+pintle")
	k.ok("", words("api-resources"), "deployments", "ingresses", "poddisruptionbudgets")
	k.ok("", words("get namespaces"), "NAME", "kube-system", "Active")
	k.ok(deployment, words("apply -f -"), "deployment.apps/web created")
	k.ok(deployment, words("apply -f -"), "deployment.apps/web unchanged")
	k.ok(deployment, words("apply --server-side --force-conflicts -f -"), "serverside-applied")
	k.ok("", words("get deployment web -o wide"), "READY", "0/2", "example.com/web:v1")
	k.ok("", words("get deployment web -o yaml"), "kind: Deployment", "replicas: 2")
	k.ok("", words("get deployment web -o json"), `"kind": "Deployment"`)
	k.ok("", words("get deploy -A -l app=web"), "default", "web")
	k.ok("", words("get pods --field-selector status.phase=Pending"), "web-", "Pending")
	k.ok("", words("describe deployment web"), "RollingUpdateStrategy:", "ScalingReplicaSet")
	k.ok("", words("scale deployment web --replicas=3"), "scaled")
	k.ok("", words("set image deployment/web web=example.com/web:v2"), "image updated")
	k.ok("", words("rollout history deployment/web"), "REVISION", "2")
	k.ok("", words("rollout undo deployment/web"), "rolled back")
	k.ok("", words("rollout restart deployment/web"), "restarted")
	k.ok("", words("label deployment web tier=front"), "labeled")
	k.ok("", words("annotate deployment web note=hello"), "annotated")
	k.ok("", []string{"patch", "deployment", "web", "-p", `{"spec":{"paused":true}}`}, "patched")
	k.ok("", []string{"patch", "deployment", "web", "--type=json", "-p", `[{"op":"remove","path":"/spec/paused"}]`}, "patched")
	k.ok("", words("expose deployment web --port=80"), "service/web exposed")
	k.ok("", words("get service web"), "ClusterIP", "80/TCP")
	k.ok("", words("create configmap settings --from-literal=a=b"), "configmap/settings created")
	k.ok("", words("create secret generic s --from-literal=a=b"), "secret/s created")
	k.ok("", words("run one --image=example.com/one:v1 --restart=Never"), "pod/one created")
	k.ok("", words("describe pod one"), "no nodes available to schedule pods")
	k.ok("", words("explain deployment.spec.strategy"), "FIELD: strategy", "rollingUpdate")
	k.ok("", words("auth whoami"), orchestrator.Admin)
	k.ok("", words("auth can-i list pods"), "yes")
	k.ok("", words("events"), "ScalingReplicaSet")
	k.ok("", words("delete pod one --now"), "deleted")
	k.ok("", words("wait --for=delete pod/one --timeout=10s"))
	k.ok("", words("delete deployment web"), "deleted")

	k.fails("", words("get deployment x"), `Error from server (NotFound): deployments.apps "x" not found`)
	k.fails("", words("create configmap settings"), `configmaps "settings" already exists`)
	k.fails("", words("get foos"), `the server doesn't have a resource type "foos"`)
	k.fails(strings.Replace(deployment, "replicas: 2", "replicaz: 2", 1), words("apply -f -"), `unknown field "spec.replicaz"`)
	k.fails(strings.Replace(deployment, "{app: web}}\n  template", "{app: other}}\n  template", 1), words("create -f -"), "`selector` does not match template `labels`")
	k.fails("a: [", words("apply -f -"), "error")
	k.fails("", []string{"auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:default"}, "no")
	k.fails("", []string{"get", "pods", "--as=system:serviceaccount:default:default"}, `Error from server (Forbidden): pods is forbidden`)
}
