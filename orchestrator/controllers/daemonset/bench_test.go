package daemonset

import (
	"fmt"
	"strings"
	"testing"
)

// A step of a set on 5,000 nodes where nothing is to do.
func BenchmarkDecideOn5000Nodes(b *testing.B) {
	var nodes []string
	for i := range 5000 {
		nodes = append(nodes, fmt.Sprintf("n%04d=new", i))
	}
	in := story(strings.Join(nodes, " "), "1", "0")
	b.ReportAllocs()
	for b.Loop() {
		if p := decide(in); len(p.remove)+len(p.create) > 0 {
			b.Fatal("there was something to do")
		}
	}
}
