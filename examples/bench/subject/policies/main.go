// Command policies is what the table policies measures: policies of ABI pintle/v1 in a Host, the same modules called
// in wazero with nothing around them, and the same decisions in Go, all in one process.
//
//	policies FOLDER
//
// FOLDER holds modules named required-labels-LANGUAGE.wasm and gpu-binpack-LANGUAGE.wasm, and large-go.wasm, which is loaded
// again and again; what isn't there isn't measured.
// It prints a JSON object: values by name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
)

// Languages of the SDKs.
var languages = []string{"c", "rust", "assemblyscript", "go"}

// results are values by name; times are microseconds.
type results map[string]float64

func main() {
	if os.Args[1] == "pace" {
		_ = pace(os.Stdout) // until nobody reads
		return
	}
	r := results{}
	if err := run(context.Background(), os.Args[1], r); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string, r results) (err error) {
	h, err := policies.New(policies.Config{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()

	nativeAdmission(r)
	for _, language := range languages {
		label, err := module(dir, "required-labels", language)
		if err != nil {
			return err
		}
		if label != nil {
			if err := admission(ctx, h, r, language, label); err != nil {
				return fmt.Errorf("%s: %w", language, err)
			}
		}
		binpack, err := module(dir, "gpu-binpack", language)
		if err != nil {
			return err
		}
		if binpack != nil {
			for _, nodes := range []int{5_000, 50_000} {
				if err := placement(ctx, h, r, language, binpack, nodes); err != nil {
					return fmt.Errorf("%s: %d nodes: %w", language, nodes, err)
				}
			}
		}
	}
	small, err := module(dir, "required-labels", "c")
	if err != nil || small == nil {
		return err
	}
	if err := many(ctx, h, r, small); err != nil {
		return err
	}
	large, err := module(dir, "large", "go")
	if err != nil || large == nil {
		return err
	}
	return reload(ctx, h, r, small, large)
}

// module reads one; nil if it isn't there.
func module(dir, policy, language string) ([]byte, error) {
	wasm, err := os.ReadFile(filepath.Join(dir, policy+"-"+language+".wasm"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return wasm, err
}

// timed calls fn for about half a second and returns the sorted durations, in microseconds.
func timed(fn func() error) ([]float64, error) {
	var took []float64
	for begin := time.Now(); time.Since(begin) < time.Second/2 || len(took) < 200; {
		start := time.Now()
		if err := fn(); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/1000)
	}
	slices.Sort(took)
	return took, nil
}

// quantile is of what is sorted.
func quantile(took []float64, q float64) float64 { return took[int(q*float64(len(took)-1))] }

func (r results) add(name string, took []float64) {
	r[name+"/p50"], r[name+"/p99"] = quantile(took, 0.5), quantile(took, 0.99)
}

const (
	labelSettings = `{"labels":["owner"]}`
	podJSON       = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop","labels":{"app":"web","owner":"jane","tier":"front"}},"spec":{"containers":[{"name":"web","image":"registry.example.com/web:1"}]}}`
)

// request is the write that all are asked about. It carries the label.
func request() *abi.AdmissionRequest {
	return &abi.AdmissionRequest{UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Operation: abi.Create,
		Kind: abi.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: abi.GroupVersionResource{Version: "v1", Resource: "pods"},
		Namespace: "shop", Name: "web", User: abi.UserInfo{Username: "jane", Groups: []string{"dev", "system:authenticated"}},
		Meta:   &abi.Meta{Name: "web", Namespace: "shop", Labels: abi.Pairs(map[string]string{"app": "web", "owner": "jane", "tier": "front"})},
		Object: abi.JSONObject(podJSON)}
}
