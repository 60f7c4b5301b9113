package orchestratortest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// links are the connections that members have dialled to each other.
type links struct {
	mu  sync.Mutex // guards what follows
	all []net.Conn
}

func (l *links) wrap(dial cluster.DialFunc) cluster.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.all = append(l.all, conn)
		}
		return conn, err
	}
}

// sever breaks them all: whoever goes on must shake hands anew.
func (l *links) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.all {
		conn.Close()
	}
	l.all = nil
}

// clientAt is a client over TLS, with a connection of its own, of somebody whose clock is that one.
func clientAt(t *testing.T, c *orchestratortest.Cluster, clock *clocktesting.FakeClock) (client kubernetes.Interface, leaf *x509.Certificate, done func()) {
	t.Helper()
	data, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.CAData)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, Time: clock.Now,
		VerifyConnection: func(state tls.ConnectionState) error { leaf = state.PeerCertificates[0]; return nil }}}
	client, err = kubernetes.NewForConfig(&rest.Config{Host: config.Host, Transport: transport, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Fatalf("%v: %v", clock.Now(), err)
	}
	return client, leaf, transport.CloseIdleConnections
}

// Three members and a node live through ten years, four weeks at a time. Nothing is restarted; at each step every
// connection is made anew, so that every certificate is shown and believed at its time.
func TestTenYearsPassWithoutARestart(t *testing.T) {
	const step, years = 28 * 24 * time.Hour, 10
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	wires := &links{}
	m := orchestratortest.StartMembers(t, 3, func(_ string, cfg *orchestrator.Config) {
		cfg.Clock, cfg.DialMember = clock, wires.wrap(cfg.DialMember)
	})
	var addresses []string
	for i := range 3 {
		addresses = append(addresses, m.Get(m.Name(i)).Addr().String())
	}
	token, err := m.Get("m1").JoinToken(t.Context(), orchestrator.RoleNode, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	node, err := cluster.NewNode(t.Context(), cluster.NodeConfig{Name: "far", Dir: t.TempDir(), Token: token, Servers: cluster.NewServers(addresses), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = node.Run(ctx) })
	defer running.Wait()
	defer cancel()

	shown := map[string]map[string]bool{"far": {}}
	note := func(who string, cert *x509.Certificate) {
		if shown[who] == nil {
			shown[who] = map[string]bool{}
		}
		shown[who][cert.SerialNumber.String()] = true
	}
	end := clock.Now().AddDate(years, 0, 0)
	for steps := 0; clock.Now().Before(end); steps++ {
		clock.Step(step)
		wires.sever()
		until(t, "the node has a certificate that lasts", func() bool {
			leaf := leafOf(t, node.Admission().Certificate)
			note("far", leaf)
			return leaf.NotAfter.Sub(clock.Now()) > 30*24*time.Hour
		})
		agent, err := dynamic.NewForConfig(node.AgentConfig())
		if err != nil {
			t.Fatal(err)
		}
		retried(t, "the node asks", func(ctx context.Context) error {
			_, err := agent.Resource(api.ClusterGroupVersion().WithResource("members")).List(ctx, metav1.ListOptions{})
			return err
		})
		for i := range 3 {
			client, leaf, done := clientAt(t, m.Get(m.Name(i)), clock)
			note(m.Name(i), leaf)
			name := fmt.Sprintf("step-%d-%d", steps, i)
			retried(t, "a write", func(ctx context.Context) error {
				_, err := client.CoreV1().ConfigMaps("default").Create(ctx, configMap(name), metav1.CreateOptions{})
				return err
			})
			done()
		}
	}
	for who, serials := range shown {
		t.Logf("%s showed %d certificates in %d years", who, len(serials), years)
		if len(serials) < years {
			t.Errorf("%s showed %d certificates", who, len(serials))
		}
	}
	if left := tokens(t, m.Get("m1")); len(left) > 0 {
		t.Errorf("tokens that expired years ago are still there: %v", left)
	}
}

func leafOf(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(data)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func tokens(t *testing.T, c *orchestratortest.Cluster) (names []string) {
	t.Helper()
	list, err := c.Client.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{FieldSelector: "type=bootstrap.kubernetes.io/token"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		names = append(names, s.Name)
	}
	return names
}
