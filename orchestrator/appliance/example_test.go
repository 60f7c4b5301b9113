package appliance_test

import (
	"context"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator/appliance"
)

// The whole product without root: pods are WASI modules in this process, Services are served in user space.
// Images come from archives, through ImportImages.
func Example() {
	dir, err := os.MkdirTemp("", "appliance-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	a, err := appliance.New(appliance.Config{Name: "demo", Node: "box", DataDir: dir, Engine: appliance.Wasm, Address: "127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-a.Ready():
	case err := <-ended: // a port that is taken, a folder in use
		fmt.Println(err)
		return
	}
	client, err := kubernetes.NewForConfig(a.RESTConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(nodes.Items), "node:", nodes.Items[0].Name)
	stop()
	fmt.Println("ended with", <-ended)
	// Output:
	// 1 node: box
	// ended with <nil>
}
