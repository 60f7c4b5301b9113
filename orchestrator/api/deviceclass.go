package api

import (
	"encoding/json"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api/devicecel"
)

func deviceClassKind() *Kind {
	return &Kind{
		GroupVersionKind: resourcev1.SchemeGroupVersion.WithKind("DeviceClass"),
		Resource:         "deviceclasses", Singular: "deviceclass",
		MustNameVersion: true,
		New:             func() Object { return &resourcev1.DeviceClass{} },
		NewList:         func() runtime.Object { return &resourcev1.DeviceClassList{} },
		PrepareCreate:   of(func(c *resourcev1.DeviceClass) { c.Generation = 1 }),
		PrepareUpdate:   pair(func(c, old *resourcev1.DeviceClass) { bump(c, old, c.Spec, old.Spec) }),
		Validate: check(func(c *resourcev1.DeviceClass) field.ErrorList {
			path := field.NewPath("spec")
			errs := validateDeviceSelectors(c.Spec.Selectors, path.Child("selectors"))
			if n := len(c.Spec.Config); n > resourcev1.DeviceConfigMaxSize {
				errs = append(errs, field.TooMany(path.Child("config"), n, resourcev1.DeviceConfigMaxSize))
			}
			for i := range c.Spec.Config {
				errs = append(errs, validateDeviceConfiguration(&c.Spec.Config[i].DeviceConfiguration, path.Child("config").Index(i))...)
			}
			if c.Spec.ExtendedResourceName != nil {
				errs = append(errs, unsupported(path.Child("extendedResourceName"), "nvidia.com/gpu and its like are given without claims, from the same devices"))
			}
			return errs
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), ageColumn()},
		Row:     row(func(c *resourcev1.DeviceClass) []any { return []any{c.Name, c.CreationTimestamp} }),
	}
}

func validateDeviceSelectors(selectors []resourcev1.DeviceSelector, path *field.Path) (errs field.ErrorList) {
	if n := len(selectors); n > resourcev1.DeviceSelectorsMaxSize {
		errs = append(errs, field.TooMany(path, n, resourcev1.DeviceSelectorsMaxSize))
	}
	for i := range selectors {
		at := path.Index(i).Child("cel")
		switch c := selectors[i].CEL; {
		case c == nil:
			errs = append(errs, field.Required(at, ""))
		case c.Expression == "":
			errs = append(errs, field.Required(at.Child("expression"), ""))
		case len(c.Expression) > resourcev1.CELSelectorExpressionMaxLength:
			errs = append(errs, field.TooLong(at.Child("expression"), "", resourcev1.CELSelectorExpressionMaxLength))
		default:
			if _, err := devicecel.Compile(c.Expression); err != nil {
				errs = append(errs, field.Invalid(at.Child("expression"), c.Expression, err.Error()))
			}
		}
	}
	return errs
}

func validateDeviceConfiguration(c *resourcev1.DeviceConfiguration, at *field.Path) (errs field.ErrorList) {
	at = at.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs = append(errs, validateDriver(c.Opaque.Driver, at.Child("driver"))...)
	raw := c.Opaque.Parameters.Raw
	var parameters map[string]any
	switch at := at.Child("parameters"); {
	case len(raw) == 0:
		errs = append(errs, field.Required(at, ""))
	case len(raw) > resourcev1.OpaqueParametersMaxLength:
		errs = append(errs, field.TooLong(at, "", resourcev1.OpaqueParametersMaxLength))
	case json.Unmarshal(raw, &parameters) != nil || parameters == nil:
		errs = append(errs, field.Invalid(at, "<value omitted>", "must be a valid JSON object"))
	}
	return errs
}

// validateDriver checks the name of a driver, or a domain before an attribute's name.
func validateDriver(name string, at *field.Path) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case len(name) > resourcev1.DriverNameMaxLength:
		return field.ErrorList{field.TooLong(at, "", resourcev1.DriverNameMaxLength)}
	}
	return invalid(validation.IsDNS1123Subdomain(strings.ToLower(name)), at, name)
}

func validatePoolName(name string, at *field.Path) (errs field.ErrorList) {
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case len(name) > resourcev1.PoolNameMaxLength:
		return field.ErrorList{field.TooLong(at, "", resourcev1.PoolNameMaxLength)}
	}
	for _, part := range strings.Split(name, "/") {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(part), at, name)...)
	}
	return errs
}

var cIdentifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// validateDeviceName checks the name of an attribute or a capacity: C identifiers, after a domain and a slash if it must
// be full.
func validateDeviceName(name string, full bool, at *field.Path) (errs field.ErrorList) {
	domain, id, ok := strings.Cut(name, "/")
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "name required")}
	case !ok && full:
		return field.ErrorList{field.Invalid(at, name, "must include a domain")}
	case ok:
		errs = append(errs, validateDriver(domain, at)...)
	default:
		id = name
	}
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(at, "", resourcev1.DeviceMaxIDLength))
	}
	if !cIdentifier.MatchString(id) {
		errs = append(errs, field.Invalid(at, name, "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"))
	}
	return errs
}

func deviceTaintEffects() []resourcev1.DeviceTaintEffect {
	return []resourcev1.DeviceTaintEffect{resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule}
}

// validateOneTerm checks a node selector that must have exactly one term.
func validateOneTerm(s *corev1.NodeSelector, at *field.Path) field.ErrorList {
	if len(s.NodeSelectorTerms) != 1 {
		return field.ErrorList{field.Invalid(at.Child("nodeSelectorTerms"), len(s.NodeSelectorTerms), "must have exactly one node selector term")}
	}
	return validateNodeTerm(&s.NodeSelectorTerms[0], at.Child("nodeSelectorTerms").Index(0))
}
