package gpus_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// divided is a node whose GPU 0 is divided, with a pod that an instance was made for.
func divided(t *testing.T) (*node, topology.Grant) {
	n := newNode(t, orchestratortest.Start(t), "n", gputest.DGXH100(), nil)
	uuid := n.machine.UUID(0)
	if err := n.devices.Manager().Divide(uuid, true); err != nil {
		t.Fatal(err)
	}
	until(t, "the GPU is divided", func() bool { g := n.published(); return g.GPUs[0].Divided && len(g.GPUs[0].Layout) > 0 })
	grant := topology.Grant{Container: "c", GPU: uuid, Profile: "1g.10gb", Start: 2}
	n.pod("a", map[string]string{topology.MIGPrefix + "1g.10gb": "1"}, nil, grant)
	n.running("a")
	return n, grant
}

// A pod ends while there is neither agent nor driver: its claim is released once the driver is back, not at the next start.
func TestAClaimThatCouldNotBeReleasedIsReleasedLater(t *testing.T) {
	n, grant := divided(t)
	n.stop()
	n.engines[0].Exit(string(n.get("a").UID)+"-c-0", 0)
	if err := n.engines[0].RemoveSandbox(t.Context(), string(n.get("a").UID)); err != nil {
		t.Fatal(err)
	}
	zero := int64(0)
	if err := n.cluster.Client.CoreV1().Pods("default").Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	n.machine.Unload("for the test")
	n.start()
	if len(n.devices.Manager().Claims()) != 1 {
		t.Fatal("the claim is gone: nothing is tested")
	}
	n.machine.Load()
	until(t, "the claim is released", func() bool { return len(n.devices.Manager().Claims()) == 0 })
	n.pod("b", map[string]string{topology.MIGPrefix + "1g.10gb": "1"}, nil, grant)
	n.running("b")
}
