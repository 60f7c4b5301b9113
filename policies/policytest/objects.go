package policytest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pintle/pintle/policies/abi"
)

// What requests need of Kubernetes' objects. Its own types would link all of it.

type objectMeta struct {
	Name              string            `json:"name,omitempty"`
	GenerateName      string            `json:"generateName,omitempty"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	CreationTimestamp *time.Time        `json:"creationTimestamp,omitempty"`
	OwnerReferences   []owner           `json:"ownerReferences,omitempty"`
}

type owner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller bool   `json:"controller,omitempty"`
}

type object struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   objectMeta `json:"metadata"`
}

type pod struct {
	APIVersion string     `json:"apiVersion,omitempty"`
	Kind       string     `json:"kind,omitempty"`
	Metadata   objectMeta `json:"metadata"`
	Spec       podSpec    `json:"spec"`
}

type podSpec struct {
	Priority           *int32            `json:"priority,omitempty"`
	PriorityClassName  string            `json:"priorityClassName,omitempty"`
	SchedulerName      string            `json:"schedulerName,omitempty"`
	ServiceAccountName string            `json:"serviceAccountName,omitempty"`
	NodeSelector       map[string]string `json:"nodeSelector,omitempty"`
	InitContainers     []container       `json:"initContainers,omitempty"`
	Containers         []container       `json:"containers"`
	Overhead           amounts           `json:"overhead,omitempty"`
}

type container struct {
	Name          string    `json:"name"`
	Image         string    `json:"image,omitempty"`
	RestartPolicy string    `json:"restartPolicy,omitempty"`
	Resources     resources `json:"resources"`
}

type resources struct {
	Requests amounts `json:"requests,omitempty"`
	Limits   amounts `json:"limits,omitempty"`
}

type node struct {
	APIVersion string     `json:"apiVersion,omitempty"`
	Kind       string     `json:"kind,omitempty"`
	Metadata   objectMeta `json:"metadata"`
	Spec       struct {
		Unschedulable bool    `json:"unschedulable,omitempty"`
		Taints        []taint `json:"taints,omitempty"`
	} `json:"spec"`
	Status struct {
		Allocatable amounts     `json:"allocatable,omitempty"`
		Capacity    amounts     `json:"capacity,omitempty"`
		Conditions  []condition `json:"conditions,omitempty"`
	} `json:"status"`
	Requested amounts `json:"requested,omitempty"` // by the pods there
	Pods      uint32  `json:"pods,omitempty"`
}

type taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

type condition struct {
	Type   string `json:"type"`
	Status string `json:"status"`
}

func unixMs(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMilli()
}

func metaOf(raw json.RawMessage) (*abi.Meta, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var o object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	m := o.Metadata
	return &abi.Meta{Name: m.Name, Namespace: m.Namespace, Labels: abi.Pairs(m.Labels), Annotations: abi.Pairs(m.Annotations)}, nil
}

// abi is the pod as policies see it.
func (p *pod) abi() (*abi.Pod, error) {
	out := &abi.Pod{UID: p.Metadata.UID, Namespace: p.Metadata.Namespace, Name: p.Metadata.Name, Labels: abi.Pairs(p.Metadata.Labels),
		Annotations: abi.Pairs(p.Metadata.Annotations), PriorityClass: p.Spec.PriorityClassName, SchedulerName: p.Spec.SchedulerName,
		ServiceAccount: p.Spec.ServiceAccountName, NodeSelector: abi.Pairs(p.Spec.NodeSelector), CreatedUnixMs: unixMs(p.Metadata.CreationTimestamp)}
	if p.Spec.Priority != nil {
		out.Priority = *p.Spec.Priority
	}
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller {
			out.OwnerKind, out.OwnerName = o.Kind, o.Name
		}
	}
	for _, c := range append(p.Spec.InitContainers[:len(p.Spec.InitContainers):len(p.Spec.InitContainers)], p.Spec.Containers...) {
		if c.Image != "" {
			out.Images = append(out.Images, c.Image)
		}
	}
	requests, err := p.Spec.requests()
	out.Requests = sorted(requests)
	return out, err
}

// requests is what scheduling counts: all containers at once, or the neediest moment of their initialisation.
func (s *podSpec) requests() (map[string]int64, error) {
	total, sidecars, start := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, c := range s.InitContainers {
		r, err := c.requests()
		if err != nil {
			return nil, err
		}
		for name, v := range r {
			if c.RestartPolicy == "Always" {
				sidecars[name] += v
				v = 0
			}
			start[name] = max(start[name], sidecars[name]+v)
		}
	}
	for _, c := range s.Containers {
		r, err := c.requests()
		if err != nil {
			return nil, err
		}
		for name, v := range r {
			total[name] += v
		}
	}
	for name, v := range sidecars {
		total[name] += v
	}
	for name, v := range start {
		total[name] = max(total[name], v)
	}
	overhead, err := s.Overhead.milli()
	for name, v := range overhead {
		total[name] += v
	}
	return total, err
}

func (c *container) requests() (map[string]int64, error) {
	r, err := c.Resources.Limits.milli() // what isn't requested is requested as far as it is limited
	if err != nil {
		return nil, err
	}
	requests, err := c.Resources.Requests.milli()
	for name, v := range requests {
		r[name] = v
	}
	return r, err
}

// abi is the node as the table takes it.
func (n *node) abi() (*abi.Node, error) {
	out := &abi.Node{Name: n.Metadata.Name, Unschedulable: n.Spec.Unschedulable, Pods: n.Pods, Labels: abi.Pairs(n.Metadata.Labels),
		CreatedUnixMs: unixMs(n.Metadata.CreationTimestamp)}
	if out.Name == "" {
		return nil, fmt.Errorf("a node has no name")
	}
	for _, t := range n.Spec.Taints {
		out.Taints = append(out.Taints, abi.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect})
	}
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			out.NotReady = c.Status != "True"
		}
	}
	allocatable := n.Status.Allocatable
	if allocatable == nil {
		allocatable = n.Status.Capacity
	}
	a, err := allocatable.milli()
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", out.Name, err)
	}
	r, err := n.Requested.milli()
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", out.Name, err)
	}
	out.Allocatable, out.Requested = sorted(a), sorted(r)
	return out, nil
}
