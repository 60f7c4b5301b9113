// Command gpu-quota is a policy: the pods of a namespace together ask for no more GPUs than it may have. See ../README.md.
package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/admission"
)

func init() {
	pintle.Configure(configure)
	admission.Handle(admit)
}

func main() {}

var (
	resource         = "nvidia.com/gpu"
	usual      int64 = -1 // of namespaces that aren't named; -1: no limit
	namespaces       = map[string]int64{}
)

func configure(s *pintle.Settings) (pintle.Needs, error) {
	for key, value := range s.JSON.Members() {
		switch key {
		case "resource":
			if resource = strings.Clone(value.String()); resource == "" {
				return pintle.Needs{}, errors.New("settings.resource: want the name of a resource")
			}
		case "default":
			n, ok := limit(value)
			if !ok {
				return pintle.Needs{}, errors.New("settings.default: want a whole number from 0 on")
			}
			usual = n
		case "namespaces":
			if value.Kind() != '{' {
				return pintle.Needs{}, errors.New("settings.namespaces: want a limit by name")
			}
			for namespace, value := range value.Members() {
				n, ok := limit(value)
				if !ok {
					return pintle.Needs{}, errors.New("settings.namespaces." + namespace + ": want a whole number from 0 on")
				}
				namespaces[strings.Clone(namespace)] = n
			}
		default:
			return pintle.Needs{}, errors.New(`settings: unknown field "` + key + `"`)
		}
	}
	if usual < 0 && len(namespaces) == 0 {
		return pintle.Needs{}, errors.New("settings: name a limit for namespaces, by default, or both")
	}
	if !slices.Contains(s.Capabilities, "read:/pods") {
		return pintle.Needs{}, errors.New(`grant the capability "read:/pods": the policy counts what pods ask for`)
	}
	return pintle.Needs{}, nil
}

func limit(v pintle.Value) (int64, bool) {
	n, ok := v.Int()
	return n, ok && n >= 0 && n <= 1_000_000_000
}

func admit(r *admission.Request) admission.Response {
	if r.Operation != admission.Create || r.Kind != "Pod" || r.Subresource != "" {
		return admission.Allow()
	}
	most, ok := namespaces[r.Namespace]
	if !ok {
		most = usual
	}
	if most < 0 {
		return admission.Allow()
	}
	want, ok := pod(pintle.ParseJSON(r.Object))
	switch {
	case !ok:
		return admission.Refuse("this policy can't read what the pod asks for of " + resource)
	case want == 0:
		return admission.Allow()
	}
	used := int64(0)
	for p := range pintle.Lookup("/v1/pods/" + r.Namespace + "/").Get("items").Elements() {
		if phase := p.Get("status").Get("phase").String(); phase != "Succeeded" && phase != "Failed" {
			n, _ := pod(p)
			used += n
		}
	}
	if used+want <= 1000*most {
		return admission.Allow()
	}
	return admission.Refuse(`namespace "` + r.Namespace + `" may have ` + strconv.FormatInt(most, 10) + " of " + resource +
		": its pods ask for " + units(used) + ", and this one for " + units(want))
}

// units writes thousandths.
func units(milli int64) string {
	if milli%1000 == 0 {
		return strconv.FormatInt(milli/1000, 10)
	}
	return strconv.FormatInt(milli, 10) + "m"
}

// pod is what a pod asks for, in thousandths, as the scheduler counts it: its containers and sidecars together, or the
// init container that asks for more while it runs. False: a quantity can't be read.
func pod(v pintle.Value) (int64, bool) {
	spec := v.Get("spec")
	var sidecars, peak, sum int64
	for c := range spec.Get("initContainers").Elements() {
		n, ok := container(c)
		if !ok {
			return 0, false
		}
		if c.Get("restartPolicy").String() == "Always" {
			sidecars += n
			n = 0
		}
		peak = max(peak, sidecars+n)
	}
	for c := range spec.Get("containers").Elements() {
		n, ok := container(c)
		if !ok {
			return 0, false
		}
		sum += n
	}
	return max(peak, sidecars+sum), true
}

func container(v pintle.Value) (int64, bool) {
	resources := v.Get("resources")
	value := resources.Get("requests").Get(resource)
	if !value.Exists() {
		value = resources.Get("limits").Get(resource)
	}
	if !value.Exists() {
		return 0, true
	}
	if text, ok := value.Text(); ok {
		return quantity(text)
	}
	n, ok := value.Int()
	return n * 1000, ok && n >= 0 && n < 1_000_000_000
}

// quantity reads a Kubernetes quantity that is a whole number, of thousandths or thousands too.
func quantity(text string) (int64, bool) {
	unit := int64(1000)
	if digits, ok := strings.CutSuffix(text, "m"); ok {
		text, unit = digits, 1
	} else if digits, ok := strings.CutSuffix(text, "k"); ok {
		text, unit = digits, 1_000_000
	}
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n) * unit, err == nil && len(text) <= 9
}
