package policies_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
)

// An admission policy is asked about a write. There is no cluster: objects are bytes.
func ExampleHost_Admit() {
	ctx, stop := context.WithCancel(context.Background())
	host, err := policies.New(policies.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()

	wasm, err := os.ReadFile("testdata/freeze.wasm") // refuses whatever it is asked about
	if err != nil {
		log.Fatal(err)
	}
	module, err := host.Load(ctx, "freeze", wasm)
	if err != nil {
		log.Fatal(err)
	}
	err = host.Set(ctx, abi.Policy{Name: "release-freeze", Kind: abi.Admission, Module: "freeze"})
	if err != nil {
		log.Fatal(err)
	}

	pod := []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","labels":{"app":"web"}}}`)
	response, _, err := host.Admit(ctx, "release-freeze", &abi.AdmissionRequest{
		Operation: abi.Create,
		Kind:      abi.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource:  abi.GroupVersionResource{Version: "v1", Resource: "pods"},
		Namespace: "default",
		Name:      "web",
		Meta:      &abi.Meta{Name: "web", Labels: abi.Pairs(map[string]string{"app": "web"})},
		Object:    abi.JSONObject(pod),
	})
	if err != nil {
		log.Fatal(err) // the policy failed: the caller decides what that means
	}
	fmt.Println(module.ABI, response.Allowed, response.Message)

	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output: pintle/v1 false nothing is created before Monday
}

// A scheduling policy is asked once about a pod and all the nodes that it may go to.
func ExampleHost_Place() {
	ctx, stop := context.WithCancel(context.Background())
	host, err := policies.New(policies.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()

	wasm, err := os.ReadFile("testdata/oddrows.wasm") // refuses every second node
	if err != nil {
		log.Fatal(err)
	}
	if _, err := host.Load(ctx, "odd-rows", wasm); err != nil {
		log.Fatal(err)
	}
	if err := host.Set(ctx, abi.Policy{Name: "even", Kind: abi.Scheduling, Module: "odd-rows"}); err != nil {
		log.Fatal(err)
	}

	nodes := abi.NewNodeTable() // kept for as long as the cluster: only what changes is told to policies
	for _, name := range []string{"a", "b", "c"} {
		nodes.Set(&abi.Node{Name: name, Allocatable: []abi.Quantity{{Name: "cpu", Milli: 4000}}})
	}
	placement := &abi.Placement{Pod: &abi.Pod{Name: "web"}, Nodes: nodes, Rows: nodes.AppendRows(nil)}
	if _, err := host.Place(ctx, "even", placement); err != nil {
		log.Fatal(err)
	}
	for i, row := range placement.Rows {
		if v := placement.Verdicts[i]; v != 0 {
			fmt.Printf("%s: %s\n", nodes.Name(row), placement.Reasons[v-1])
			continue
		}
		fmt.Printf("%s: score %d\n", nodes.Name(row), placement.Scores[i])
	}

	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output:
	// a: score 0
	// b: the row is odd
	// c: score 2
}
