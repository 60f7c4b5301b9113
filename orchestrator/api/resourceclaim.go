package api

import (
	"fmt"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func resourceClaimKind() *Kind {
	return &Kind{
		GroupVersionKind: resourcev1.SchemeGroupVersion.WithKind("ResourceClaim"),
		Resource:         "resourceclaims", Singular: "resourceclaim", Namespaced: true,
		MustNameVersion: true,
		New:             func() Object { return &resourcev1.ResourceClaim{} },
		NewList:         func() runtime.Object { return &resourcev1.ResourceClaimList{} },
		PrepareCreate:   of(func(c *resourcev1.ResourceClaim) { c.Status = resourcev1.ResourceClaimStatus{} }),
		PrepareUpdate:   pair(func(c, old *resourcev1.ResourceClaim) { c.Status = old.Status }),
		Default:         of(func(c *resourcev1.ResourceClaim) { defaultDeviceClaim(&c.Spec.Devices) }),
		Validate: check(func(c *resourcev1.ResourceClaim) field.ErrorList {
			return validateDeviceClaim(&c.Spec.Devices, field.NewPath("spec", "devices"))
		}),
		ValidateUpdate: checkPair(func(c, old *resourcev1.ResourceClaim) field.ErrorList {
			return immutable(c.Spec, old.Spec, field.NewPath("spec"))
		}),
		Status: &Status{
			PrepareUpdate: pair(func(c, old *resourcev1.ResourceClaim) {
				c.Spec = old.Spec
				dropStaleDevices(&c.Status)
			}),
			ValidateUpdate: checkPair(validateClaimStatus),
		},
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("State", "A summary of the current state (allocated, pending, reserved, etc.)", 0), ageColumn()},
		Row: row(func(c *resourcev1.ResourceClaim) []any {
			return []any{c.Name, claimState(c), c.CreationTimestamp}
		}),
	}
}

// claimState reads as kubectl's.
func claimState(c *resourcev1.ResourceClaim) string {
	var state []string
	if c.DeletionTimestamp != nil {
		state = append(state, "deleted")
	}
	switch {
	case c.Status.Allocation == nil && c.DeletionTimestamp == nil:
		state = append(state, "pending")
	case c.Status.Allocation != nil:
		state = append(state, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			state = append(state, "reserved")
		}
	}
	return strings.Join(state, ",")
}

func resourceClaimTemplateKind() *Kind {
	return &Kind{
		GroupVersionKind: resourcev1.SchemeGroupVersion.WithKind("ResourceClaimTemplate"),
		Resource:         "resourceclaimtemplates", Singular: "resourceclaimtemplate", Namespaced: true,
		MustNameVersion: true,
		New:             func() Object { return &resourcev1.ResourceClaimTemplate{} },
		NewList:         func() runtime.Object { return &resourcev1.ResourceClaimTemplateList{} },
		Default:         of(func(t *resourcev1.ResourceClaimTemplate) { defaultDeviceClaim(&t.Spec.Spec.Devices) }),
		Validate: check(func(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
			path := field.NewPath("spec")
			return append(validateOnlyLabels(&t.Spec.ObjectMeta, path.Child("metadata")), validateDeviceClaim(&t.Spec.Spec.Devices, path.Child("spec", "devices"))...)
		}),
		ValidateUpdate: checkPair(func(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
			return immutable(t.Spec, old.Spec, field.NewPath("spec"))
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), ageColumn()},
		Row:     row(func(t *resourcev1.ResourceClaimTemplate) []any { return []any{t.Name, t.CreationTimestamp} }),
	}
}

// validateOnlyLabels refuses metadata beyond labels and annotations.
func validateOnlyLabels(m *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	errs := validateLabels(m.Labels, path.Child("labels"))
	for key := range inOrder(m.Annotations) {
		errs = append(errs, invalid(validation.IsQualifiedName(strings.ToLower(key)), path.Child("annotations"), key)...)
	}
	rest := m.DeepCopy()
	rest.Labels, rest.Annotations = nil, nil
	if !equal(*rest, metav1.ObjectMeta{}) {
		errs = append(errs, field.Forbidden(path, "only labels and annotations may be set"))
	}
	return errs
}

func defaultDeviceClaim(c *resourcev1.DeviceClaim) {
	mode := func(m *resourcev1.DeviceAllocationMode, count *int64, tolerations []resourcev1.DeviceToleration) {
		setZero(m, resourcev1.DeviceAllocationModeExactCount)
		if *m == resourcev1.DeviceAllocationModeExactCount {
			setZero(count, 1)
		}
		for i := range tolerations {
			setZero(&tolerations[i].Operator, resourcev1.DeviceTolerationOpEqual)
		}
	}
	for i := range c.Requests {
		r := &c.Requests[i]
		if r.Exactly != nil {
			mode(&r.Exactly.AllocationMode, &r.Exactly.Count, r.Exactly.Tolerations)
		}
		for j := range r.FirstAvailable {
			mode(&r.FirstAvailable[j].AllocationMode, &r.FirstAvailable[j].Count, r.FirstAvailable[j].Tolerations)
		}
	}
}

func validateDeviceClaim(c *resourcev1.DeviceClaim, path *field.Path) (errs field.ErrorList) {
	names := sets.New[string]() // what references may name: main, main/sub
	mains := sets.New[string]()
	if n := len(c.Requests); n > resourcev1.DeviceRequestsMaxSize {
		errs = append(errs, field.TooMany(path.Child("requests"), n, resourcev1.DeviceRequestsMaxSize))
	}
	for i := range c.Requests {
		r, at := &c.Requests[i], path.Child("requests").Index(i)
		errs = append(errs, validateName(r.Name, at.Child("name"), mains)...)
		names.Insert(r.Name)
		switch {
		case r.Exactly == nil && len(r.FirstAvailable) == 0:
			errs = append(errs, field.Required(at, "exactly one of `exactly` or `firstAvailable` is required"))
		case r.Exactly != nil && len(r.FirstAvailable) > 0:
			errs = append(errs, field.Invalid(at, r.Name, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
		}
		if e := r.Exactly; e != nil {
			at := at.Child("exactly")
			if e.AdminAccess != nil && *e.AdminAccess {
				errs = append(errs, unsupported(at.Child("adminAccess"), "devices are given to one claim at a time; watch them by the node's metrics"))
			}
			errs = append(errs, validateDeviceRequest(e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, e.Capacity, len(e.DerivedAttributes), at)...)
		}
		if n := len(r.FirstAvailable); n > resourcev1.FirstAvailableDeviceRequestMaxSize {
			errs = append(errs, field.TooMany(at.Child("firstAvailable"), n, resourcev1.FirstAvailableDeviceRequestMaxSize))
		}
		subs := sets.New[string]()
		for j := range r.FirstAvailable {
			e, at := &r.FirstAvailable[j], at.Child("firstAvailable").Index(j)
			errs = append(errs, validateName(e.Name, at.Child("name"), subs)...)
			names.Insert(r.Name + "/" + e.Name)
			errs = append(errs, validateDeviceRequest(e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, e.Capacity, len(e.DerivedAttributes), at)...)
		}
	}
	if n := len(c.Constraints); n > resourcev1.DeviceConstraintsMaxSize {
		errs = append(errs, field.TooMany(path.Child("constraints"), n, resourcev1.DeviceConstraintsMaxSize))
	}
	for i := range c.Constraints {
		k, at := &c.Constraints[i], path.Child("constraints").Index(i)
		errs = append(errs, validateReferences(k.Requests, names, at.Child("requests"))...)
		switch {
		case k.MatchAttribute == nil && k.DistinctAttribute == nil:
			errs = append(errs, field.Required(at, `exactly one of "matchAttribute" or "distinctAttribute" is required`))
		case k.MatchAttribute != nil && k.DistinctAttribute != nil:
			errs = append(errs, field.Invalid(at, string(*k.MatchAttribute), `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
		}
		for child, name := range inOrder(map[string]*resourcev1.FullyQualifiedName{"matchAttribute": k.MatchAttribute, "distinctAttribute": k.DistinctAttribute}) {
			if name != nil {
				errs = append(errs, validateDeviceName(string(*name), true, at.Child(child))...)
			}
		}
	}
	if n := len(c.Config); n > resourcev1.DeviceConfigMaxSize {
		errs = append(errs, field.TooMany(path.Child("config"), n, resourcev1.DeviceConfigMaxSize))
	}
	for i := range c.Config {
		at := path.Child("config").Index(i)
		errs = append(errs, validateReferences(c.Config[i].Requests, names, at.Child("requests"))...)
		errs = append(errs, validateDeviceConfiguration(&c.Config[i].DeviceConfiguration, at)...)
	}
	return errs
}

func validateDeviceRequest(class string, selectors []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode, count int64,
	tolerations []resourcev1.DeviceToleration, capacity *resourcev1.CapacityRequirements, derived int, at *field.Path) (errs field.ErrorList) {
	if class == "" {
		errs = append(errs, field.Required(at.Child("deviceClassName"), ""))
	} else {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(class), at.Child("deviceClassName"), class)...)
	}
	errs = append(errs, validateDeviceSelectors(selectors, at.Child("selectors"))...)
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		if count != 0 {
			errs = append(errs, field.Invalid(at.Child("count"), count, "must not be specified when allocationMode is 'All'"))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if count <= 0 {
			errs = append(errs, field.Invalid(at.Child("count"), count, "must be greater than zero"))
		}
	default:
		errs = append(errs, oneOf(mode, []resourcev1.DeviceAllocationMode{resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount}, at.Child("allocationMode"))...)
	}
	if n := len(tolerations); n > resourcev1.DeviceTolerationsMaxLength {
		errs = append(errs, field.TooMany(at.Child("tolerations"), n, resourcev1.DeviceTolerationsMaxLength))
	}
	for i := range tolerations {
		errs = append(errs, validateDeviceToleration(&tolerations[i], at.Child("tolerations").Index(i))...)
	}
	if capacity != nil {
		for name, q := range inOrder(capacity.Requests) {
			at := at.Child("capacity", "requests").Key(string(name))
			errs = append(errs, validateDeviceName(string(name), false, at)...)
			if q.Sign() < 0 {
				errs = append(errs, field.Invalid(at, q.String(), "must be greater than or equal to 0"))
			}
		}
	}
	if derived > 0 {
		errs = append(errs, unsupported(at.Child("derivedAttributes"), "match attributes that the driver publishes"))
	}
	return errs
}

func validateDeviceToleration(t *resourcev1.DeviceToleration, at *field.Path) (errs field.ErrorList) {
	if t.Key != "" {
		errs = append(errs, invalid(validation.IsQualifiedName(t.Key), at.Child("key"), t.Key)...)
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`"))
		}
	case resourcev1.DeviceTolerationOpEqual:
		errs = append(errs, invalid(validation.IsValidLabelValue(t.Value), at.Child("value"), t.Value)...)
		if t.Key == "" {
			errs = append(errs, field.Required(at.Child("key"), "must be set unless the operator is `Exists`"))
		}
	default:
		errs = append(errs, oneOf(t.Operator, []resourcev1.DeviceTolerationOperator{resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists}, at.Child("operator"))...)
	}
	if t.Effect != "" {
		errs = append(errs, oneOf(t.Effect, deviceTaintEffects(), at.Child("effect"))...)
	}
	return errs
}

func validateReferences(requests []string, names sets.Set[string], at *field.Path) (errs field.ErrorList) {
	if n := len(requests); n > resourcev1.DeviceRequestsMaxSize {
		errs = append(errs, field.TooMany(at, n, resourcev1.DeviceRequestsMaxSize))
	}
	seen := sets.New[string]()
	for i, r := range requests {
		if !names.Has(r) {
			errs = append(errs, field.Invalid(at.Index(i), r, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
		}
		if seen.Has(r) {
			errs = append(errs, field.Duplicate(at.Index(i), r))
		}
		seen.Insert(r)
	}
	return errs
}

// dropStaleDevices removes what drivers said of devices that the claim no longer has.
func dropStaleDevices(s *resourcev1.ResourceClaimStatus) {
	s.Devices = slices.DeleteFunc(s.Devices, func(d resourcev1.AllocatedDeviceStatus) bool {
		return s.Allocation == nil || !slices.ContainsFunc(s.Allocation.Devices.Results, func(r resourcev1.DeviceRequestAllocationResult) bool {
			return r.Driver == d.Driver && r.Pool == d.Pool && r.Device == d.Device
		})
	})
}

func validateClaimStatus(c, old *resourcev1.ResourceClaim) (errs field.ErrorList) {
	path := field.NewPath("status")
	s := &c.Status
	if n := len(s.ReservedFor); n > resourcev1.ResourceClaimReservedForMaxSize {
		errs = append(errs, field.TooMany(path.Child("reservedFor"), n, resourcev1.ResourceClaimReservedForMaxSize))
	}
	users := sets.New[types.UID]()
	for i, r := range s.ReservedFor {
		at := path.Child("reservedFor").Index(i)
		for child, value := range inOrder(map[string]string{"resource": r.Resource, "name": r.Name, "uid": string(r.UID)}) {
			if value == "" {
				errs = append(errs, field.Required(at.Child(child), ""))
			}
		}
		if users.Has(r.UID) {
			errs = append(errs, field.Duplicate(at.Child("uid"), r.UID))
		}
		users.Insert(r.UID)
		before := slices.ContainsFunc(old.Status.ReservedFor, func(o resourcev1.ResourceClaimConsumerReference) bool { return o.UID == r.UID })
		switch {
		case before:
		case s.Allocation == nil:
			errs = append(errs, field.Forbidden(at, "may not be specified when `allocated` is not set"))
		case c.DeletionTimestamp != nil:
			errs = append(errs, field.Forbidden(at, "new reservations may not be added while the claim is being deleted"))
		}
	}
	if s.Allocation == nil {
		if len(s.ReservedFor) > 0 && old.Status.Allocation != nil {
			errs = append(errs, field.Forbidden(path.Child("reservedFor"), "may not be specified when `allocated` is not set"))
		}
		return errs
	}
	at := path.Child("allocation")
	if old.Status.Allocation != nil {
		errs = append(errs, immutable(s.Allocation, old.Status.Allocation, at)...)
	} else if c.DeletionTimestamp != nil {
		errs = append(errs, field.Forbidden(at, "may not be set while the claim is being deleted"))
	}
	results := at.Child("devices", "results")
	if n := len(s.Allocation.Devices.Results); n > resourcev1.AllocationResultsMaxSize {
		errs = append(errs, field.TooMany(results, n, resourcev1.AllocationResultsMaxSize))
	}
	names := requestNames(&c.Spec.Devices)
	for i := range s.Allocation.Devices.Results {
		r, at := &s.Allocation.Devices.Results[i], results.Index(i)
		if !names.Has(r.Request) {
			errs = append(errs, field.Invalid(at.Child("request"), r.Request, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
		}
		errs = append(errs, validateDriver(r.Driver, at.Child("driver"))...)
		errs = append(errs, validatePoolName(r.Pool, at.Child("pool"))...)
		errs = append(errs, invalid(validation.IsDNS1123Label(r.Device), at.Child("device"), r.Device)...)
	}
	if sel := s.Allocation.NodeSelector; sel != nil {
		errs = append(errs, validateOneTerm(sel, at.Child("nodeSelector"))...)
	}
	for i := range s.Devices {
		d, at := &s.Devices[i], path.Child("devices").Index(i)
		if n := len(d.Conditions); n > resourcev1.AllocatedDeviceStatusMaxConditions {
			errs = append(errs, field.TooMany(at.Child("conditions"), n, resourcev1.AllocatedDeviceStatusMaxConditions))
		}
		if d.Data != nil && len(d.Data.Raw) > resourcev1.AllocatedDeviceStatusDataMaxLength {
			errs = append(errs, field.TooLong(at.Child("data"), "", resourcev1.AllocatedDeviceStatusDataMaxLength))
		}
	}
	return errs
}

// requestNames are those that results may have: where there are alternatives, only one of them.
func requestNames(c *resourcev1.DeviceClaim) sets.Set[string] {
	names := sets.New[string]()
	for _, r := range c.Requests {
		if r.Exactly != nil {
			names.Insert(r.Name)
		}
		for _, sub := range r.FirstAvailable {
			names.Insert(fmt.Sprintf("%s/%s", r.Name, sub.Name))
		}
	}
	return names
}
