package policytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pintle/pintle/policies/abi"
)

// Request is one request: of an admission policy or of a scheduling policy.
type Request struct {
	Name      string // what it is about ("CREATE pods default/web")
	Admission *abi.AdmissionRequest
	Placement *abi.Placement
}

// Parser reads requests. Its zero value reads all but what modules of other ABIs need that want Kubernetes' protobuf.
type Parser struct {
	// Protobuf encodes an object that is there as JSON in Kubernetes' protobuf, without its envelope. nil: a policy that
	// wants that fails.
	Protobuf func(kind abi.GroupVersionKind, json []byte) ([]byte, error)
}

// review is an AdmissionReview of admission.k8s.io/v1, as far as policies see it.
type review struct {
	APIVersion string   `json:"apiVersion,omitempty"`
	Kind       string   `json:"kind,omitempty"`
	Request    *request `json:"request,omitempty"`
}

type request struct {
	UID         string          `json:"uid"`
	Kind        gvk             `json:"kind"`
	Resource    gvr             `json:"resource"`
	SubResource string          `json:"subResource,omitempty"`
	Name        string          `json:"name,omitempty"`
	Namespace   string          `json:"namespace,omitempty"`
	Operation   string          `json:"operation"`
	UserInfo    userInfo        `json:"userInfo"`
	Object      json.RawMessage `json:"object,omitempty"`
	OldObject   json.RawMessage `json:"oldObject,omitempty"`
	DryRun      bool            `json:"dryRun,omitempty"`
}

type gvk struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

type gvr struct {
	Group    string `json:"group"`
	Version  string `json:"version"`
	Resource string `json:"resource"`
}

type userInfo struct {
	Username string   `json:"username,omitempty"`
	UID      string   `json:"uid,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

// Read reads requests until r ends.
func (p Parser) Read(r io.Reader) ([]Request, error) {
	var requests []Request
	for d := json.NewDecoder(r); ; {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return requests, nil
		} else if err != nil {
			return nil, fmt.Errorf("request %d: %w", len(requests)+1, err)
		}
		q, err := p.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", len(requests)+1, err)
		}
		requests = append(requests, q)
	}
}

// Parse reads one request, whichever form it has.
func (p Parser) Parse(data []byte) (Request, error) {
	var form struct {
		Kind      json.RawMessage `json:"kind"`
		Operation string          `json:"operation"`
		Pod       json.RawMessage `json:"pod"`
		Nodes     json.RawMessage `json:"nodes"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return Request{}, err
	}
	var kind string
	_ = json.Unmarshal(form.Kind, &kind) // of an AdmissionRequest it is an object
	switch {
	case form.Pod != nil || form.Nodes != nil:
		return p.placement(form.Pod, form.Nodes)
	case kind == "AdmissionReview":
		var r review
		if err := json.Unmarshal(data, &r); err != nil {
			return Request{}, fmt.Errorf("AdmissionReview: %w", err)
		}
		if r.Request == nil {
			return Request{}, errors.New("the AdmissionReview has no request")
		}
		return p.admission(r.Request)
	case form.Operation != "":
		var r request
		if err := json.Unmarshal(data, &r); err != nil {
			return Request{}, fmt.Errorf("AdmissionRequest: %w", err)
		}
		return p.admission(&r)
	case kind != "":
		return p.creation(data)
	}
	return Request{}, errors.New(`this is no request: wanted is an object with a kind, an AdmissionReview, an AdmissionRequest (with an operation), or {"pod": …, "nodes": […]}`)
}

func (p Parser) admission(r *request) (Request, error) {
	q := &abi.AdmissionRequest{UID: r.UID, Operation: abi.OperationOf(r.Operation), Kind: abi.GroupVersionKind(r.Kind),
		Resource: abi.GroupVersionResource(r.Resource), Subresource: r.SubResource, Namespace: r.Namespace, Name: r.Name,
		User: abi.UserInfo(r.UserInfo), DryRun: r.DryRun}
	if q.Operation == abi.Unknown {
		return Request{}, fmt.Errorf("operation %q isn't known", r.Operation)
	}
	var err error
	if q.Meta, err = metaOf(r.Object); err != nil {
		return Request{}, err
	}
	if q.OldMeta, err = metaOf(r.OldObject); err != nil {
		return Request{}, err
	}
	if q.Meta != nil {
		q.Object = p.object(q.Kind, r.Object)
	}
	if q.OldMeta != nil {
		q.OldObject = p.object(q.Kind, r.OldObject)
	}
	if q.Name == "" && q.Meta != nil {
		q.Name = q.Meta.Name
	}
	name := strings.TrimPrefix(q.Namespace+"/"+q.Name, "/")
	return Request{Name: fmt.Sprintf("%s %s %s", q.Operation, strings.Trim(q.Resource.Resource+"/"+q.Subresource, "/"), name), Admission: q}, nil
}

// clusterScoped are the kinds of Kubernetes that have no namespace, as far as policies meet them.
var clusterScoped = map[string]bool{"Namespace": true, "Node": true, "PersistentVolume": true, "ClusterRole": true,
	"ClusterRoleBinding": true, "CustomResourceDefinition": true, "StorageClass": true, "PriorityClass": true, "IngressClass": true,
	"RuntimeClass": true, "APIService": true, "CSIDriver": true, "VolumeAttachment": true, "ValidatingAdmissionPolicy": true,
	"ValidatingAdmissionPolicyBinding": true, "ValidatingWebhookConfiguration": true, "MutatingWebhookConfiguration": true}

// creation takes an object for its creation by an administrator.
func (p Parser) creation(data []byte) (Request, error) {
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		return Request{}, fmt.Errorf("object: %w", err)
	}
	group, version, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		group, version = "", o.APIVersion
	}
	if version == "" {
		return Request{}, fmt.Errorf("the %s has no apiVersion", o.Kind)
	}
	namespace := o.Metadata.Namespace
	if namespace == "" && !clusterScoped[o.Kind] {
		namespace = "default"
	}
	return p.admission(&request{UID: "00000000-0000-4000-8000-000000000001", Kind: gvk{group, version, o.Kind}, Resource: gvr{group, version, plural(o.Kind)},
		Name: o.Metadata.Name, Namespace: namespace, Operation: "CREATE", Object: data,
		UserInfo: userInfo{Username: "kubernetes-admin", Groups: []string{"system:masters", "system:authenticated"}}})
}

// plural guesses the resource of a kind.
func plural(kind string) string {
	s := strings.ToLower(kind)
	switch {
	case s == "endpoints":
		return s
	case strings.HasSuffix(s, "s"), strings.HasSuffix(s, "x"), strings.HasSuffix(s, "ch"), strings.HasSuffix(s, "sh"):
		return s + "es"
	case strings.HasSuffix(s, "y") && !strings.HasSuffix(s, "ay") && !strings.HasSuffix(s, "ey"):
		return s[:len(s)-1] + "ies"
	}
	return s + "s"
}

// object is an object that is there as JSON.
func (p Parser) object(kind abi.GroupVersionKind, raw json.RawMessage) abi.Object {
	return &jsonObject{kind, raw, p.Protobuf}
}

type jsonObject struct {
	kind     abi.GroupVersionKind
	json     []byte
	protobuf func(abi.GroupVersionKind, []byte) ([]byte, error)
}

func (o *jsonObject) Encoded(w abi.Wants) ([]byte, error) {
	if w == abi.Protobuf && o.protobuf != nil {
		return o.protobuf(o.kind, o.json)
	}
	return abi.JSONObject(o.json).Encoded(w)
}

func (p Parser) placement(rawPod, rawNodes json.RawMessage) (Request, error) {
	var one pod
	var nodes []json.RawMessage
	if err := json.Unmarshal(rawPod, &one); err != nil {
		return Request{}, fmt.Errorf("pod: %w", err)
	}
	if err := json.Unmarshal(rawNodes, &nodes); err != nil {
		return Request{}, fmt.Errorf("nodes: %w", err)
	}
	q := &abi.Placement{Nodes: abi.NewNodeTable()}
	var err error
	if q.Pod, err = one.abi(); err != nil {
		return Request{}, fmt.Errorf("pod: %w", err)
	}
	byRow := map[uint32]json.RawMessage{}
	for _, raw := range nodes {
		var n node
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&n); err != nil {
			return Request{}, fmt.Errorf("nodes: %w", err)
		}
		a, err := n.abi()
		if err != nil {
			return Request{}, err
		}
		byRow[q.Nodes.Set(a)] = raw
	}
	q.Rows = q.Nodes.AppendRows(nil)
	if p.Protobuf != nil {
		core := func(kind string) abi.GroupVersionKind { return abi.GroupVersionKind{Version: "v1", Kind: kind} }
		q.PodObject = func() ([]byte, error) { return p.Protobuf(core("Pod"), rawPod) }
		q.NodeObject = func(row uint32) ([]byte, error) { return p.Protobuf(core("Node"), byRow[row]) }
	}
	return Request{Name: fmt.Sprintf("pod %s/%s, %d nodes", q.Pod.Namespace, q.Pod.Name, len(q.Rows)), Placement: q}, nil
}
