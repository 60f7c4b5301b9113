package api

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PolicyGroupVersion is the group of policies that run as WebAssembly modules. Its own objects are written
// without asking any policy, so that none can lock out its own removal.
func PolicyGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "policy.pintle.dev", Version: "v1alpha1"}
}

// PolicyFailure says what becomes of a request when its policy can't be asked.
type PolicyFailure string

// What becomes of it. Fail is the default.
const (
	PolicyFail   PolicyFailure = "Fail"
	PolicyIgnore PolicyFailure = "Ignore"
)

// PolicyReady is True while a policy decides with the module and the settings that it names.
const PolicyReady = "Ready"

// PolicyLimits is what one call of a policy may use. What is not set takes the default.
type PolicyLimits struct {
	Fuel      *int64             `json:"fuel,omitempty"`
	Memory    *resource.Quantity `json:"memory,omitempty"`
	Output    *resource.Quantity `json:"output,omitempty"`
	HostCalls *int32             `json:"hostCalls,omitempty"`
	Timeout   *metav1.Duration   `json:"timeout,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (PolicyLimits) SwaggerDoc() map[string]string {
	return map[string]string{
		"":          "PolicyLimits is what one call of a policy may use. A call that needs more ends with an error, and failurePolicy decides.",
		"fuel":      "Instructions of one call, 1000 to 10^12. Default 50 million.",
		"memory":    "Linear memory of one instance, 64Ki to 4Gi. Default 64Mi.",
		"output":    "Size of one answer, 1Ki to 64Mi. Default 4Mi.",
		"hostCalls": "Calls to the host, 1 to 1000000. Default 10000.",
		"timeout":   "How long a call may take at most, behind fuel: 1ms to 10s. Default 1s.",
	}
}

// DeepCopy returns a copy.
func (l *PolicyLimits) DeepCopy() *PolicyLimits {
	if l == nil {
		return nil
	}
	out := PolicyLimits{}
	if l.Fuel != nil {
		out.Fuel = ptr(*l.Fuel)
	}
	if l.Memory != nil {
		out.Memory = ptr(l.Memory.DeepCopy())
	}
	if l.Output != nil {
		out.Output = ptr(l.Output.DeepCopy())
	}
	if l.HostCalls != nil {
		out.HostCalls = ptr(*l.HostCalls)
	}
	if l.Timeout != nil {
		out.Timeout = ptr(*l.Timeout)
	}
	return &out
}

// PolicyStatus is how a policy fares on the member that leads: since it began to lead, or its program to run.
type PolicyStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Digest             string             `json:"digest,omitempty"`
	Calls              int64              `json:"calls,omitempty"`
	Rejections         int64              `json:"rejections,omitempty"`
	Errors             int64              `json:"errors,omitempty"`
	P50                *metav1.Duration   `json:"p50,omitempty"`
	P99                *metav1.Duration   `json:"p99,omitempty"`
	FuelUsed           int64              `json:"fuelUsed,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (PolicyStatus) SwaggerDoc() map[string]string {
	return map[string]string{
		"":                   "PolicyStatus is how a policy fares on the member that leads. Other members count for themselves, in their metrics.",
		"observedGeneration": "The generation of the policy that this is about.",
		"digest":             "Of the module that decides now, which is the previous one while a new one is being compiled.",
		"calls":              "How often it was asked.",
		"rejections":         "How often it refused, a pod's node included.",
		"errors":             "How often it gave no answer: it trapped, used up a limit or answered nonsense.",
		"p50":                "How long half of the recent calls took at most.",
		"p99":                "How long 99 of 100 recent calls took at most.",
		"fuelUsed":           "Instructions of all calls.",
		"conditions":         "Ready says whether it decides, or why not.",
	}
}

func (s *PolicyStatus) deepCopy() PolicyStatus {
	out := *s
	if s.P50 != nil {
		out.P50 = ptr(*s.P50)
	}
	if s.P99 != nil {
		out.P99 = ptr(*s.P99)
	}
	out.Conditions = copyConditions(s.Conditions)
	return out
}

func copyConditions(in []metav1.Condition) []metav1.Condition {
	if in == nil {
		return nil
	}
	out := make([]metav1.Condition, len(in))
	for i := range in {
		in[i].DeepCopyInto(&out[i])
	}
	return out
}

func validatePolicyStatus(s *PolicyStatus, at *field.Path) (errs field.ErrorList) {
	for name, n := range inOrder(map[string]int64{"calls": s.Calls, "rejections": s.Rejections, "errors": s.Errors, "fuelUsed": s.FuelUsed}) {
		errs = append(errs, nonNegative(n, at.Child(name))...)
	}
	return errs
}

func validateModuleName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "name a PolicyModule")}
	}
	return invalid(validation.NameIsDNSSubdomain(name, false), at, name)
}

func validateLimits(l *PolicyLimits, at *field.Path) (errs field.ErrorList) {
	if l == nil {
		return nil
	}
	within := func(name string, value, least, most int64, shown any, text string) {
		if value < least || value > most {
			errs = append(errs, field.Invalid(at.Child(name), shown, "must be between "+text))
		}
	}
	if l.Fuel != nil {
		within("fuel", *l.Fuel, 1000, 1e12, *l.Fuel, "1000 and 1000000000000")
	}
	if l.Memory != nil {
		within("memory", l.Memory.Value(), 64<<10, 4<<30, l.Memory.String(), "64Ki and 4Gi")
	}
	if l.Output != nil {
		within("output", l.Output.Value(), 1<<10, 64<<20, l.Output.String(), "1Ki and 64Mi")
	}
	if l.HostCalls != nil {
		within("hostCalls", int64(*l.HostCalls), 1, 1e6, *l.HostCalls, "1 and 1000000")
	}
	if l.Timeout != nil {
		within("timeout", int64(l.Timeout.Duration), int64(time.Millisecond), int64(10*time.Second), l.Timeout.Duration.String(), "1ms and 10s")
	}
	return errs
}

// validateCapabilities: "clock", "read:GROUP/RESOURCE" with an empty group for the core's, or what an adapter asks for
// under its own name.
func validateCapabilities(list []string, at *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, c := range list {
		if seen[c] {
			errs = append(errs, field.Duplicate(at.Index(i), c))
		}
		seen[c] = true
		if c == "clock" {
			continue
		}
		named, read := strings.CutPrefix(c, "read:")
		group, resource, ok := strings.Cut(named, "/")
		adapter, word, theirs := strings.Cut(c, ":")
		if theirs && !read && len(utilvalidation.IsDNS1123Label(adapter)) == 0 && word != "" && !strings.ContainsAny(word, " \t\r\n") {
			continue
		}
		if !read || !ok || group != "" && len(utilvalidation.IsDNS1123Subdomain(group)) > 0 || len(utilvalidation.IsDNS1123Label(resource)) > 0 {
			errs = append(errs, field.Invalid(at.Index(i), c, `must be "clock" or "read:GROUP/RESOURCE" ("read:/pods" for the core group), or an adapter's, "ADAPTER:NAME"`))
		}
	}
	return errs
}

func validateSettings(s *runtime.RawExtension, at *field.Path) field.ErrorList {
	const most = 256 << 10
	if s != nil && len(s.Raw) > most {
		return field.ErrorList{field.TooLong(at, "", most)}
	}
	return nil
}

func copySettings(s *runtime.RawExtension) *runtime.RawExtension {
	if s == nil {
		return nil
	}
	return s.DeepCopy()
}

// The columns that both kinds of policies have behind their own, and their cells.
func policyColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		column("Ready", "Whether it decides, or why not", 0),
		typed(column("Calls", "How often it was asked", 0), "integer"), typed(column("Rejected", "How often it refused", 0), "integer"),
		typed(column("Errors", "How often it gave no answer", 0), "integer"),
		column("P99", "How long 99 of 100 recent calls took at most", 0), ageColumn(),
		column("P50", "How long half of the recent calls took at most", 1), column("Fuel/Call", "Instructions of a call, on average", 1),
		column("Digest", "Of the module that decides", 1), column("Message", "Why it is not ready", 1),
	}
}

func policyCells(created metav1.Time, s *PolicyStatus) []any {
	ready, message := "Unknown", ""
	if c := meta.FindStatusCondition(s.Conditions, PolicyReady); c != nil {
		if ready = string(c.Status); c.Status != metav1.ConditionTrue {
			ready, message = c.Reason, c.Message
		}
	}
	fuel := "<none>"
	if s.Calls > 0 {
		fuel = fmt.Sprint(s.FuelUsed / s.Calls)
	}
	return []any{ready, s.Calls, s.Rejections, s.Errors, tookCell(s.P99), created, tookCell(s.P50), fuel, shortDigest(s.Digest), message}
}

func tookCell(d *metav1.Duration) string {
	switch {
	case d == nil || d.Duration == 0:
		return "<none>"
	case d.Duration < time.Millisecond:
		return d.Duration.Round(100 * time.Nanosecond).String()
	}
	return d.Duration.Round(10 * time.Microsecond).String()
}

// shortDigest is as much of a digest as people compare.
func shortDigest(digest string) string {
	const shown = len("sha256:") + 12
	if digest == "" {
		return "<none>"
	}
	return digest[:min(len(digest), shown)]
}
