package policy

import (
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/policies/abi"
)

// newRequest is a write as modules are told of it. The objects are encoded when a module wants them.
func newRequest(req *registry.Request) *abi.AdmissionRequest {
	kind, gvr := req.Kind.GroupVersionKind, req.Kind.GVR()
	if _, ok := req.Object.(*corev1.Binding); ok {
		kind = corev1.SchemeGroupVersion.WithKind("Binding")
		req.Object.GetObjectKind().SetGroupVersionKind(kind)
	}
	out := &abi.AdmissionRequest{
		UID:         string(uuid.NewUUID()),
		Operation:   abi.OperationOf(req.Operation),
		Kind:        abi.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind},
		Resource:    abi.GroupVersionResource{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource},
		Subresource: req.Subresource,
		Namespace:   req.Namespace,
		Name:        req.Name,
		User:        abi.UserInfo{Username: req.User, Groups: req.Groups},
		DryRun:      req.DryRun,
	}
	setObject(out, req.Object)
	if old := oldOf(req); old != nil {
		out.OldMeta, out.OldObject = metaOf(old), &encoded{obj: old}
	}
	return out
}

// setObject has later policies see what an earlier one made of the object.
func setObject(out *abi.AdmissionRequest, obj api.Object) {
	if obj != nil {
		out.Meta, out.Object = metaOf(obj), &encoded{obj: obj}
	}
}

func metaOf(obj api.Object) *abi.Meta {
	return &abi.Meta{Name: obj.GetName(), Namespace: obj.GetNamespace(), Labels: abi.Pairs(obj.GetLabels()), Annotations: abi.Pairs(obj.GetAnnotations())}
}

// encoded encodes an object once for each form. Safe for concurrent use while nobody changes the object.
type encoded struct {
	obj api.Object

	mu          sync.Mutex // guards what follows
	json, proto []byte
}

// Encoded implements abi.Object.
func (e *encoded) Encoded(w abi.Wants) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	switch w {
	case abi.JSON:
		if e.json == nil {
			e.json, err = json.Marshal(e.obj)
		}
		return e.json, err
	case abi.Protobuf:
		if e.proto != nil {
			return e.proto, nil
		}
		m, ok := e.obj.(interface{ Marshal() ([]byte, error) })
		if !ok {
			return nil, fmt.Errorf("%T has no protobuf form: ask for JSON", e.obj)
		}
		e.proto, err = m.Marshal()
		return e.proto, err
	}
	return nil, fmt.Errorf("no object is encoded as %d", w)
}

// groupResource names what a request is about.
func groupResource(req *registry.Request) schema.GroupResource { return req.Kind.GVR().GroupResource() }
