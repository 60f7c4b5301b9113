// What guests spend their time on, as Go leaves it.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o loops.wasm .
package main

import (
	"encoding/json"
	"sort"
	"strings"
)

func main() {}

//go:wasmexport fib
func fib(n int32) int32 {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

var text [65536]byte

//go:wasmexport sum
func sum(rounds int32) int32 {
	s := int32(0)
	for range rounds {
		for _, b := range text {
			s = s*31 + int32(b)
		}
	}
	return s
}

type pod struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Images []string          `json:"images"`
}

//go:wasmexport parse
func parse(rounds int32) int32 {
	n := 0
	for range rounds {
		var p pod
		if err := json.Unmarshal([]byte(`{"name":"web","labels":{"app":"web","team":"a"},"images":["registry.example/web:1","registry.example/side:2"]}`), &p); err != nil {
			return -1
		}
		n += len(p.Labels) + len(p.Images)
	}
	return int32(n)
}

//go:wasmexport words
func words(rounds int32) int32 {
	n := 0
	for range rounds {
		w := strings.Fields("the quick brown fox jumps over the lazy dog again and again until it is tired")
		sort.Strings(w)
		n += len(strings.Join(w, ","))
	}
	return int32(n)
}
