package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pintle/pintle/internal/hostcheck"
)

// trio is three members, each with a node, and two workers, of which the second is behind a router. The test itself
// is a client on the link that the others share.
type trio struct {
	dir     string
	members []*machine
	workers []*machine
	all     []*machine
	far     *machine
}

// The networks are of the range for benchmarks (RFC 2544), which is nobody's.
const (
	linkName   = "pt-e2e-link"
	routerAt   = "198.18.77.253"
	farNetwork = "198.18.78"
)

// startTrio runs the cluster, and checks at the end that the host is as it was.
func startTrio(t *testing.T) *trio {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI runs this as root")
		}
		t.Skip("real containers need root")
	}
	before, err := hostcheck.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	c := &trio{dir: t.TempDir()}
	ours := func(line string) bool { // other programs' processes and cgroups come and go
		switch {
		case strings.Contains(line, "process "):
			return strings.Contains(line, c.dir)
		case strings.Contains(line, "/sys/fs/cgroup"):
			return strings.Contains(line, "trio")
		}
		return true
	}
	t.Cleanup(func() {
		var left []string
		for range 50 { // the last processes of a machine end a moment after its first
			after, err := hostcheck.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if left = hostcheck.Diff(before, after, ours); len(left) == 0 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, line := range left {
			t.Errorf("left on the host: %s", line)
		}
	})
	c.images(t)
	_ = exec.Command("ip", "link", "del", linkName).Run() // of a run that was killed
	shell(t, "ip link add %s type bridge && ip addr add 198.18.77.254/24 dev %s && ip link set %s up", linkName, linkName, linkName)
	t.Cleanup(func() { shell(t, "ip link del %s", linkName) })
	router := newMachine(t, c.dir, "router", routerAt)
	c.plug(t, router, 9)
	router.sh(t, "echo 1 >/proc/sys/net/ipv4/ip_forward")
	shell(t, "ip route add %s.0/24 via %s dev %s", farNetwork, routerAt, linkName)
	for i := range 3 {
		m := newMachine(t, c.dir, fmt.Sprint("m", i+1), fmt.Sprint("198.18.77.", i+1))
		c.plug(t, m, i+1)
		c.members = append(c.members, m)
	}
	w1 := newMachine(t, c.dir, "w1", "198.18.77.4")
	c.plug(t, w1, 4)
	c.far = newMachine(t, c.dir, "w2", farNetwork+".5")
	shell(t, "ip link add ptfar0 type veth peer name ptfar1 && ip link set ptfar0 netns %s name eth1 && ip link set ptfar1 netns %s name eth0", router.pid(t), c.far.pid(t))
	router.sh(t, "ip addr add %s.254/24 dev eth1 && ip link set eth1 up", farNetwork)
	c.far.sh(t, "ip addr add %s/24 dev eth0 && ip link set eth0 up && ip route add default via %s.254", c.far.spec.At, farNetwork)
	c.workers = []*machine{w1, c.far}
	c.all = append(append(c.all, c.members...), c.workers...)
	t.Cleanup(func() {
		for _, m := range c.all {
			if t.Failed() && os.Getenv("PINTLE_E2E_DEBUG") != "" {
				t.Logf("%s said:\n%s", m.spec.Node, m.said())
			}
			m.teardown(t)
		}
	})

	first := c.members[0]
	first.start(t)
	first.waitReady(t)
	data, err := os.ReadFile(filepath.Join(first.spec.Dir, "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	if err := json.Unmarshal(data, &tokens); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.all[1:] {
		m.spec.Join, m.spec.Token = []string{"198.18.77.1:6443"}, tokens[0]
		if m.spec.Worker = m == w1 || m == c.far; m.spec.Worker {
			m.spec.Token = tokens[1]
		}
		m.start(t)
	}
	for _, m := range c.all[1:] {
		m.waitReady(t)
	}
	return c
}

// plug connects a machine to the link that all share; everything else is behind the router.
func (c *trio) plug(t *testing.T, m *machine, n int) {
	t.Helper()
	_ = exec.Command("ip", "link", "del", fmt.Sprint("pt-e2e-", n)).Run() // of a run that was killed
	shell(t, "ip link add pt-e2e-%d type veth peer name ptpeer%d && ip link set ptpeer%d netns %s name eth0 && ip link set pt-e2e-%d master %s up", n, n, n, m.pid(t), n, linkName)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", fmt.Sprint("pt-e2e-", n)).Run() }) // it may have gone with its machine
	gateway := ""
	if m.spec.At != routerAt {
		gateway = " && ip route add default via " + routerAt + " dev eth0 onlink"
	}
	m.sh(t, "ip addr add %s/24 dev eth0 && ip link set eth0 up%s", m.spec.At, gateway)
}

// cut takes a machine's cable out, mend puts it back. Nobody is told.
func (c *trio) cut(t *testing.T, m *machine)  { shell(t, "ip link set pt-e2e-%s down", c.number(m)) }
func (c *trio) mend(t *testing.T, m *machine) { shell(t, "ip link set pt-e2e-%s up", c.number(m)) }

func (c *trio) number(m *machine) string { return m.spec.At[len(m.spec.At)-1:] }

// images are written once, and imported by every appliance.
func (c *trio) images(t *testing.T) {
	t.Helper()
	_, archive := busybox(t)
	if err := os.WriteFile(filepath.Join(c.dir, "busybox.tar"), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(c.dir, "demoserver")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ourModule+"/examples/quickstart/demoserver")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: "demoserver", Mode: 0o755, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
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
	if err == nil {
		image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/demoserver"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("example.com/web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(c.dir, "web.tar"), tag, image); err != nil {
		t.Fatal(err)
	}
}

// kubeconfig is a member's own.
func (m *machine) kubeconfig(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.spec.Dir, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (m *machine) restConfig(t *testing.T) *rest.Config {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(m.kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func (m *machine) client(t *testing.T) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(m.restConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// leader is the member that leads, as any that answers says.
func (c *trio) leader(t *testing.T) *machine {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, m := range c.members {
			if !m.runs() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			text, err := m.client(t).Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").Do(ctx).Raw()
			cancel()
			if err == nil && bytes.Contains(text, []byte("[+]scheduler ok")) {
				return m
			}
		}
	}
	t.Fatal("no member says that it leads")
	return nil
}
