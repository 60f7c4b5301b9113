package runtime_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/runtimetest"
)

// An agent needs a client, a node name and an engine. Here both are fakes; a real one takes
// runtime/containerd or runtime/wasm, and a client of the API server.
func Example() {
	client := fake.NewClientset()
	agent, err := runtime.New(runtime.Config{
		Client:   client,
		NodeName: "edge-1",
		Engines:  []runtime.Engine{runtimetest.NewFakeEngine("containerd", "demo:v1")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- agent.Run(ctx) }()
	<-agent.Ready()

	node, err := client.CoreV1().Nodes().Get(ctx, "edge-1", metav1.GetOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			fmt.Println(node.Name, "ready:", c.Status)
		}
	}
	cancel()
	fmt.Println("ended:", <-done)
	// Output:
	// edge-1 ready: True
	// ended: <nil>
}

// Images come with the program: an archive from an embed.FS, or any fs.FS, or a file of os.Open is a reader.
func ExampleAgent_ImportImages() {
	var carried fs.FS = fstest.MapFS{"images/demo.tar": {Data: []byte("example.com/demo:1")}} // embed.FS in a real program
	agent, err := runtime.New(runtime.Config{
		Client:   fake.NewClientset(),
		NodeName: "edge-1",
		Engines:  []runtime.Engine{runtimetest.NewFakeEngine("containerd")}, // which takes an archive's text for its image's name
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- agent.Run(ctx) }()
	<-agent.Ready()

	archive, err := carried.Open("images/demo.tar")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer archive.Close()
	images, err := agent.ImportImages(ctx, archive)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(images[0].Names)
	cancel()
	<-done
	// Output: [example.com/demo:1]
}
