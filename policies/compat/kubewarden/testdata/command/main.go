// A policy as a WASI command: the operation is an argument, the request comes over standard input.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"unsafe"
)

//go:wasmimport host call
func hostCall(bd unsafe.Pointer, bdLen uint32, ns unsafe.Pointer, nsLen uint32, op unsafe.Pointer, opLen uint32, ptr unsafe.Pointer, n uint32) uint32

type settings struct {
	Forbidden string // name
	Ask       bool
	Fail      bool
}

func main() {
	input, err := io.ReadAll(os.Stdin)
	check(err)
	if len(os.Args) != 2 {
		check(fmt.Errorf("arguments: %q", os.Args))
	}
	switch os.Args[1] {
	case "validate-settings":
		var s settings
		check(json.Unmarshal(input, &s))
		fmt.Printf(`{"valid":%t,"message":"forbidden is needed"}`, s.Forbidden != "")
	case "validate":
		var q struct {
			Request  struct{ Name, Operation string }
			Settings settings
		}
		check(json.Unmarshal(input, &q))
		if q.Settings.Fail {
			check(fmt.Errorf("failed on purpose"))
		}
		if q.Settings.Ask {
			refused, reply := ask("kubewarden", "kubernetes", "get_resource", `{"api_version":"v1","kind":"Namespace","name":"default"}`)
			check(json.NewEncoder(os.Stdout).Encode(map[string]any{"accepted": !refused, "message": reply}))
			return
		}
		fmt.Printf(`{"accepted":%t,"message":"%s of %s","code":400}`, q.Request.Name != q.Settings.Forbidden, q.Request.Operation, q.Request.Name)
	default:
		check(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

func ask(parts ...string) (bool, string) {
	var p [4]unsafe.Pointer
	var n [4]uint32
	for i, s := range parts {
		p[i], n[i] = unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
	}
	refused := hostCall(p[0], n[0], p[1], n[1], p[2], n[2], p[3], n[3])
	reply, err := io.ReadAll(os.Stdin)
	check(err)
	return refused == 1, string(reply)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}
