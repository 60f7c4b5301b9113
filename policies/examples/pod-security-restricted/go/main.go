// Command pod-security-restricted is a policy: pods, and what makes pods, keep to the restricted profile of the Pod Security
// Standards. See ../README.md.
package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/admission"
)

func init() {
	pintle.Configure(configure)
	admission.Handle(admit)
}

func main() {}

var exempt []string // namespaces

func configure(s *pintle.Settings) (pintle.Needs, error) {
	for key, value := range s.JSON.Members() {
		if key != "exemptNamespaces" {
			return pintle.Needs{}, errors.New(`settings: unknown field "` + key + `"`)
		}
		ok := value.Kind() == '['
		for e := range value.Elements() {
			ok = ok && e.Kind() == '"'
			exempt = append(exempt, strings.Clone(e.String()))
		}
		if !ok {
			return pintle.Needs{}, errors.New("settings.exemptNamespaces: want a list of namespaces")
		}
	}
	return pintle.Needs{Wants: pintle.JSON}, nil
}

func admit(r *admission.Request) admission.Response {
	if r.Operation != admission.Create && r.Operation != admission.Update {
		return admission.Allow()
	}
	if r.Subresource != "" && r.Subresource != "ephemeralcontainers" || slices.Contains(exempt, r.Namespace) {
		return admission.Allow()
	}
	pod := pintle.PodTemplate(r.Kind, pintle.ParseJSON(r.Object))
	spec := pod.Get("spec")
	if !spec.Exists() {
		return admission.Allow()
	}
	old := pintle.PodTemplate(r.Kind, pintle.ParseJSON(r.OldObject))
	if was := old.Get("spec"); was.Exists() && bytes.Equal(was.Raw(), spec.Raw()) &&
		bytes.Equal(annotations(old).Raw(), annotations(pod).Raw()) {
		return admission.Allow() // what was there before may stay
	}
	var f found
	f.pod(pod)
	if len(f.text) == 0 {
		return admission.Allow()
	}
	return admission.Refuse("not restricted: " + strings.Join(f.text, "; "))
}

func annotations(pod pintle.Value) pintle.Value { return pod.Get("metadata").Get("annotations") }
