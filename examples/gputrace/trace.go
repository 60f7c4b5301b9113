package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// node is a line of the list of nodes.
type node struct {
	name      string
	cpuMilli  int64
	memoryMiB int64
	gpus      int
	model     string
}

// pod is a line of the list of pods.
type pod struct {
	name      string
	cpuMilli  int64
	memoryMiB int64
	gpus      int
	gpuMilli  int      // of each GPU
	models    []string // none: any
	created   int64    // seconds
	deleted   int64    // 0: never
}

const maxGPUs = 16

func readNodes(path string) ([]node, error) {
	var out []node
	err := readTable(path, []string{"sn", "cpu_milli", "memory_mib", "gpu", "model"}, func(r *row) error {
		n := node{name: r.text("sn"), cpuMilli: r.number("cpu_milli", 0), memoryMiB: r.number("memory_mib", 0), gpus: int(r.number("gpu", 0)), model: r.text("model")}
		if n.name == "" {
			return errors.New("column sn is empty")
		}
		if n.gpus > maxGPUs {
			return fmt.Errorf("column gpu: %d GPUs, at most %d are possible", n.gpus, maxGPUs)
		}
		out = append(out, n)
		return r.err
	})
	if err != nil {
		return nil, err
	}
	total := 0
	seen := map[string]bool{}
	for _, n := range out {
		if seen[n.name] {
			return nil, fmt.Errorf("%s: node %s is there twice", path, n.name)
		}
		seen[n.name] = true
		total += n.gpus
	}
	if total == 0 {
		return nil, fmt.Errorf("%s: no node has a GPU", path)
	}
	return out, nil
}

func readPods(path string, times bool) ([]pod, error) {
	columns := []string{"name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"}
	if times {
		columns = append(columns, "creation_time", "deletion_time")
	}
	var out []pod
	err := readTable(path, columns, func(r *row) error {
		p := pod{name: r.text("name"), cpuMilli: r.number("cpu_milli", 0), memoryMiB: r.number("memory_mib", 0), gpus: int(r.number("num_gpu", 0)), gpuMilli: int(r.number("gpu_milli", 0))}
		for model := range strings.SplitSeq(r.text("gpu_spec"), "|") {
			if model = strings.TrimSpace(model); model != "" {
				p.models = append(p.models, model)
			}
		}
		if times {
			p.created, p.deleted = r.number("creation_time", 0), r.number("deletion_time", 0)
		}
		switch {
		case r.err != nil:
			return r.err
		case p.gpus == 0:
			p.gpuMilli, p.models = 0, nil
		case p.gpuMilli < 1 || p.gpuMilli > 1000:
			return fmt.Errorf("column gpu_milli: %d, of a pod with GPUs it is 1 to 1000", p.gpuMilli)
		case p.gpus > 1 && p.gpuMilli != 1000:
			return fmt.Errorf("column gpu_milli: %d, of a pod with %d GPUs it is 1000", p.gpuMilli, p.gpus)
		}
		out = append(out, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	asked := 0
	for _, p := range out {
		asked += p.gpus
	}
	if asked == 0 {
		return nil, fmt.Errorf("%s: no pod asks for a GPU", path)
	}
	return out, nil
}

// row is a line of a table, its columns by name. err is the first that was met.
type row struct {
	index  map[string]int
	fields []string
	err    error
}

func (r *row) text(column string) string {
	if i, ok := r.index[column]; ok {
		return strings.TrimSpace(r.fields[i])
	}
	return ""
}

// number reads a whole number; an empty column is the default.
func (r *row) number(column string, otherwise int64) int64 {
	text := r.text(column)
	if text == "" {
		return otherwise
	}
	v, err := strconv.ParseFloat(text, 64) // some lists write 4000.0
	if r.err == nil && (err != nil || v < 0 || v != float64(int64(v))) {
		r.err = fmt.Errorf("column %s: %q isn't a whole number of 0 or more", column, text)
	}
	return int64(v)
}

func readTable(path string, columns []string, line func(*row) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := csv.NewReader(file)
	reader.TrimLeadingSpace = true
	head, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is empty", path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	index := map[string]int{}
	for i, name := range head {
		index[strings.TrimPrefix(strings.TrimSpace(name), "\ufeff")] = i
	}
	for _, name := range columns {
		if _, ok := index[name]; !ok {
			return fmt.Errorf("%s has no column %s; it has %s", path, name, strings.Join(head, ", "))
		}
	}
	lines := 0
	for ; ; lines++ {
		fields, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := line(&row{index: index, fields: fields}); err != nil {
			number, _ := reader.FieldPos(0)
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	if lines == 0 {
		return fmt.Errorf("%s has no lines but the first", path)
	}
	return nil
}
