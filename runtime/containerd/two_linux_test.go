package containerd

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/internal/containertest"
	"github.com/pintle/pintle/runtime"
)

func TestTwoEnginesRunTenPodsEachAtOnceAndOneEndLeavesTheOther(t *testing.T) {
	containertest.Need(t)
	ctx := t.Context()
	var engines []*running
	for i := range 2 {
		e := start(t, Config{Name: fmt.Sprintf("t%d-%d", os.Getpid(), i), DataDir: t.TempDir(),
			PodCIDR: netip.MustParsePrefix(fmt.Sprintf("10.232.%d.0/24", i))})
		t.Cleanup(func() { e.stop(); e.Teardown(context.Background()) })
		_, err := e.ImportImages(ctx, bytes.NewReader(containertest.Busybox(t, "box:1", "FROM=image")))
		must(t, err)
		engines = append(engines, e)
	}
	begin := time.Now()
	var wg sync.WaitGroup
	for _, e := range engines {
		for i := range 10 {
			wg.Go(func() {
				id := fmt.Sprintf("p%d", i)
				if _, err := e.CreateSandbox(ctx, runtime.SandboxSpec{ID: id, Hostname: id, CgroupPath: "pod" + id}); err != nil {
					t.Error(err)
					return
				}
				if err := e.CreateContainer(ctx, runtime.ContainerSpec{ID: id, SandboxID: id, Image: "box:1", CgroupPath: "pod" + id, Args: []string{"exec busybox sleep 1000"}}); err != nil {
					t.Error(err)
					return
				}
				if err := e.StartContainer(ctx, id); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	t.Logf("20 pods in %v", time.Since(begin))
	must(t, engines[0].stop())
	must(t, engines[0].Teardown(ctx))
	code, err := engines[1].Exec(ctx, "p3", []string{"/bin/sh", "-c", "exit 9"}, runtime.Streams{})
	if err != nil || code != 9 {
		t.Fatalf("the other engine: %d %v", code, err)
	}
	if v, _ := os.ReadFile(ipForward); string(v) != "1\n" {
		t.Errorf("forwarding went with the first engine")
	}
}
