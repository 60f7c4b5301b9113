package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	nodesHead = "sn,cpu_milli,memory_mib,gpu,model\n"
	podsHead  = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
)

// smallLists are a cluster of 60 nodes and a mix that leaves holes.
func smallLists(t *testing.T) (nodes, pods string) {
	t.Helper()
	var n, p strings.Builder
	n.WriteString(nodesHead)
	for i := range 60 {
		fmt.Fprintf(&n, "node-%02d,%d,262144,%d,%s\n", i, []int{96000, 48000, 104000}[i%3], []int{8, 2, 4}[i%3], []string{"G2", "P100", "T4"}[i%3])
	}
	p.WriteString(podsHead)
	for i := range 200 {
		cpu, gpus, milli, spec := 4000, 1, []int{1000, 810, 470, 320, 190, 1000, 650, 350}[i%8], ""
		switch {
		case i%25 == 0:
			cpu, gpus, milli = 2000, 0, 0
		case i%19 == 0:
			cpu, gpus, milli, spec = 32000, 4, 1000, "G2|T4"
		}
		fmt.Fprintf(&p, "pod-%d,%d,8192,%d,%d,%s,LS,Running,%d,%d,0\n", i, cpu, gpus, milli, spec, i*10, i*10+1500)
	}
	return write(t, "nodes.csv", n.String()), write(t, "pods.csv", p.String())
}

func rowsOf(t *testing.T, args ...string) []Row {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append(args, "-json"), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var rows []Row
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	return rows
}

func TestEveryPolicyFillsAndPricingFillsMost(t *testing.T) {
	nodes, pods := smallLists(t)
	rows := rowsOf(t, "-nodes", nodes, "-pods", pods, "-seeds", "3")
	at := map[string]map[float64]Row{}
	for _, r := range rows {
		if at[r.Policy] == nil {
			at[r.Policy] = map[float64]Row{}
		}
		at[r.Policy][r.Demand] = r
		if r.Seeds != 3 || r.AllocatedMean <= 0 || r.AllocatedMean > 100 || r.FragmentedMean < 0 || r.FragmentedMean > 100+1e-9 || r.AllocatedSD < 0 {
			t.Errorf("%+v", r)
		}
	}
	for _, policy := range policies() {
		if len(at[policy]) != 13 {
			t.Errorf("%s has %d steps, not 13", policy, len(at[policy]))
		}
		if r := at[policy][0.3]; r.AllocatedMean < 29 {
			t.Errorf("%s can't place 30 %%: %+v", policy, r)
		}
	}
	final := func(policy string) float64 { return at[policy][1.3].AllocatedMean }
	if !(final("random") < final("bestfit") && final("bestfit") < final("pricing")) {
		t.Errorf("random %.2f, bestfit %.2f, pricing %.2f", final("random"), final("bestfit"), final("pricing"))
	}
	if final("pricing-learned") < final("pricing")-1.5 {
		t.Errorf("pricing %.2f with the mix given, %.2f with the mix learned", final("pricing"), final("pricing-learned"))
	}
}

func TestTheSameSeedsGiveTheSameFigures(t *testing.T) {
	nodes, pods := smallLists(t)
	args := []string{"-nodes", nodes, "-pods", pods, "-seeds", "2", "-demand", "0.95", "-policy", "random,pricing-learned"}
	first := rowsOf(t, args...)
	if again := rowsOf(t, args...); !slices.Equal(first, again) {
		t.Errorf("%v\n%v", first, again)
	}
	if last := first[len(first)-1]; last.Demand != 0.95 || len(first) != 20 {
		t.Errorf("%d rows, the last is %+v", len(first), last)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	nodes, pods := smallLists(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "-nodes and -pods are needed"},
		{[]string{"-nodes", nodes, "-pods", "/nonexistent/pods"}, "/nonexistent/pods"},
		{[]string{"-nodes", nodes, "-pods", pods, "-policy", "best"}, `no policy "best"; there are random, `},
		{[]string{"-nodes", nodes, "-pods", pods, "-seeds", "0"}, "-seeds: 0"},
		{[]string{"-nodes", nodes, "-pods", pods, "-demand", "-1"}, "-demand: -1"},
		{[]string{"-nodes", nodes, "-pods", pods, "more"}, `"more": everything is a flag`},
		{[]string{"-nodes", pods, "-pods", pods}, "has no column sn; it has name, cpu_milli"},
		{[]string{"-nodes", write(t, "a", ""), "-pods", pods}, "is empty"},
		{[]string{"-nodes", write(t, "a", nodesHead), "-pods", pods}, "has no lines but the first"},
		{[]string{"-nodes", write(t, "a", nodesHead+"a,1000,1000,x,T4\n"), "-pods", pods}, `:2: column gpu: "x" isn't a whole number`},
		{[]string{"-nodes", write(t, "a", nodesHead+"a,1000,1000,17,T4\n"), "-pods", pods}, ":2: column gpu: 17 GPUs"},
		{[]string{"-nodes", write(t, "a", nodesHead+"a,1,1,1,T4\na,1,1,1,T4\n"), "-pods", pods}, "node a is there twice"},
		{[]string{"-nodes", write(t, "a", nodesHead+"a,1000,1000,0,T4\n"), "-pods", pods}, "no node has a GPU"},
		{[]string{"-nodes", nodes, "-pods", write(t, "p", podsHead+"p,1000,1000,2,500,,,,,,\n")}, ":2: column gpu_milli: 500, of a pod with 2 GPUs it is 1000"},
		{[]string{"-nodes", nodes, "-pods", write(t, "p", podsHead+"p,1000,1000,1,0,,,,,,\n")}, ":2: column gpu_milli: 0"},
		{[]string{"-nodes", nodes, "-pods", write(t, "p", podsHead+"p,1000,1000\n")}, "wrong number of fields"},
		{[]string{"-nodes", nodes, "-pods", write(t, "p", podsHead+"p,1000,1000,0,0,,,,,,\n")}, "no pod asks for a GPU"},
	} {
		err := run(t.Context(), c.args, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, not %q", c.args, err, c.want)
		}
	}
}
