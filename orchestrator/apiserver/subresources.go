package apiserver

import (
	"encoding/json"
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// subresource serves what lies below an object.
func (c *call) subresource(w http.ResponseWriter, r *http.Request) error {
	sub, verb := c.info.subresource, c.info.verb
	switch {
	case sub == "status" && c.kind.Status != nil, sub == "resize" && c.kind.Resize != nil:
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
	case c.kind.Bytes != nil && sub == c.kind.Bytes.Subresource:
		return c.bytes(w, r)
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
		if sub != "log" {
			if err := c.registry.Connect(r.Context(), c.gvr, sub, c.namespace, c.name, c.user.Name, c.user.Groups); err != nil {
				return err
			}
		}
		return c.cfg.NodeProxy.ServePod(w, r, c.namespace, c.name, sub)
	case "proxy":
		if c.kind.Resource != "nodes" {
			return errNoSuchPath()
		}
		if c.cfg.NodeProxy == nil {
			return apierrors.NewServiceUnavailable("this server has no way to the nodes: proxy is not served")
		}
		if err := c.registry.Connect(r.Context(), c.gvr, sub, "", c.name, c.user.Name, c.user.Groups); err != nil {
			return err
		}
		return c.cfg.NodeProxy.ServeNode(w, r, c.name, c.info.rest)
	case "scheduling":
		if verb != "get" {
			return errMethod()
		}
		return c.scheduling(w, r)
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
	if len(problems) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, c.name, problems)
	}
	if _, err := c.registry.BindObject(r.Context(), &binding, c.createOptions(opts)); err != nil {
		return err
	}
	return c.writeObject(w, r, http.StatusCreated, success(), neg)
}

// scheduling says where a pod would go now, and why.
func (c *call) scheduling(w http.ResponseWriter, r *http.Request) error {
	if c.cfg.Explain == nil {
		return apierrors.NewServiceUnavailable("this server has no scheduler to ask: scheduling is not served")
	}
	answer, err := c.cfg.Explain(r.Context(), c.namespace, c.name)
	if err != nil {
		return err
	}
	body, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(body, '\n'))
	return err
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
	if err := c.restrictNode(r.Context(), &request); err != nil {
		return err
	}
	granted, err := c.cfg.Issuer.Issue(r.Context(), account, request.Spec)
	if err != nil {
		return err
	}
	granted.Name, granted.Namespace = c.name, c.namespace
	return c.writeObject(w, r, http.StatusCreated, withKind(granted, gvk), neg)
}
