package api

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api/devicecel"
)

func resourceSliceKind() *Kind {
	return &Kind{
		GroupVersionKind: resourcev1.SchemeGroupVersion.WithKind("ResourceSlice"),
		Resource:         "resourceslices", Singular: "resourceslice",
		MustNameVersion: true,
		New:             func() Object { return &resourcev1.ResourceSlice{} },
		NewList:         func() runtime.Object { return &resourcev1.ResourceSliceList{} },
		PrepareCreate:   of(func(s *resourcev1.ResourceSlice) { s.Generation = 1 }),
		PrepareUpdate:   pair(func(s, old *resourcev1.ResourceSlice) { bump(s, old, s.Spec, old.Spec) }),
		Validate:        check(validateSlice),
		ValidateUpdate: checkPair(func(s, old *resourcev1.ResourceSlice) field.ErrorList {
			path := field.NewPath("spec")
			errs := immutable(s.Spec.Pool.Name, old.Spec.Pool.Name, path.Child("pool", "name"))
			errs = append(errs, immutable(s.Spec.Driver, old.Spec.Driver, path.Child("driver"))...)
			return append(errs, immutable(s.Spec.NodeName, old.Spec.NodeName, path.Child("nodeName"))...)
		}),
		Fields: func(o Object) fields.Set {
			s := o.(*resourcev1.ResourceSlice)
			return fields.Set{resourcev1.ResourceSliceSelectorNodeName: deref(s.Spec.NodeName), resourcev1.ResourceSliceSelectorDriver: s.Spec.Driver,
				resourcev1.ResourceSliceSelectorPoolName: s.Spec.Pool.Name}
		},
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Node", "Node name, if the devices are of one", 0),
			column("Driver", "The driver that publishes the devices", 0), column("Pool", "The pool that the devices belong to", 0), ageColumn()},
		Row: row(func(s *resourcev1.ResourceSlice) []any {
			node := "<unset>"
			if s.Spec.NodeName != nil && *s.Spec.NodeName != "" {
				node = *s.Spec.NodeName
			}
			return []any{s.Name, node, s.Spec.Driver, s.Spec.Pool.Name, s.CreationTimestamp}
		}),
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func validateSlice(s *resourcev1.ResourceSlice) (errs field.ErrorList) {
	path, spec := field.NewPath("spec"), &s.Spec
	errs = append(errs, validateDriver(spec.Driver, path.Child("driver"))...)
	errs = append(errs, validatePoolName(spec.Pool.Name, path.Child("pool", "name"))...)
	if spec.Pool.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(path.Child("pool", "resourceSliceCount"), spec.Pool.ResourceSliceCount, "must be greater than zero"))
	}
	errs = append(errs, nonNegative(spec.Pool.Generation, path.Child("pool", "generation"))...)

	set := 0
	if spec.NodeName != nil {
		set++
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(*spec.NodeName), path.Child("nodeName"), *spec.NodeName)...)
	}
	if spec.NodeSelector != nil {
		set++
		errs = append(errs, validateOneTerm(spec.NodeSelector, path.Child("nodeSelector"))...)
	}
	for child, yes := range inOrder(map[string]*bool{"allNodes": spec.AllNodes, "perDeviceNodeSelection": spec.PerDeviceNodeSelection}) {
		if yes != nil {
			if set++; !*yes {
				errs = append(errs, field.Invalid(path.Child(child), false, "must be either unset or set to true"))
			}
		}
	}
	if set != 1 {
		errs = append(errs, field.Invalid(path, set, "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"))
	}
	if spec.PartitionTypeAttribute != nil {
		errs = append(errs, unsupported(path.Child("partitionTypeAttribute"), "devices are compared by their counters"))
	}
	if len(spec.SkipNodeOperations) > 0 {
		errs = append(errs, unsupported(path.Child("skipNodeOperations"), "nodes prepare devices without drivers' calls"))
	}

	most := resourcev1.ResourceSliceMaxDevices
	for i := range spec.Devices {
		if len(spec.Devices[i].Taints)+len(spec.Devices[i].ConsumesCounters) > 0 {
			most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
		}
	}
	if n := len(spec.Devices); n > most {
		errs = append(errs, field.TooMany(path.Child("devices"), n, most))
	}
	if len(spec.Devices) > 0 && len(spec.SharedCounters) > 0 {
		errs = append(errs, field.Invalid(path, s.Name, "only one of `sharedCounters` or `devices` is allowed"))
	}
	names := sets.New[string]()
	perDevice := spec.PerDeviceNodeSelection != nil && *spec.PerDeviceNodeSelection
	for i := range spec.Devices {
		errs = append(errs, validateDevice(&spec.Devices[i], names, perDevice, path.Child("devices").Index(i))...)
	}
	if n := len(spec.SharedCounters); n > resourcev1.ResourceSliceMaxCounterSets {
		errs = append(errs, field.TooMany(path.Child("sharedCounters"), n, resourcev1.ResourceSliceMaxCounterSets))
	}
	counters := sets.New[string]()
	for i := range spec.SharedCounters {
		c, at := &spec.SharedCounters[i], path.Child("sharedCounters").Index(i)
		errs = append(errs, validateName(c.Name, at.Child("name"), counters)...)
		errs = append(errs, validateCounters(c.Counters, at.Child("counters"))...)
	}
	return errs
}

func validateCounters(counters map[string]resourcev1.Counter, at *field.Path) (errs field.ErrorList) {
	switch n := len(counters); {
	case n == 0:
		errs = append(errs, field.Required(at, ""))
	case n > resourcev1.ResourceSliceMaxCountersPerCounterSet:
		errs = append(errs, field.TooMany(at, n, resourcev1.ResourceSliceMaxCountersPerCounterSet))
	}
	for name, c := range inOrder(counters) {
		errs = append(errs, invalid(validation.IsDNS1123Label(name), at.Key(name), name)...)
		errs = append(errs, nonNegativeQuantity(c.Value, at.Key(name).Child("value"))...)
	}
	return errs
}

func nonNegativeQuantity(q resource.Quantity, at *field.Path) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(at, q.String(), "must be greater than or equal to 0")}
	}
	return nil
}

func validateDevice(d *resourcev1.Device, names sets.Set[string], perDevice bool, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateName(d.Name, at.Child("name"), names)...)
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(at, n, "the total number of attributes and capacities must not exceed 32"))
	}
	for name, a := range inOrder(d.Attributes) {
		p := at.Child("attributes").Key(string(name))
		errs = append(errs, validateDeviceName(string(name), false, p)...)
		errs = append(errs, validateDeviceAttribute(&a, p)...)
	}
	for name, c := range inOrder(d.Capacity) {
		p := at.Child("capacity").Key(string(name))
		errs = append(errs, validateDeviceName(string(name), false, p)...)
		errs = append(errs, nonNegativeQuantity(c.Value, p.Child("value"))...)
		if c.RequestPolicy != nil {
			errs = append(errs, unsupported(p.Child("requestPolicy"), "a device is given to one claim, whole"))
		}
	}
	if n := len(d.ConsumesCounters); n > resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice {
		errs = append(errs, field.TooMany(at.Child("consumesCounters"), n, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice))
	}
	sets := sets.New[string]()
	for i := range d.ConsumesCounters {
		c, p := &d.ConsumesCounters[i], at.Child("consumesCounters").Index(i)
		errs = append(errs, validateName(c.CounterSet, p.Child("counterSet"), sets)...)
		errs = append(errs, validateCounters(c.Counters, p.Child("counters"))...)
		if len(c.CompatibilityGroups) > 0 {
			errs = append(errs, unsupported(p.Child("compatibilityGroups"), "say by counters which devices exclude each other"))
		}
	}
	set := 0
	if d.NodeName != nil {
		set++
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(*d.NodeName), at.Child("nodeName"), *d.NodeName)...)
	}
	if d.NodeSelector != nil {
		set++
		errs = append(errs, validateOneTerm(d.NodeSelector, at.Child("nodeSelector"))...)
	}
	if d.AllNodes != nil {
		if set++; !*d.AllNodes {
			errs = append(errs, field.Invalid(at.Child("allNodes"), false, "must be either unset or set to true"))
		}
	}
	switch {
	case !perDevice && set > 0:
		errs = append(errs, field.Invalid(at, d.Name, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true"))
	case perDevice && set != 1:
		errs = append(errs, field.Invalid(at, d.Name, "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true"))
	}
	if n := len(d.Taints); n > resourcev1.DeviceTaintsMaxLength {
		errs = append(errs, field.TooMany(at.Child("taints"), n, resourcev1.DeviceTaintsMaxLength))
	}
	for i := range d.Taints {
		t, p := &d.Taints[i], at.Child("taints").Index(i)
		errs = append(errs, invalid(validation.IsQualifiedName(t.Key), p.Child("key"), t.Key)...)
		errs = append(errs, invalid(validation.IsValidLabelValue(t.Value), p.Child("value"), t.Value)...)
		errs = append(errs, oneOf(t.Effect, append(deviceTaintEffects(), resourcev1.DeviceTaintEffectNone), p.Child("effect"))...)
	}
	if len(d.BindingConditions) > 0 {
		errs = append(errs, unsupported(at.Child("bindingConditions"), "pods are bound as soon as their devices are allocated"))
	}
	if len(d.BindingFailureConditions) > 0 {
		errs = append(errs, unsupported(at.Child("bindingFailureConditions"), "pods are bound as soon as their devices are allocated"))
	}
	if d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations {
		errs = append(errs, unsupported(at.Child("allowMultipleAllocations"), "a device is given to one claim, which several pods may share"))
	}
	if len(d.NodeAllocatableResources) > 0 {
		errs = append(errs, unsupported(at.Child("nodeAllocatableResources"), "CPU and memory are asked for by containers"))
	}
	return errs
}

func validateDeviceAttribute(a *resourcev1.DeviceAttribute, at *field.Path) (errs field.ErrorList) {
	set := 0
	for child, text := range inOrder(map[string]*string{"string": a.StringValue, "version": a.VersionValue}) {
		if text == nil {
			continue
		}
		set++
		if len(*text) > resourcev1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(at.Child(child), "", resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	if a.VersionValue != nil {
		if _, err := devicecel.ParseSemver(*a.VersionValue, false); err != nil {
			errs = append(errs, field.Invalid(at.Child("version"), *a.VersionValue, "must be a string compatible with semver.org spec 2.0.0"))
		}
	}
	if a.IntValue != nil {
		set++
	}
	if a.BoolValue != nil {
		set++
	}
	for child, n := range inOrder(map[string]int{"ints": len(a.IntValues), "bools": len(a.BoolValues), "strings": len(a.StringValues), "versions": len(a.VersionValues)}) {
		if n > 0 {
			set++
			errs = append(errs, unsupported(at.Child(child), "an attribute has one value"))
		}
	}
	switch {
	case set == 0:
		errs = append(errs, field.Required(at, "exactly one value must be specified"))
	case set > 1:
		errs = append(errs, field.Invalid(at, set, "exactly one value must be specified"))
	}
	return errs
}

// StampDeviceTaints says of a ResourceSlice's taints since when they are there, where they don't themselves: now, or as old, if
// there is one, has it. Other objects it leaves alone.
func StampDeviceTaints(obj, old Object, now metav1.Time) {
	s, ok := obj.(*resourcev1.ResourceSlice)
	if !ok {
		return
	}
	before := map[string]*metav1.Time{}
	id := func(d *resourcev1.Device, t *resourcev1.DeviceTaint) string {
		return d.Name + "\x00" + t.Key + "\x00" + t.Value + "\x00" + string(t.Effect)
	}
	if had, ok := old.(*resourcev1.ResourceSlice); ok {
		for i := range had.Spec.Devices {
			d := &had.Spec.Devices[i]
			for j := range d.Taints {
				before[id(d, &d.Taints[j])] = d.Taints[j].TimeAdded
			}
		}
	}
	for i := range s.Spec.Devices {
		d := &s.Spec.Devices[i]
		for j := range d.Taints {
			t := &d.Taints[j]
			if t.TimeAdded != nil {
				continue
			}
			if t.TimeAdded = before[id(d, t)]; t.TimeAdded == nil {
				t.TimeAdded = &now
			}
		}
	}
}
