package appliance_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator/appliance"
)

// embedded is an appliance without root: WASI pods and the user-space proxy.
func embedded(dir string) appliance.Config {
	return appliance.Config{Name: "embedded", Node: "here", DataDir: dir, Engine: appliance.Wasm, Address: "127.0.0.1:0"}
}

func newAppliance(t *testing.T, cfg appliance.Config) *appliance.Appliance {
	t.Helper()
	a, err := appliance.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// start runs an appliance until the returned function is called.
func start(t *testing.T, a *appliance.Appliance) (client kubernetes.Interface, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-a.Ready():
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(a.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func registered(t *testing.T, r *prometheus.Registry) (names []string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names = append(names, f.GetName())
	}
	return names
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

// TestMain sees goroutines; ports and metrics are looked at here.
func TestNewWithoutRunLeavesNothingOpen(t *testing.T) {
	registry := prometheus.NewRegistry()
	cfg := embedded(t.TempDir())
	cfg.Metrics, cfg.HTTPAddress, cfg.HTTPSAddress = registry, freeAddress(t), freeAddress(t)
	for range 2 {
		a := newAppliance(t, cfg)
		if a.HTTPAddress() != cfg.HTTPAddress || a.HTTPSAddress() != cfg.HTTPSAddress {
			t.Errorf("the ingress is at %s and %s", a.HTTPAddress(), a.HTTPSAddress())
		}
	}
	if names := registered(t, registry); len(names) > 0 {
		t.Errorf("New registered %v", names)
	}
	for _, address := range []string{cfg.HTTPAddress, cfg.HTTPSAddress} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
}

func TestRunWithAnEndedContextReturns(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a := newAppliance(t, embedded(t.TempDir()))
	if err := a.Run(ctx); err != nil {
		t.Errorf("got %v", err)
	}
	if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "make a new Appliance") {
		t.Errorf("a second Run: %v", err)
	}
}

func TestATakenPortIsNamedAndTheFolderStaysFree(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	for what, set := range map[string]func(*appliance.Config){
		"the API's":       func(c *appliance.Config) { c.Address = taken.Addr().String() },
		"the ingress's":   func(c *appliance.Config) { c.HTTPAddress = taken.Addr().String() },
		"the ingress TLS": func(c *appliance.Config) { c.HTTPSAddress = taken.Addr().String() },
	} {
		cfg := embedded(dir)
		set(&cfg)
		if err := newAppliance(t, cfg).Run(t.Context()); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Errorf("%s port: %v", what, err)
		}
	}
	_, stop := start(t, newAppliance(t, embedded(dir)))
	stop()
}

func TestAFolderInUseIsRefused(t *testing.T) {
	cfg := embedded(t.TempDir())
	client, stop := start(t, newAppliance(t, cfg))
	defer stop()
	if err := newAppliance(t, cfg).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	if _, err := client.CoreV1().Nodes().Get(t.Context(), "here", metav1.GetOptions{}); err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestStartStopStartOnOneFolderAndOneRegistry(t *testing.T) {
	cfg, registry := embedded(t.TempDir()), prometheus.NewRegistry()
	cfg.Metrics = registry
	client, stop := start(t, newAppliance(t, cfg))
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(registered(t, registry)) == 0 {
		t.Error("no metric is registered while it runs")
	}
	stop()
	if names := registered(t, registry); len(names) > 0 {
		t.Errorf("after its end %v are registered", names)
	}
	client, stop = start(t, newAppliance(t, cfg))
	defer stop()
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestTwoAppliancesInOneProcessShareNothing(t *testing.T) {
	registry := prometheus.NewRegistry()
	var clients []kubernetes.Interface
	for _, name := range []string{"one", "two"} {
		cfg := embedded(t.TempDir())
		cfg.Name, cfg.Metrics = name, prometheus.WrapRegistererWith(prometheus.Labels{"cluster": name}, registry)
		client, stop := start(t, newAppliance(t, cfg))
		defer stop()
		clients = append(clients, client)
	}
	if _, err := clients[0].CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := clients[1].CoreV1().ConfigMaps("default").Get(t.Context(), "x", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the other answers %v", err)
	}
}

func TestTheDataFolderIsRequired(t *testing.T) {
	if _, err := appliance.New(appliance.Config{}); err == nil || !strings.Contains(err.Error(), "Config.DataDir") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat("networks.json"); err == nil {
		t.Error("New wrote into the working directory")
	}
}
