package nodeproxy

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const defaultContainer = "kubectl.kubernetes.io/default-container"

// podTarget translates a subresource of a pod with its options to the agent's path. It is pure.
// A target without a node means that there is nothing to read yet (logs alone).
func podTarget(pod *corev1.Pod, subresource string, query url.Values) (target, error) {
	t := target{node: pod.Spec.NodeName}
	if subresource == "portforward" {
		if t.node == "" {
			return t, unscheduled(pod)
		}
		t.path = "/portForward/" + pod.Namespace + "/" + pod.Name
		t.query = url.Values{}
		for _, value := range query["ports"] {
			for _, port := range strings.Split(value, ",") {
				if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
					return t, apierrors.NewBadRequest(fmt.Sprintf("invalid port %q", port))
				}
				t.query.Add("port", port)
			}
		}
		return t, nil
	}

	var prefix string
	switch subresource {
	case "log":
		prefix = "/containerLogs/"
	case "exec":
		prefix = "/exec/"
	case "attach":
		prefix = "/attach/"
	default:
		return t, apierrors.NewBadRequest(fmt.Sprintf("pods/%s is not served by nodes", subresource))
	}
	container, err := containerOf(pod, query.Get("container"))
	if err != nil {
		return t, err
	}
	t.path = prefix + pod.Namespace + "/" + pod.Name + "/" + container
	if subresource == "log" {
		t.query, err = logQuery(pod, query)
		return t, err
	}
	if t.node == "" {
		return t, unscheduled(pod)
	}
	t.query, err = streamQuery(subresource, query)
	return t, err
}

func unscheduled(pod *corev1.Pod) error {
	return apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
}

// containerOf finds the container that is meant: the one named, the only one, or the one that the
// pod's annotation prefers.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	var containers, inits, ephemerals []string
	for _, c := range pod.Spec.Containers {
		containers = append(containers, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		ephemerals = append(ephemerals, c.Name)
	}
	has := func(name string) bool {
		for _, list := range [][]string{containers, inits, ephemerals} {
			for _, c := range list {
				if c == name {
					return true
				}
			}
		}
		return false
	}
	if name == "" {
		if preferred := pod.Annotations[defaultContainer]; has(preferred) {
			return preferred, nil
		}
		if len(containers) == 1 {
			return containers[0], nil
		}
		msg := fmt.Sprintf("a container name must be specified for pod %s", pod.Name)
		if len(containers) > 0 {
			msg += fmt.Sprintf(", choose one of: [%s]", strings.Join(containers, " "))
		}
		if len(inits) > 0 {
			msg += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(inits, " "))
		}
		if len(ephemerals) > 0 {
			msg += fmt.Sprintf(" or one of the ephemeral containers: [%s]", strings.Join(ephemerals, " "))
		}
		return "", apierrors.NewBadRequest(msg)
	}
	if !has(name) {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	return name, nil
}

func logQuery(pod *corev1.Pod, query url.Values) (url.Values, error) {
	out := url.Values{}
	var problems field.ErrorList
	for _, key := range []string{"follow", "previous", "timestamps"} {
		if !query.Has(key) {
			continue
		}
		on, err := flag(query.Get(key))
		if err != nil {
			problems = append(problems, field.Invalid(field.NewPath(key), query.Get(key), "must be true or false"))
		} else if on {
			out.Set(key, "true")
		}
	}
	for key, least := range map[string]int64{"sinceSeconds": 1, "tailLines": 0, "limitBytes": 1} {
		if value := query.Get(key); value != "" {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < least {
				problems = append(problems, field.Invalid(field.NewPath(key), value, fmt.Sprintf("must be greater than or equal to %d", least)))
				continue
			}
			out.Set(key, value)
		}
	}
	if value := query.Get("sinceTime"); value != "" {
		if _, err := time.Parse(time.RFC3339, value); err != nil {
			problems = append(problems, field.Invalid(field.NewPath("sinceTime"), value, "must be an RFC 3339 time"))
		}
		if out.Has("sinceSeconds") {
			problems = append(problems, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
		out.Set("sinceTime", value)
	}
	switch stream := query.Get("stream"); stream {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		if out.Has("tailLines") {
			problems = append(problems, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
		out.Set("stream", stream)
	default:
		problems = append(problems, field.NotSupported(field.NewPath("stream"), stream, []string{corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr}))
	}
	if len(problems) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), pod.Name, problems)
	}
	return out, nil
}

// streamQuery renames exec's and attach's options to the agent's (the kubelet's) names.
func streamQuery(subresource string, query url.Values) (url.Values, error) {
	out := url.Values{}
	streams := 0
	for _, o := range []struct{ from, to string }{{"stdin", "input"}, {"stdout", "output"}, {"stderr", "error"}, {"tty", "tty"}} {
		value, given := query.Get(o.from), query.Has(o.from)
		if !given && subresource == "attach" && (o.from == "stdout" || o.from == "stderr") {
			value = "true" // the API reference's default
		}
		if !given && value == "" {
			continue
		}
		on, err := flag(value)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("%s: %q is neither true nor false", o.from, value))
		}
		if on {
			out.Set(o.to, "1")
			if o.from != "tty" {
				streams++
			}
		}
	}
	if out.Has("tty") {
		out.Del("error") // a terminal has one output
	}
	if streams == 0 {
		return nil, apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	if subresource == "exec" {
		if len(query["command"]) == 0 {
			return nil, apierrors.NewBadRequest("you must specify at least one command for the container")
		}
		out["command"] = query["command"]
	}
	return out, nil
}

func flag(value string) (bool, error) {
	if value == "" { // "?follow" alone
		return true, nil
	}
	return strconv.ParseBool(value)
}
