package apiserver

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pintle/pintle/orchestrator/apiserver/authz"
)

// restrictNode refuses what a node may not create and what only the body tells, which authorization
// doesn't see: another's Node or Lease, and a token that isn't bound to a pod on it. Other users pass.
func (c *call) restrictNode(ctx context.Context, obj runtime.Object) error {
	node, ok := authz.NodeName(c.user)
	if l, is := obj.(*coordinationv1.Lease); is && c.user.Name == authz.Proxy && !authz.StandbyLease(l.Name) {
		return apierrors.NewForbidden(c.gvr.GroupResource(), c.name, fmt.Errorf("%s creates Leases of the use of Services alone", c.user.Name))
	}
	if !ok || c.user.InGroup("system:masters") {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return apierrors.NewForbidden(c.gvr.GroupResource(), c.name, fmt.Errorf(format, args...))
	}
	switch o := obj.(type) {
	case *corev1.Node:
		if o.Name != node {
			return refuse("node %q is not allowed to create node %q: it may create its own alone", node, o.Name)
		}
	case *coordinationv1.Lease:
		if o.Name != node {
			return refuse("node %q can only access node lease with the same name as the requesting node", node)
		}
	case *resourcev1.ResourceSlice:
		if o.Spec.NodeName == nil || *o.Spec.NodeName != node {
			return refuse("can only create ResourceSlice with the same NodeName as the requesting node")
		}
	case *storagev1.CSINode:
		if o.Name != node {
			return refuse("node %q can only access CSINode with the same name as the requesting node", node)
		}
	case *corev1.PersistentVolume:
		return c.restrictNewVolume(ctx, node, o)
	case *authenticationv1.TokenRequest:
		ref := o.Spec.BoundObjectRef
		if ref == nil || ref.Kind != "Pod" || ref.APIVersion != "v1" || ref.Name == "" || ref.UID == "" {
			return refuse("node requested token not bound to a pod")
		}
		entry, err := c.registry.Get(ctx, corev1.SchemeGroupVersion.WithResource("pods"), c.namespace, ref.Name)
		if err != nil {
			return err
		}
		if pod, ok := entry.Object().(*corev1.Pod); !ok || pod.UID != ref.UID || pod.Spec.NodeName != node {
			return refuse("node requested token bound to a pod scheduled on a different node")
		}
	}
	return nil
}

// restrictSlice refuses a node's change of another's ResourceSlice; whose it is never changes.
func (c *call) restrictSlice(ctx context.Context) error {
	node, ok := authz.NodeName(c.user)
	slices := resourcev1.SchemeGroupVersion.WithResource("resourceslices")
	if !ok || c.user.InGroup("system:masters") || c.gvr != slices || c.name == "" {
		return nil
	}
	switch c.info.verb {
	case "update", "patch", "delete":
	default:
		return nil
	}
	entry, err := c.registry.Get(ctx, slices, "", c.name)
	if apierrors.IsNotFound(err) {
		return nil // the call itself says so, or restrictNode judges what it would make
	}
	if err != nil {
		return err
	}
	if s, ok := entry.Object().(*resourcev1.ResourceSlice); !ok || s.Spec.NodeName == nil || *s.Spec.NodeName != node {
		return apierrors.NewForbidden(slices.GroupResource(), c.name, fmt.Errorf("can only change ResourceSlice with the same NodeName as the requesting node"))
	}
	return nil
}
