package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/wasm"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

// empty is a WASI command, in WebAssembly's binary format, whose _start returns at once: exit code 0.
const empty = "\x00asm\x01\x00\x00\x00" + // magic and version
	"\x01\x04\x01\x60\x00\x00" + // one type: a function without parameters and results
	"\x03\x02\x01\x00" + // one function of it
	"\x05\x03\x01\x00\x01" + // one page of memory
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + // both exported
	"\x0a\x04\x01\x02\x00\x0b" // its body: end

// An engine by itself: what a node's agent does with one for a pod.
func Example() {
	dir, err := os.MkdirTemp("", "wasm-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	engine, err := wasm.New(wasm.Config{DataDir: filepath.Join(dir, "engine")})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	<-engine.Ready()

	archive, err := wasmtest.Archive("example.com/empty:1", []byte(empty), wasmtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	images, err := engine.ImportImages(ctx, bytes.NewReader(archive))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(images[0].Names[0], images[0].Wasm)

	events, err := engine.Events(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = engine.CreateSandbox(ctx, runtime.SandboxSpec{ID: "pod"})
	err = errors.Join(err,
		engine.CreateContainer(ctx, runtime.ContainerSpec{ID: "c", SandboxID: "pod", Image: "example.com/empty:1", LogPath: filepath.Join(dir, "log")}),
		engine.StartContainer(ctx, "c"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for event := range events {
		if event.Type == "exit" {
			break
		}
	}
	containers, err := engine.Containers(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("exited:", containers[0].State == runtime.Exited, "code:", containers[0].ExitCode)
	stop()
	fmt.Println("ended:", <-ended)
	// Output:
	// example.com/empty:1 true
	// exited: true code: 0
	// ended: <nil>
}
