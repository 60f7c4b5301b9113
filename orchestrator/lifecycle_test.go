package orchestrator_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
)

func TestMain(m *testing.M) {
	// klog, which client-go links, has a flush goroutine for as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

func newOrchestrator(t *testing.T, cfg orchestrator.Config) *orchestrator.Orchestrator {
	t.Helper()
	o, err := orchestrator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// start runs an orchestrator until the returned function is called.
func start(t *testing.T, o *orchestrator.Orchestrator) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	select {
	case <-o.Ready():
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	return func() {
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

func canListen(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Errorf("the port is still taken: %v", err)
		return
	}
	l.Close()
}

// TestMain sees goroutines; files, ports and metrics are looked at here.
func TestNewWithoutRunLeavesNothing(t *testing.T) {
	dir, registry := t.TempDir()+"/data", prometheus.NewRegistry()
	for range 2 {
		newOrchestrator(t, orchestrator.Config{DataDir: dir, Address: "127.0.0.1:0", Metrics: registry})
	}
	if names := registered(t, registry); len(names) > 0 {
		t.Errorf("New registered %v", names)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("New touched the data folder: %v", err)
	}
}

func TestRunWithAnEndedContextReturnsAtOnceAndClosesThePort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o := newOrchestrator(t, orchestrator.Config{DataDir: t.TempDir(), Listener: listener})
	if err := o.Run(ctx); err != nil {
		t.Errorf("got %v", err)
	}
	canListen(t, listener.Addr().String())
	if err := o.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "make a new Orchestrator") {
		t.Errorf("a second Run: %v", err)
	}
}

func TestRunOnATakenPortSaysWhichAndLeavesTheFolderFree(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := orchestrator.Config{DataDir: t.TempDir(), Address: taken.Addr().String()}
	o := newOrchestrator(t, cfg)
	if err := o.Run(t.Context()); err == nil || !strings.Contains(err.Error(), cfg.Address) {
		t.Errorf("got %v", err)
	}
	// Whoever asks an orchestrator that has ended gets an answer instead of waiting for ever.
	client, err := kubernetes.NewForConfig(o.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("an orchestrator that has ended answered")
	}
	cfg.Address = ""
	start(t, newOrchestrator(t, cfg))()
}

func TestASecondRunOnAFolderInUseIsRefusedAndTheFirstGoesOn(t *testing.T) {
	cfg := orchestrator.Config{DataDir: t.TempDir(), Metrics: prometheus.NewRegistry()}
	first := newOrchestrator(t, cfg)
	stop := start(t, first)
	defer stop()
	second := cfg
	second.Metrics = prometheus.NewRegistry()
	second.Address = "127.0.0.1:0"
	o := newOrchestrator(t, second)
	if err := o.Run(t.Context()); err == nil || !strings.Contains(err.Error(), cfg.DataDir) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	canListen(t, o.Addr().String())
	client, err := kubernetes.NewForConfig(first.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

func TestMetricsStayInTheRegistryAsLongAsItRuns(t *testing.T) {
	registry := prometheus.NewRegistry()
	cfg := orchestrator.Config{DataDir: t.TempDir(), Metrics: registry}
	for range 2 {
		stop := start(t, newOrchestrator(t, cfg))
		if len(registered(t, registry)) == 0 {
			t.Error("no metric is registered while it runs")
		}
		stop()
		if names := registered(t, registry); len(names) > 0 {
			t.Errorf("after its end %v are registered", names)
		}
	}
}

func TestTwoClustersShareARegistryUnderLabels(t *testing.T) {
	registry := prometheus.NewRegistry()
	for _, name := range []string{"a", "b"} {
		labelled := prometheus.WrapRegistererWith(prometheus.Labels{"cluster": name}, registry)
		defer start(t, newOrchestrator(t, orchestrator.Config{Name: name, Metrics: labelled}))()
	}
	if len(registered(t, registry)) == 0 {
		t.Error("no metric is registered")
	}
}

func TestAConfigThatCannotWorkIsRefusedByFieldName(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for field, cfg := range map[string]orchestrator.Config{
		"Config.Name":     {Name: "Not A Label"},
		"Config.Listener": {Listener: l, Address: "127.0.0.1:0"},
	} {
		if _, err := orchestrator.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
