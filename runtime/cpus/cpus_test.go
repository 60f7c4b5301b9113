package cpus_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/pintle/pintle/runtime/cpus"
)

// twoSockets has 2 NUMA nodes of 4 cores with 2 threads each, numbered as Linux does: second threads come last.
func twoSockets() *cpus.Machine {
	m := &cpus.Machine{Memory: map[int]int64{0: 64 << 30, 1: 64 << 30}}
	for id := range 16 {
		core := id % 8
		m.CPUs = append(m.CPUs, cpus.CPU{ID: id, NUMA: core / 4, Core: fmt.Sprint(core)})
	}
	return m
}

func TestChooseTakesWholeCoresNearTheDevices(t *testing.T) {
	m := twoSockets()
	for _, c := range []struct {
		name string
		free string
		n    int
		near string
		want string
	}{
		{"whole cores", "0-15", 4, "", "0-1,8-9"},
		{"near a GPU on node 1", "0-15", 4, "1", "4-5,12-13"},
		{"the odd one beside a whole core", "0-15", 3, "1", "4-5,12"},
		{"the odd one from a core in use", "0-7,9-15", 3, "0", "0-1,9"},
		{"a whole node", "0-15", 8, "1", "4-7,12-15"},
		{"near ones first, then others", "0-15", 10, "1", "0,4-8,12-15"},
		{"the near node is full", "0-3,8-11", 2, "1", "0,8"},
		{"least to spare", "1-15", 2, "", "1,9"},
		{"one node rather than the rest of two", "3,11,4-7,12-15", 4, "", "4-5,12-13"},
		{"all", "0-15", 16, "", "0-15"},
	} {
		free, err := cpus.Parse(c.free)
		if err != nil {
			t.Fatal(err)
		}
		near, err := cpus.Parse(c.near)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Choose(free, c.n, near)
		if err != nil || got.String() != c.want {
			t.Errorf("%s: %s, %v, not %s", c.name, got, err, c.want)
		}
	}
	if _, err := m.Choose(cpus.Of(1, 2), 3, nil); !errors.Is(err, cpus.ErrTooFew) {
		t.Errorf("3 of 2: %v", err)
	}
}

func TestChooseGivesWhatIsAskedForOfWhatIsFree(t *testing.T) {
	m := twoSockets()
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var free, near []int
		for id := range 16 {
			if r.IntN(2) == 0 {
				free = append(free, id)
			}
		}
		for node := range 2 {
			if r.IntN(2) == 0 {
				near = append(near, node)
			}
		}
		if len(free) == 0 {
			continue
		}
		n := 1 + r.IntN(len(free))
		set := cpus.Of(free...)
		got, err := m.Choose(set, n, cpus.Of(near...))
		if err != nil || len(got) != n || len(got.Minus(set)) > 0 {
			t.Fatalf("%d of %s near %v: %s, %v", n, set, near, got, err)
		}
		for node := range 2 { // if one near node has enough, nothing comes from elsewhere
			enough := 0
			for _, id := range free {
				if id%8/4 == node {
					enough++
				}
			}
			if len(near) == 1 && near[0] == node && enough >= n && m.Nodes(got).String() != fmt.Sprint(node) {
				t.Fatalf("%d of %s near %d: %s", n, set, node, got)
			}
		}
	}
}

func TestLists(t *testing.T) {
	for list, want := range map[string]string{"0-3,8": "0-3,8", "3,1,2": "1-3", "": "", "5\n": "5", "1-1": "1"} {
		if s, err := cpus.Parse(list); err != nil || s.String() != want {
			t.Errorf("%q: %s, %v", list, s, err)
		}
	}
	for _, list := range []string{"a", "3-1", "-1", "1,,2"} {
		if s, err := cpus.Parse(list); err == nil {
			t.Errorf("%q is %s", list, s)
		}
	}
}

func TestReadReadsAMachine(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"cpu/online": "0-3\n", "node/online": "0-1\n", "node/node0/cpulist": "0,2\n", "node/node1/cpulist": "1,3\n",
		"node/node0/meminfo": "Node 0 MemTotal:  1024 kB\n", "node/node1/meminfo": "Node 1 MemFree: 1 kB\nNode 1 MemTotal: 2048 kB\n",
		"cpu/cpu0/topology/physical_package_id": "0\n", "cpu/cpu0/topology/core_id": "0\n", "cpu/cpu2/topology/physical_package_id": "0\n", "cpu/cpu2/topology/core_id": "0\n",
		"cpu/cpu1/topology/physical_package_id": "1\n", "cpu/cpu1/topology/core_id": "0\n", "cpu/cpu3/topology/physical_package_id": "1\n", "cpu/cpu3/topology/core_id": "1\n",
	} {
		at := filepath.Join(root, "devices/system", path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := cpus.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.CPUs, m.Memory); got != "[{0 0 0//0} {1 1 1//0} {2 0 0//0} {3 1 1//1}] map[0:1048576 1:2097152]" {
		t.Error(got)
	}
}
