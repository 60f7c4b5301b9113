package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api"
)

// subresource serves what lies below an object.
func (c *call) subresource(w http.ResponseWriter, r *http.Request) error {
	sub, verb := c.info.subresource, c.info.verb
	switch {
	case sub == "status" && c.kind.Status != nil:
		switch verb {
		case "get":
			return c.get(w, r)
		case "update":
			return c.update(w, r, sub)
		case "patch":
			return c.patch(w, r, sub)
		}
		return errMethod()
	case sub == "scale" && c.kind.Scale != nil:
		return c.scale(w, r)
	case !slices.Contains(c.kind.Subresources, sub):
		return errNoSuchPath()
	}
	switch sub {
	case "log", "exec", "attach", "portforward":
		if sub == "log" && verb != "get" || sub != "log" && verb != "get" && verb != "create" {
			return errMethod()
		}
		if c.cfg.NodeProxy == nil {
			return apierrors.NewServiceUnavailable("this server has no way to the nodes: " + sub + " is not served")
		}
		return c.cfg.NodeProxy.ServePod(w, r, c.namespace, c.name, sub)
	case "proxy":
		if c.kind.Resource != "nodes" {
			return errNoSuchPath()
		}
		if c.cfg.NodeProxy == nil {
			return apierrors.NewServiceUnavailable("this server has no way to the nodes: proxy is not served")
		}
		return c.cfg.NodeProxy.ServeNode(w, r, c.name, c.info.rest)
	case "finalize":
		if verb != "update" {
			return errMethod()
		}
		return c.update(w, r, sub)
	}
	if verb != "create" {
		return errMethod()
	}
	switch sub {
	case "binding":
		return c.bind(w, r)
	case "eviction":
		return c.evict(w, r)
	case "token":
		return c.token(w, r)
	}
	return errNoSuchPath()
}

// readBeside reads a body of another kind than the call's, and returns how to answer.
func (c *call) readBeside(w http.ResponseWriter, r *http.Request, gvk schema.GroupVersionKind, into runtime.Object, opts writeOptions) (negotiated, error) {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, nil)
	if err != nil {
		return neg, err
	}
	f, err := bodyFormat(r)
	if err != nil {
		return neg, err
	}
	raw, err := readBody(w, r)
	if err != nil {
		return neg, err
	}
	return neg, c.codecs.decode(w, raw, f, gvk, into, opts.validation)
}

func success() *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: http.StatusCreated}
}

func (c *call) bind(w http.ResponseWriter, r *http.Request) error {
	opts, err := c.writeOptions(r, createOptionsKind)
	if err != nil {
		return err
	}
	var binding corev1.Binding
	neg, err := c.readBeside(w, r, corev1.SchemeGroupVersion.WithKind("Binding"), &binding, opts)
	if err != nil {
		return err
	}
	if err := c.checkIdentity(&binding); err != nil {
		return err
	}
	var problems field.ErrorList
	if binding.Target.Kind != "" && binding.Target.Kind != "Node" {
		problems = append(problems, field.NotSupported(field.NewPath("target", "kind"), binding.Target.Kind, []string{"Node", "<empty>"}))
	}
	if binding.Target.Name == "" {
		problems = append(problems, field.Required(field.NewPath("target", "name"), ""))
	}
	if len(binding.Annotations) > 0 || len(binding.Labels) > 0 {
		problems = append(problems, field.Forbidden(field.NewPath("metadata"), "labels and annotations of a binding are not copied to the pod: set them on the pod"))
	}
	if len(problems) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, c.name, problems)
	}
	if _, err := c.registry.Bind(r.Context(), c.namespace, c.name, binding.UID, binding.Target.Name, c.createOptions(opts)); err != nil {
		return err
	}
	return c.writeObject(w, r, http.StatusCreated, success(), neg)
}

func (c *call) token(w http.ResponseWriter, r *http.Request) error {
	if c.cfg.Issuer == nil {
		return apierrors.NewServiceUnavailable("this server issues no service account tokens")
	}
	opts, err := c.writeOptions(r, createOptionsKind)
	if err != nil {
		return err
	}
	gvk := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
	var request authenticationv1.TokenRequest
	neg, err := c.readBeside(w, r, gvk, &request, opts)
	if err != nil {
		return err
	}
	entry, err := c.registry.Get(r.Context(), c.gvr, c.namespace, c.name)
	if err != nil {
		return err
	}
	account, ok := entry.Object().(*corev1.ServiceAccount)
	if !ok {
		return errNoSuchPath()
	}
	granted, err := c.cfg.Issuer.Issue(r.Context(), account, request.Spec)
	if err != nil {
		return err
	}
	granted.Name, granted.Namespace = c.name, c.namespace
	return c.writeObject(w, r, http.StatusCreated, withKind(granted, gvk), neg)
}

func scaleGVK() schema.GroupVersionKind { return autoscalingv1.SchemeGroupVersion.WithKind("Scale") }

// scaleOf shows an object as a Scale.
func (c *call) scaleOf(obj api.Object) *autoscalingv1.Scale {
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{Kind: "Scale", APIVersion: "autoscaling/v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: c.kind.Scale.SpecReplicas(obj)},
		Status: autoscalingv1.ScaleStatus{Replicas: c.kind.Scale.StatusReplicas(obj), Selector: c.kind.Scale.Selector(obj)},
	}
}

func (c *call) scale(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, nil)
	if err != nil {
		return err
	}
	if c.info.verb == "get" {
		entry, err := c.registry.Get(r.Context(), c.gvr, c.namespace, c.name)
		if err != nil {
			return err
		}
		return c.writeObject(w, r, http.StatusOK, c.scaleOf(entry.Object()), neg)
	}
	kind := updateOptionsKind
	if c.info.verb == "patch" {
		kind = patchOptionsKind
	}
	opts, err := c.writeOptions(r, kind)
	if err != nil {
		return err
	}
	change, err := c.scaleChange(w, r, opts)
	if err != nil {
		return err
	}
	entry, err := c.modify(r.Context(), "", opts, func(live api.Object) (api.Object, error) {
		scale, err := change(c.scaleOf(live))
		if err != nil {
			return nil, err
		}
		if err := c.checkIdentity(scale); err != nil {
			return nil, err
		}
		if scale.Spec.Replicas < 0 {
			return nil, apierrors.NewInvalid(scaleGVK().GroupKind(), c.name, field.ErrorList{
				field.Invalid(field.NewPath("spec", "replicas"), scale.Spec.Replicas, "must be greater than or equal to 0")})
		}
		if scale.UID != "" && scale.UID != live.GetUID() {
			return nil, apierrors.NewConflict(c.gvr.GroupResource(), c.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", scale.UID, live.GetUID()))
		}
		obj := live.DeepCopyObject().(api.Object)
		c.kind.Scale.SetReplicas(obj, scale.Spec.Replicas)
		obj.SetResourceVersion(scale.ResourceVersion)
		return obj, nil
	})
	if err != nil {
		return err
	}
	return c.writeObject(w, r, http.StatusOK, c.scaleOf(entry.Object()), neg)
}

// scaleChange reads an update or a patch of a Scale.
func (c *call) scaleChange(w http.ResponseWriter, r *http.Request, opts writeOptions) (func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error), error) {
	switch c.info.verb {
	case "update":
		var scale autoscalingv1.Scale
		if _, err := c.readBeside(w, r, scaleGVK(), &scale, opts); err != nil {
			return nil, err
		}
		return func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return scale.DeepCopy(), nil }, nil
	case "patch":
		kind, patch, err := readPatch(w, r)
		if err != nil {
			return nil, err
		}
		if kind == types.ApplyYAMLPatchType {
			return nil, apierrors.NewBadRequest("apply is not supported on scale: apply spec.replicas of the object itself")
		}
		return func(live *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
			live.ResourceVersion = "" // so that only a version in the patch is a condition
			doc, err := json.Marshal(live)
			if err != nil {
				return nil, fmt.Errorf("encode scale: %w", err)
			}
			raw, err := patchJSON(kind, doc, patch, autoscalingv1.Scale{})
			if err != nil {
				return nil, err
			}
			var scale autoscalingv1.Scale
			if err := c.codecs.decode(discardHeaders{}, raw, formatJSON, scaleGVK(), &scale, opts.validation); err != nil {
				return nil, err
			}
			return &scale, nil
		}, nil
	}
	return nil, errMethod()
}
