// Command required-labels is a policy: objects carry the labels that the settings require, and pods' images come from the
// registries that they allow. See ../README.md.
package main

import (
	"bytes"
	"errors"
	"strings"

	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/admission"
)

func init() {
	pintle.Configure(configure)
	admission.Handle(admit)
}

func main() {}

var labels, registries []string

func configure(s *pintle.Settings) (pintle.Needs, error) {
	labels, registries = nil, nil
	for key, value := range s.JSON.Members() {
		var ok bool
		switch key {
		case "labels":
			if labels, ok = list(value); !ok {
				return pintle.Needs{}, errors.New("settings.labels: want a list of label keys")
			}
		case "registries":
			if registries, ok = list(value); !ok {
				return pintle.Needs{}, errors.New("settings.registries: want a list of registries")
			}
		default:
			return pintle.Needs{}, errors.New(`settings: unknown field "` + key + `"`)
		}
	}
	switch {
	case len(registries) > 0:
		return pintle.Needs{Wants: pintle.JSON}, nil
	case len(labels) > 0:
		return pintle.Needs{Wants: pintle.Nothing}, nil
	}
	return pintle.Needs{}, errors.New("settings: name required labels, allowed registries, or both")
}

// list reads a list of strings that aren't empty, and keeps them.
func list(v pintle.Value) ([]string, bool) {
	var all []string
	for e := range v.Elements() {
		s := e.String()
		if s == "" {
			return nil, false
		}
		all = append(all, strings.Clone(s))
	}
	return all, v.Kind() == '['
}

func admit(r *admission.Request) admission.Response {
	if r.Operation != admission.Create && r.Operation != admission.Update {
		return admission.Allow()
	}
	if r.Subresource != "" && r.Subresource != "ephemeralcontainers" {
		return admission.Allow()
	}
	message := missingLabels(r)
	if message == "" && len(registries) > 0 {
		message = foreignImage(r)
	}
	if message != "" {
		return admission.Refuse(message)
	}
	return admission.Allow()
}

// missingLabels names the labels that are missing. One that an update finds missing may stay missing, so that objects from
// before the policy can be let go.
func missingLabels(r *admission.Request) string {
	var missing []string
	for _, label := range labels {
		if _, ok := r.Meta.Labels.Get(label); ok {
			continue
		}
		if _, had := r.OldMeta.Labels.Get(label); r.OldMeta.Exists && !had {
			continue
		}
		missing = append(missing, label)
	}
	if missing == nil {
		return ""
	}
	return "missing required labels: " + strings.Join(missing, ", ")
}

// foreignImage finds the first image that is not from an allowed registry.
func foreignImage(r *admission.Request) string {
	spec := pintle.PodTemplate(r.Kind, pintle.ParseJSON(r.Object)).Get("spec")
	old := pintle.PodTemplate(r.Kind, pintle.ParseJSON(r.OldObject)).Get("spec")
	if old.Exists() && bytes.Equal(old.Raw(), spec.Raw()) {
		return "" // what was there before may stay
	}
	for _, field := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for c := range spec.Get(field).Elements() {
			if message := check("container", c, c.Get("image")); message != "" {
				return message
			}
		}
	}
	for v := range spec.Get("volumes").Elements() {
		if image := v.Get("image"); image.Exists() {
			if message := check("volume", v, image.Get("reference")); message != "" {
				return message
			}
		}
	}
	return ""
}

func check(what string, named, image pintle.Value) string {
	name := full(image.String())
	for _, entry := range registries {
		if within(name, entry) {
			return ""
		}
	}
	return what + ` "` + named.Get("name").String() + `": image "` + image.String() + `" is not from an allowed registry`
}

// full adds what the short names of Docker's registry leave out.
func full(image string) string {
	host, _, slash := strings.Cut(image, "/")
	switch {
	case !slash:
		return "docker.io/library/" + image
	case strings.ContainsAny(host, ".:") || host == "localhost":
		return image
	}
	return "docker.io/" + image
}

// within: the entry is the whole name, or ends where a part of the name does.
func within(image, entry string) bool {
	rest, ok := strings.CutPrefix(image, entry)
	switch {
	case !ok:
		return false
	case rest == "" || strings.HasSuffix(entry, "/"):
		return true
	case rest[0] == ':':
		return strings.Contains(entry, "/") // a tag follows a repository; after a host's name it would be a port
	}
	return rest[0] == '/' || rest[0] == '@'
}
