package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SliceDevices are Devices that ResourceClaims can ask for: the agent publishes them as ResourceSlices of its node, which
// go with the node. What a claim was given comes to the node like every other choice, with the pod.
type SliceDevices interface {
	Devices
	// ResourceDevices are the devices of State, and the driver whose they are.
	ResourceDevices() (driver string, devices []ResourceDevice)
}

// ResourceDevice is a device as a ResourceSlice lists it.
type ResourceDevice struct {
	Name       string                       // a DNS label
	Attributes map[string]ResourceAttribute // a name without a domain is in the driver's
	Capacity   map[string]resource.Quantity
	// Unhealthy, if it isn't "", keeps claims away that don't tolerate the taint UnhealthyTaint of the driver's domain.
	Unhealthy string
}

// ResourceAttribute is a value; exactly one field is set.
type ResourceAttribute struct {
	String, Version string
	Int             *int64
	Bool            *bool
}

// UnhealthyTaint, after the driver's name and a slash, is the key of the taint of unhealthy devices; its effect is NoSchedule.
const UnhealthyTaint = "unhealthy"

// How often slices are looked at without a reason, and after an error.
const (
	slicesPeriod = 5 * time.Minute
	slicesRetry  = 2 * time.Second
)

// perSlice is how many devices a slice holds: as many as it may where devices are tainted.
const perSlice = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures

// publishSlices keeps the node's slices up to date until ctx ends.
func (a *Agent) publishSlices(ctx context.Context, d SliceDevices) {
	select {
	case <-d.Ready():
	case <-ctx.Done():
		return
	}
	for {
		changed := d.Changed()
		wait := slicesPeriod
		if err := a.syncSlices(ctx, d); err != nil && ctx.Err() == nil {
			wait = slicesRetry
			if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) { // not found: the node is about to be registered
				a.log.Warn("resource slices were not published", "error", err)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (a *Agent) syncSlices(ctx context.Context, d SliceDevices) error {
	node, err := a.cfg.Client.CoreV1().Nodes().Get(ctx, a.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	driver, devices := d.ResourceDevices()
	api := a.cfg.Client.ResourceV1().ResourceSlices()
	list, err := api.List(ctx, metav1.ListOptions{FieldSelector: resourcev1.ResourceSliceSelectorNodeName + "=" + node.Name + "," + resourcev1.ResourceSliceSelectorDriver + "=" + driver})
	if err != nil {
		return fmt.Errorf("list resource slices: %w", err)
	}
	todo := planSlices(node, driver, devices, list.Items)
	var errs []error
	for _, s := range todo.update {
		_, err := api.Update(ctx, s, metav1.UpdateOptions{})
		errs = append(errs, err)
	}
	for _, s := range todo.create {
		_, err := api.Create(ctx, s, metav1.CreateOptions{})
		errs = append(errs, err)
	}
	for _, name := range todo.remove {
		if err := api.Delete(ctx, name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// slicePlan is what is to be written so that the slices say what they should.
type slicePlan struct {
	update, create []*resourcev1.ResourceSlice
	remove         []string
}

// planSlices compares a node's slices with its devices. Where they differ all of them get a new generation, so that nobody
// takes a part of the old for the new. It is pure, and changes none of what it is given.
func planSlices(node *corev1.Node, driver string, devices []ResourceDevice, have []resourcev1.ResourceSlice) (plan slicePlan) {
	have = slices.DeleteFunc(slices.Clone(have), func(s resourcev1.ResourceSlice) bool {
		return s.Spec.Driver != driver || s.Spec.NodeName == nil || *s.Spec.NodeName != node.Name || s.DeletionTimestamp != nil
	})
	slices.SortFunc(have, func(a, b resourcev1.ResourceSlice) int {
		return cmp.Or(strings.Compare(firstDevice(&a), firstDevice(&b)), strings.Compare(a.Name, b.Name))
	})
	want := sliceSpecs(node.Name, driver, devices)
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	generation, same := int64(0), len(have) == len(want)
	for i := range have {
		generation = max(generation, have[i].Spec.Pool.Generation)
		if same {
			want[i].Pool.Generation = have[i].Spec.Pool.Generation
			same = apiequality.Semantic.DeepEqual(want[i], have[i].Spec) && have[i].Spec.Pool.Generation == have[0].Spec.Pool.Generation && ownedBy(&have[i], owner)
		}
	}
	if same {
		return plan
	}
	for i := range want {
		want[i].Pool.Generation = generation + 1
		if i < len(have) {
			s := have[i].DeepCopy()
			if s.Spec = want[i]; !ownedBy(s, owner) {
				s.OwnerReferences = []metav1.OwnerReference{owner}
			}
			plan.update = append(plan.update, s)
			continue
		}
		plan.create = append(plan.create, &resourcev1.ResourceSlice{
			ObjectMeta: metav1.ObjectMeta{GenerateName: node.Name + "-" + driver + "-", OwnerReferences: []metav1.OwnerReference{owner}}, Spec: want[i]})
	}
	for i := len(want); i < len(have); i++ {
		plan.remove = append(plan.remove, have[i].Name)
	}
	return plan
}

func firstDevice(s *resourcev1.ResourceSlice) string {
	if len(s.Spec.Devices) == 0 {
		return ""
	}
	return s.Spec.Devices[0].Name
}

func ownedBy(s *resourcev1.ResourceSlice, owner metav1.OwnerReference) bool {
	return slices.ContainsFunc(s.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == owner.UID && r.Kind == owner.Kind })
}

// sliceSpecs are the slices of a node's pool, without their generation: the devices by name.
func sliceSpecs(node, driver string, devices []ResourceDevice) (out []resourcev1.ResourceSliceSpec) {
	devices = slices.SortedFunc(slices.Values(devices), func(a, b ResourceDevice) int { return cmp.Compare(a.Name, b.Name) })
	for part := range slices.Chunk(devices, perSlice) {
		spec := resourcev1.ResourceSliceSpec{Driver: driver, NodeName: &node, Pool: resourcev1.ResourcePool{Name: node}}
		for i := range part {
			spec.Devices = append(spec.Devices, sliceDevice(driver, &part[i]))
		}
		out = append(out, spec)
	}
	for i := range out {
		out[i].Pool.ResourceSliceCount = int64(len(out))
	}
	return out
}

func sliceDevice(driver string, d *ResourceDevice) resourcev1.Device {
	out := resourcev1.Device{Name: d.Name}
	room := resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		a := d.Attributes[name]
		value := resourcev1.DeviceAttribute{IntValue: a.Int, BoolValue: a.Bool}
		switch {
		case a.Int != nil || a.Bool != nil:
		case a.Version != "":
			value.VersionValue = &a.Version
		case a.String != "":
			text := a.String[:min(len(a.String), resourcev1.DeviceAttributeMaxValueLength)]
			value.StringValue = &text
		default:
			continue // nothing is known
		}
		if room--; room < 0 {
			break
		}
		if out.Attributes == nil {
			out.Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{}
		}
		out.Attributes[resourcev1.QualifiedName(name)] = value
	}
	for _, name := range slices.Sorted(maps.Keys(d.Capacity)) {
		if room--; room < 0 {
			break
		}
		if out.Capacity == nil {
			out.Capacity = map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{}
		}
		out.Capacity[resourcev1.QualifiedName(name)] = resourcev1.DeviceCapacity{Value: d.Capacity[name]}
	}
	if d.Unhealthy != "" {
		out.Taints = []resourcev1.DeviceTaint{{Key: driver + "/" + UnhealthyTaint, Effect: resourcev1.DeviceTaintEffectNoSchedule}}
	}
	return out
}
