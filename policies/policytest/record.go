package policytest

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pintle/pintle/policies/abi"
)

// Recorder writes requests to W, one a line, so that a Parser reads them again. It may be used by several goroutines
// at once.
type Recorder struct {
	W  io.Writer
	mu sync.Mutex
}

// Admission writes down a request of an admission policy, with its objects as JSON.
func (r *Recorder) Admission(q *abi.AdmissionRequest) error {
	out := request{UID: q.UID, Kind: gvk(q.Kind), Resource: gvr(q.Resource), SubResource: q.Subresource, Name: q.Name, Namespace: q.Namespace,
		Operation: q.Operation.String(), UserInfo: userInfo(q.User), DryRun: q.DryRun}
	for _, o := range []struct {
		from abi.Object
		to   *json.RawMessage
	}{{q.Object, &out.Object}, {q.OldObject, &out.OldObject}} {
		if o.from == nil {
			continue
		}
		b, err := o.from.Encoded(abi.JSON)
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		*o.to = b
	}
	return r.line(review{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview", Request: &out})
}

// Placement writes down a request of a scheduling policy. Of pod and nodes it keeps what the ABI gives policies.
func (r *Recorder) Placement(q *abi.Placement) error {
	nodes := make([]*node, 0, len(q.Rows))
	for _, row := range q.Rows {
		nodes = append(nodes, recordNode(q.Nodes, row))
	}
	return r.line(struct {
		Pod   *pod    `json:"pod"`
		Nodes []*node `json:"nodes"`
	}{recordPod(q.Pod), nodes})
}

func (r *Recorder) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.W.Write(append(b, '\n'))
	return err
}

func recordPod(p *abi.Pod) *pod {
	out := &pod{APIVersion: "v1", Kind: "Pod", Metadata: objectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID,
		Labels: asMap(p.Labels), Annotations: asMap(p.Annotations), CreationTimestamp: recordTime(p.CreatedUnixMs)}}
	if p.OwnerKind != "" {
		out.Metadata.OwnerReferences = []owner{{p.OwnerKind, p.OwnerName, true}}
	}
	out.Spec = podSpec{Priority: &p.Priority, PriorityClassName: p.PriorityClass, SchedulerName: p.SchedulerName,
		ServiceAccountName: p.ServiceAccount, NodeSelector: asMap(p.NodeSelector)}
	for i, image := range p.Images {
		out.Spec.Containers = append(out.Spec.Containers, container{Name: fmt.Sprintf("c%d", i), Image: image})
	}
	if len(out.Spec.Containers) == 0 {
		out.Spec.Containers = []container{{Name: "c0"}}
	}
	out.Spec.Containers[0].Resources.Requests = asAmounts(p.Requests) // in effect; whose they were isn't told
	return out
}

func recordNode(t *abi.NodeTable, row uint32) *node {
	n := t.Node(row)
	out := &node{APIVersion: "v1", Kind: "Node", Metadata: objectMeta{Name: n.Name, Labels: asMap(n.Labels), CreationTimestamp: recordTime(n.CreatedUnixMs)},
		Requested: asAmounts(n.Requested), Pods: n.Pods}
	out.Spec.Unschedulable = n.Unschedulable
	for _, x := range n.Taints {
		out.Spec.Taints = append(out.Spec.Taints, taint(x))
	}
	out.Status.Allocatable = asAmounts(n.Allocatable)
	ready := "True"
	if n.NotReady {
		ready = "False"
	}
	out.Status.Conditions = []condition{{"Ready", ready}}
	return out
}

// recordTime is when something was created; Kubernetes counts seconds, and the rest is kept all the same.
func recordTime(unixMs int64) *time.Time {
	if unixMs == 0 {
		return nil
	}
	t := time.UnixMilli(unixMs).UTC()
	return &t
}

func asMap(ps []abi.Pair) map[string]string {
	if len(ps) == 0 {
		return nil
	}
	m := make(map[string]string, len(ps))
	for _, p := range ps {
		m[p.Key] = p.Value
	}
	return m
}

func asAmounts(qs []abi.Quantity) amounts {
	if len(qs) == 0 {
		return nil
	}
	a := amounts{}
	for _, q := range qs {
		a[q.Name] = json.RawMessage(`"` + formatQuantity(q.Milli) + `"`)
	}
	return a
}
