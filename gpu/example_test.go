package gpu_test

import (
	"context"
	"fmt"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/gpu/topology"
)

func Example() {
	m, err := gpu.New(gpu.Config{Driver: gputest.DGXH100()}) // leave Driver out for this machine's GPUs
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	<-m.Ready()

	inv := m.Inventory()
	fmt.Println(len(inv.Devices), inv.Devices[0].Name, inv.Link(0, 1))

	// Whoever schedules chooses two GPUs that are near each other; the Manager keeps who has them.
	matrix, err := inv.Matrix()
	if err != nil {
		fmt.Println(err)
		return
	}
	set, _ := matrix.Choose(topology.All(matrix.Len()), 0, 2)
	claim := gpu.Claim{Pod: "7d1f", Name: "default/train"}
	for _, i := range set.Indexes() {
		claim.Grants = append(claim.Grants, gpu.Grant{GPU: inv.Devices[i].UUID})
	}
	fmt.Println(m.Claim(claim))
	injected, err := m.Injection("7d1f", "main")
	fmt.Println(len(injected.CDI), err)

	stop()
	fmt.Println(<-ended)
	// Output:
	// 8 NVIDIA H100 80GB HBM3 NV18
	// <nil>
	// 2 <nil>
	// <nil>
}
