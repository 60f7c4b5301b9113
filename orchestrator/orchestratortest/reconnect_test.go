package orchestratortest_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// cable leads to a server; while it is out, connections break and new ones are refused.
type cable struct {
	net.Listener
	to string

	mu    sync.Mutex // guards what follows
	out   bool
	conns []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{Listener: l, to: to}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.carry(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.pull(true)
		serving.Wait()
	})
	return c
}

func (c *cable) carry(conn net.Conn) {
	defer conn.Close()
	c.mu.Lock()
	if c.out {
		c.mu.Unlock()
		return
	}
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		c.mu.Unlock()
		return
	}
	defer far.Close()
	c.conns = append(c.conns, conn, far)
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(far, conn)
		far.Close()
	}()
	_, _ = io.Copy(conn, far)
	conn.Close()
	<-ended
}

func (c *cable) pull(out bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = out
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// The informers of client-go try again after up to 30 seconds once nobody has answered for a while.
func TestANodeThatIsBackHasCaughtUpWithinSeconds(t *testing.T) {
	t.Parallel()
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) { cfg.Address = "127.0.0.1:0" })
	token, err := c.JoinToken(t.Context(), orchestrator.RoleNode, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	wire := newCable(t, c.Addr().String())
	node, err := cluster.NewNode(t.Context(), cluster.NodeConfig{Name: "far", Dir: t.TempDir(), Token: token,
		Servers: cluster.NewServers([]string{wire.Addr().String()})})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(node.ProxyConfig())
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services().Informer()
	slices := factory.Discovery().V1().EndpointSlices().Informer()
	ctx, cancel := context.WithCancel(t.Context())
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), services.HasSynced, slices.HasSynced) {
		t.Fatal("the informers never began")
	}

	wire.pull(true)
	time.Sleep(30 * time.Second)
	if _, err := c.Client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "new"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"a": "b"}, Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the new Service has its slice", func() bool {
		list, err := c.Client.DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=new"})
		return err == nil && len(list.Items) > 0
	})
	wire.pull(false)
	back := time.Now()
	until(t, "the informers know the new Service", func() bool {
		_, known, _ := services.GetIndexer().GetByKey("default/new")
		for _, o := range slices.GetStore().List() {
			if o.(metav1.Object).GetLabels()["kubernetes.io/service-name"] == "new" {
				return known
			}
		}
		return false
	})
	if took := time.Since(back); took > 5*time.Second {
		t.Errorf("it took %v", took.Round(time.Millisecond))
	} else {
		t.Logf("it took %v", took.Round(time.Millisecond))
	}
}
