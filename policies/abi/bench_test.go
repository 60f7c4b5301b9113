package abi

import (
	"fmt"
	"testing"
)

func benchTable(nodes int) *NodeTable {
	table := NewNodeTable()
	for i := range nodes {
		name := fmt.Sprint("node-", i)
		table.Set(&Node{Name: name, Allocatable: []Quantity{{"cpu", 64000}}, Labels: []Pair{{"kubernetes.io/hostname", name}, {"price", "1.5"}}})
	}
	return table
}

// BenchmarkSync is what bringing an instance up to date costs after a bind, and reading its answer.
func BenchmarkSync(b *testing.B) {
	for _, nodes := range []int{5000, 50000} {
		for _, columns := range [][]Column{nil, {{ColumnLabelNumber, "price"}}} {
			table := benchTable(nodes)
			g, resident := &guestMemory{}, NewResident(table.View(columns))
			p := &Placement{Nodes: table, Rows: table.AppendRows(nil)}
			name := fmt.Sprintf("%d nodes, %d columns", nodes, len(columns))
			b.Run(name+", sync", func(b *testing.B) {
				for i := range b.N {
					table.SetRequested(fmt.Sprint("node-", i%nodes), []Quantity{{"cpu", int64(i)}}, 1)
					if err := resident.Sync(b.Context(), p, g); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+", take", func(b *testing.B) {
				for range b.N {
					if err := resident.Take(p, g); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+", reset", func(b *testing.B) {
				for range b.N {
					p.Reset()
				}
			})
		}
	}
}

func BenchmarkAdmissionRequest(b *testing.B) {
	q := &AdmissionRequest{UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Operation: Create, Kind: GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource: GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: "shop", Name: "web", User: UserInfo{Username: "jane", Groups: []string{"dev"}},
		Meta: &Meta{Name: "web", Namespace: "shop", Labels: []Pair{{"app", "web"}, {"owner", "jane"}}}}
	var buf []byte
	b.ReportAllocs()
	for range b.N {
		buf, _ = q.Append(buf[:0], Nothing)
	}
}
