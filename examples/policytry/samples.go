package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/policytest"
)

// The samples: a Deployment, a pod as it is created, and a GPU pod with nodes that it may go to.
//
//go:embed sample-admission.json
var sampleAdmission []byte

//go:embed sample-scheduling.json
var sampleScheduling []byte

func samples(kind abi.Kind) ([]policytest.Request, error) {
	from := sampleAdmission
	if kind == abi.Scheduling {
		from = sampleScheduling
	}
	return policytest.Parser{Protobuf: protobuf}.Read(bytes.NewReader(from))
}

// placeOnSample takes a pod that came alone for one that may go to the sample's nodes.
func placeOnSample(q policytest.Request) (policytest.Request, error) {
	if q.Admission.Kind != (abi.GroupVersionKind{Version: "v1", Kind: "Pod"}) || q.Admission.Object == nil {
		return q, fmt.Errorf("%s: a scheduling policy is asked about a pod, or {\"pod\": …, \"nodes\": […]}", q.Name)
	}
	pod, err := q.Admission.Object.Encoded(abi.JSON)
	if err != nil {
		return q, err
	}
	var sample struct {
		Nodes json.RawMessage `json:"nodes"`
	}
	if err := json.Unmarshal(sampleScheduling, &sample); err != nil {
		return q, err
	}
	both, err := json.Marshal(map[string]json.RawMessage{"pod": pod, "nodes": sample.Nodes})
	if err != nil {
		return q, err
	}
	return policytest.Parser{Protobuf: protobuf}.Parse(both)
}
