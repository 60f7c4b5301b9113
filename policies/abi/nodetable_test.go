package abi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// guestMemory is a guest that gives what it is asked for.
type guestMemory struct {
	bytes []byte
	asked [Regions]int
	ask   func() // called by Region
}

func (g *guestMemory) Region(_ context.Context, kind int, size uint32) (uint32, error) {
	if g.ask != nil {
		g.ask()
	}
	g.asked[kind]++
	if len(g.bytes) == 0 {
		g.bytes = make([]byte, 8)
	}
	at := len(g.bytes)
	g.bytes = append(g.bytes, make([]byte, (size+7)/8*8)...)
	for i := range g.bytes[at:] {
		g.bytes[at+i] = 0xee // not zero: the host may rely on nothing
	}
	return uint32(at), nil
}

func (g *guestMemory) View(at, size uint32) ([]byte, error) {
	if uint64(at)+uint64(size) > uint64(len(g.bytes)) {
		return nil, errors.New("out of bounds")
	}
	return g.bytes[at:][:size], nil
}

func (g *guestMemory) u32(at uint32) uint32 { return binary.LittleEndian.Uint32(g.bytes[at:]) }
func (g *guestMemory) i64(at uint32) int64  { return int64(binary.LittleEndian.Uint64(g.bytes[at:])) }

// published reads a node as README.md says that a guest does.
type guestReader struct {
	*guestMemory
	header uint32
}

func (g guestReader) str(id uint32) string {
	if id >= g.u32(g.header+48) {
		return "NO SUCH STRING"
	}
	entry := g.u32(g.header+24) + 8*id
	return string(g.bytes[g.u32(entry):][:g.u32(entry+4)])
}

func (g guestReader) node(row uint32, columns []Column) (n Node, values []any) {
	at := g.u32(g.header+16) + row*g.u32(g.header+4)
	n.Name = g.str(g.u32(at))
	flags := g.u32(at + 4)
	n.Unschedulable, n.NotReady = flags&2 != 0, flags&4 != 0
	add := func(name string, from uint32, scale int64) {
		if v := g.i64(at + from); v != 0 {
			n.Allocatable = append(n.Allocatable, Quantity{name, v * scale})
		}
		if v := g.i64(at + from + 8); v != 0 {
			n.Requested = append(n.Requested, Quantity{name, v * scale})
		}
	}
	add("cpu", 8, 1)
	add("memory", 24, 1000)
	add("ephemeral-storage", 40, 1000)
	add("nvidia.com/gpu", 56, 1)
	if p := g.u32(at + 72); p != 0 {
		n.Allocatable = append(n.Allocatable, Quantity{"pods", 1000 * int64(p)})
	}
	n.Pods = g.u32(at + 76)
	pair := func(i uint32) (uint32, uint32) {
		p := g.u32(g.header+20) + 8*i
		return g.u32(p), g.u32(p + 4)
	}
	last := -1
	for i := range g.u32(at + 84) {
		k, v := pair(g.u32(at+80) + i)
		if int(k) <= last {
			panic("labels aren't sorted by key id")
		}
		last = int(k)
		n.Labels = append(n.Labels, Pair{g.str(k), g.str(v)})
	}
	for i := range g.u32(at + 92) {
		k, v := pair(g.u32(at+88) + 2*i)
		e, zero := pair(g.u32(at+88) + 2*i + 1)
		if zero != 0 {
			panic("what is zero isn't")
		}
		n.Taints = append(n.Taints, Taint{g.str(k), g.str(v), g.str(e)})
	}
	for i := range g.u32(at + 100) {
		q := g.u32(g.header+44) + 24*(g.u32(at+96)+i)
		if v := g.i64(q + 8); v != 0 {
			n.Allocatable = append(n.Allocatable, Quantity{g.str(g.u32(q)), v})
		}
		if v := g.i64(q + 16); v != 0 {
			n.Requested = append(n.Requested, Quantity{g.str(g.u32(q)), v})
		}
	}
	for i, key := range []string{"topology.kubernetes.io/zone", "topology.kubernetes.io/region", "kubernetes.io/hostname"} {
		if got, want := g.str(g.u32(at+104+4*uint32(i))), label(&n, key); got != want {
			panic(fmt.Sprintf("%s is %q, not %q", key, got, want))
		}
	}
	n.CreatedUnixMs = g.i64(at + 120)
	for i, c := range columns {
		v := g.i64(at + 128 + 8*uint32(i))
		switch c.Kind {
		case ColumnLabel:
			values = append(values, g.str(uint32(v)))
		case ColumnLabelNumber:
			values = append(values, math.Float64frombits(uint64(v)))
		default:
			values = append(values, v)
		}
	}
	return n, values
}

func label(n *Node, key string) string {
	for _, l := range n.Labels {
		if l.Key == key {
			return l.Value
		}
	}
	return ""
}

func milli(qs []Quantity, name string) int64 {
	for _, q := range qs {
		if q.Name == name {
			return q.Milli
		}
	}
	return 0
}

func normal(n Node) Node {
	byName := func(a, b Quantity) int { return strings.Compare(a.Name, b.Name) }
	drop := func(qs []Quantity) []Quantity {
		qs = slices.DeleteFunc(slices.Clone(qs), func(q Quantity) bool { return q.Milli == 0 })
		slices.SortFunc(qs, byName)
		return append([]Quantity{}, qs...)
	}
	n.Allocatable, n.Requested = drop(n.Allocatable), drop(n.Requested)
	n.Labels = append([]Pair{}, n.Labels...)
	slices.SortFunc(n.Labels, func(a, b Pair) int { return strings.Compare(a.Key, b.Key) })
	n.Taints = append([]Taint{}, n.Taints...)
	return n
}

func drawNode(r *rand.Rand, name string) Node {
	n := Node{Name: name, Unschedulable: r.IntN(9) == 0, NotReady: r.IntN(9) == 0, Pods: r.Uint32N(200), CreatedUnixMs: r.Int64N(1 << 40)}
	for _, res := range []string{"cpu", "memory", "ephemeral-storage", "nvidia.com/gpu", "pods", "example.com/fpga", "hugepages-2Mi"} {
		if r.IntN(2) == 0 {
			n.Allocatable = append(n.Allocatable, Quantity{res, 1000 * r.Int64N(1<<30)})
		}
		if res != "pods" && r.IntN(2) == 0 {
			n.Requested = append(n.Requested, Quantity{res, 1000 * r.Int64N(1<<20)})
		}
	}
	for _, key := range []string{"topology.kubernetes.io/zone", "topology.kubernetes.io/region", "kubernetes.io/hostname", "price", "gpu", "a", "b"} {
		if r.IntN(2) == 0 {
			n.Labels = append(n.Labels, Pair{key, []string{"", "1.5", "-2e3", "0x10", "inf", "x" + strconv.Itoa(r.IntN(1000)), name}[r.IntN(7)]})
		}
	}
	for range r.IntN(3) {
		n.Taints = append(n.Taints, Taint{"t" + strconv.Itoa(r.IntN(3)), "", []string{"NoSchedule", "NoExecute"}[r.IntN(2)]})
	}
	return n
}

// TestAGuestSeesTheNodesAsTheyAre drives a table and a model of it with the same changes; instances with and without
// columns are brought up to date now and then, and must read what the model holds.
func TestAGuestSeesTheNodesAsTheyAre(t *testing.T) {
	columns := [][]Column{nil, {{ColumnLabel, "gpu"}, {ColumnLabelNumber, "price"}, {ColumnAllocatable, "example.com/fpga"}, {ColumnRequested, "memory"}, {7, "?"}}}
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		table, model := NewNodeTable(), map[string]Node{}
		guests := []struct {
			*guestMemory
			*Resident
		}{}
		for i := range 4 {
			guests = append(guests, struct {
				*guestMemory
				*Resident
			}{&guestMemory{}, NewResident(table.View(columns[i%2]))})
		}
		for step := range 400 {
			name := "node-" + strconv.Itoa(r.IntN(90))
			switch op := r.IntN(10); {
			case op < 5:
				n := drawNode(r, name)
				table.Set(&n)
				model[name] = n
			case op < 8:
				if n, ok := model[name]; ok {
					n.Requested, n.Pods = drawNode(r, name).Requested, r.Uint32N(9)
					model[name] = n
					table.SetRequested(name, n.Requested, n.Pods)
				}
			default:
				table.Delete(name)
				delete(model, name)
			}
			if step == 300 {
				table.mu.Lock()
				table.compact()
				table.mu.Unlock()
				if err := guests[0].Sync(t.Context(), &Placement{Nodes: table}, guests[0].guestMemory); !errors.Is(err, ErrStale) {
					t.Fatalf("an instance with old ids goes on: %v", err)
				}
				for i := range guests {
					guests[i].guestMemory, guests[i].Resident = &guestMemory{}, NewResident(table.View(columns[i%2]))
				}
			}
			if r.IntN(3) > 0 {
				continue
			}
			i := r.IntN(len(guests))
			p := &Placement{Nodes: table, Rows: table.AppendRows(nil)}
			if err := guests[i].Sync(t.Context(), p, guests[i].guestMemory); err != nil {
				t.Fatal(err)
			}
			checkGuest(t, guestReader{guests[i].guestMemory, guests[i].address[RegionHeader]}, table, model, columns[i%2], p.Rows)
		}
	}
}

func checkGuest(t *testing.T, g guestReader, table *NodeTable, model map[string]Node, columns []Column, rows []uint32) {
	t.Helper()
	if g.u32(g.header) != 1 || int(g.u32(g.header+4)) != 128+8*len(columns) || int(g.u32(g.header+12)) != len(model) {
		t.Fatalf("header % x, %d nodes", g.bytes[g.header:][:64], len(model))
	}
	seen := maps.Clone(model)
	for row := range g.u32(g.header + 8) {
		if g.u32(g.u32(g.header+16)+row*g.u32(g.header+4)+4)&1 != 0 {
			continue
		}
		got, values := g.node(row, columns)
		want, ok := seen[got.Name]
		if !ok || !reflect.DeepEqual(normal(got), normal(want)) {
			t.Fatalf("row %d:\ngot  %+v\nwant %+v", row, normal(got), normal(want))
		}
		if at, ok := table.Row(got.Name); !ok || at != row || table.Name(row) != got.Name {
			t.Fatalf("%s stands at row %d, Row says %d", got.Name, row, at)
		}
		if kept := table.Node(row); !reflect.DeepEqual(normal(kept), normal(want)) {
			t.Fatalf("Node(%d) is %+v, not %+v", row, normal(kept), normal(want))
		}
		delete(seen, got.Name)
		if len(columns) > 0 {
			number := decimal(label(&want, "price"))
			if f := values[1].(float64); f != number && !(math.IsNaN(f) && math.IsNaN(number)) {
				t.Fatalf("price %v, not %v", f, number)
			}
			values[1] = nil
			all := []any{label(&want, "gpu"), nil, milli(want.Allocatable, "example.com/fpga"), milli(want.Requested, "memory"), int64(0)}
			if !reflect.DeepEqual(values, all) {
				t.Fatalf("columns %v, not %v", values, all)
			}
		}
	}
	if len(seen) > 0 {
		t.Fatalf("the guest lacks %v", slices.Collect(maps.Keys(seen)))
	}
	for i, row := range rows {
		if g.u32(g.u32(g.header+32)+4*uint32(i)) != row || g.u32(g.u32(g.header+36)+4*uint32(i)) != 0 || g.u32(g.u32(g.header+40)+4*uint32(i)) != 0 {
			t.Fatalf("candidate %d: row, verdict or score isn't as the call begins", i)
		}
	}
}

func TestRecordIsLaidOutAsPublished(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(page), "| at | type | field |")
	part, _, _ = strings.Cut(part, "\n\n")
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([\d, ]+) \| (\w+) \|`).FindAllStringSubmatch(part, -1) {
		for at := range strings.SplitSeq(m[1], ", ") {
			want = append(want, at+" "+m[2])
		}
	}
	var got []string
	record := reflect.TypeFor[Record]()
	for i := range record.NumField() {
		f := record.Field(i)
		got = append(got, fmt.Sprintf("%d %s%d", f.Offset, f.Type.String()[:1], 8*f.Type.Size()))
	}
	if !slices.Equal(got, want) || record.Size() != RecordSize {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func TestOnlyWhatChangedIsCopied(t *testing.T) {
	table := NewNodeTable()
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 1000 {
		n := drawNode(r, "node-"+strconv.Itoa(i))
		table.Set(&n)
	}
	g, p := &guestMemory{}, &Placement{Nodes: table, Rows: table.AppendRows(nil)}
	resident := NewResident(table.View(nil))
	if err := resident.Sync(t.Context(), p, g); err != nil {
		t.Fatal(err)
	}
	asked := g.asked
	nodes, _ := g.View(resident.address[RegionNodes], uint32(table.nodes.size))
	for i := range nodes {
		nodes[i] = 0xee
	}
	table.SetRequested("node-500", []Quantity{{"cpu", 1234}}, 1)
	if err := resident.Sync(t.Context(), p, g); err != nil {
		t.Fatal(err)
	}
	written := 0
	for i := range nodes {
		if nodes[i] != 0xee {
			written++
		}
	}
	if row, _ := table.Row("node-500"); !slices.Equal(nodes[row*128:][:128], table.nodes.bytes()[row*128:][:128]) {
		t.Fatal("the change didn't arrive")
	}
	if written > pageSize || g.asked != asked {
		t.Fatalf("%d bytes were copied for one node's change; the guest was asked for regions: %v", written, g.asked != asked)
	}
}

func TestFreedRowsAreUsedAgain(t *testing.T) {
	table := NewNodeTable()
	a, b := table.Set(&Node{Name: "a"}), table.Set(&Node{Name: "b"})
	version := table.RowVersion(a)
	table.Delete("a")
	if table.Records()[a].Flags&FlagGone == 0 || table.Len() != 1 || table.RowVersion(a) == version {
		t.Fatal("a is still there")
	}
	if c := table.Set(&Node{Name: "c"}); c != a || b == a {
		t.Fatalf("c stands at %d, a stood at %d", c, a)
	}
	version = table.RowVersion(a)
	table.SetRequested("c", []Quantity{{"cpu", 1}}, 1)
	if table.RowVersion(a) != version || table.RowVersion(99) != 0 {
		t.Fatal("what pods request isn't a change of the node")
	}
}

func TestStringsOfNodesThatAreGoneAreForgotten(t *testing.T) {
	table := NewNodeTable()
	generation := table.Generation()
	for i := range 2 * slack {
		name := "node-" + strconv.Itoa(i)
		table.Set(&Node{Name: name, Labels: []Pair{{"kubernetes.io/hostname", name}}})
		table.Delete(name)
	}
	if len(table.names) > slack+100 || table.Generation() == generation {
		t.Fatalf("%d strings are kept for no node", len(table.names))
	}
}

func TestVerdictsWithoutAReasonAreRefusedAndScoresAreClamped(t *testing.T) {
	table := NewNodeTable()
	table.Set(&Node{Name: "a"})
	table.Set(&Node{Name: "b"})
	g, resident := &guestMemory{}, NewResident(table.View(nil))
	p := &Placement{Nodes: table, Rows: []uint32{0, 1}}
	if err := resident.Sync(t.Context(), p, g); err != nil {
		t.Fatal(err)
	}
	low, high := int32(-5), int32(1000)
	binary.LittleEndian.PutUint32(g.bytes[resident.address[RegionScores]:], uint32(low))
	binary.LittleEndian.PutUint32(g.bytes[resident.address[RegionScores]+4:], uint32(high))
	binary.LittleEndian.PutUint32(g.bytes[resident.address[RegionVerdicts]+4:], 1)
	if err := resident.Take(p, g); !errors.Is(err, ErrMalformed) {
		t.Fatalf("a verdict without a reason: %v", err)
	}
	p.Reasons = []string{"because"}
	if err := resident.Take(p, g); err != nil || !slices.Equal(p.Scores, []int32{0, 100}) || !slices.Equal(p.Verdicts, []uint32{0, 1}) {
		t.Fatal(err, p.Scores, p.Verdicts)
	}
}

// TestInstancesAreBroughtUpToDateTogether, and guests intern meanwhile, even while they are asked for regions.
func TestInstancesAreBroughtUpToDateTogether(t *testing.T) {
	table := NewNodeTable()
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		n := drawNode(r, "node-"+strconv.Itoa(i))
		table.Set(&n)
	}
	columns := []Column{{ColumnLabelNumber, "price"}}
	rows := table.AppendRows(nil)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			n := 0
			g := &guestMemory{}
			g.ask = func() { n++; table.Intern(fmt.Sprint("made up by ", i, n)) }
			resident := NewResident(table.View(columns[:i%2]))
			for j := range 100 {
				if err := resident.Sync(context.Background(), &Placement{Nodes: table, Rows: rows}, g); err != nil {
					t.Error(err)
					return
				}
				id := table.Intern(fmt.Sprint("string ", j))
				if got := table.String(id); got != fmt.Sprint("string ", j) {
					t.Errorf("id %d is %q", id, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestExceeds(t *testing.T) {
	for _, most := range []uint32{0, 1, 100, math.MaxInt32} {
		for _, v := range []uint32{0, 1, 99, 100, 101, math.MaxInt32 - 1, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32} {
			for n := range 20 {
				for at := range n {
					numbers := make([]uint32, n)
					numbers[at] = v
					if got := exceeds(numbers, most); got != (v > most) {
						t.Errorf("%d at %d of %d, most %d: %v", v, at, n, most, got)
					}
				}
			}
		}
	}
}
