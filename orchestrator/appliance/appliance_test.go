package appliance_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pintle/pintle/orchestrator/appliance"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(asHost); dir != "" {
		if err := runHost(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	// klog, which client-go links, has a flush goroutine for as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// eventually waits for much longer than anything takes.
func eventually(what string, check func() error) error {
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// apiAddress is the appliance's TLS port, as its kubeconfig has it.
func apiAddress(a *appliance.Appliance) string {
	data, err := a.Kubeconfig()
	if err != nil {
		return err.Error()
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return err.Error()
	}
	return cfg.Host[len("https://"):]
}
