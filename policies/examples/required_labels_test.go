package examples

import (
	"fmt"
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

func labelled(labels string) string {
	return `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n", "labels": {` + labels + `}}}`
}

func TestRequiredLabels(t *testing.T) {
	cases := []struct {
		name      string
		operation abi.Operation
		new, old  string
		sub       string
		want      string
	}{
		{"both there", abi.Create, `"app.kubernetes.io/name": "web", "team": "a"`, "", "", ""},
		{"an empty value is there", abi.Create, `"app.kubernetes.io/name": "", "team": ""`, "", "", ""},
		{"one missing", abi.Create, `"team": "a"`, "", "", "missing required labels: app.kubernetes.io/name"},
		{"both missing", abi.Create, `"teams": "a", "tea": "m"`, "", "", "missing required labels: team, app.kubernetes.io/name"},
		{"an update that takes one away", abi.Update, `"team": "a"`, `"app.kubernetes.io/name": "web", "team": "a"`, "", "missing required labels: app.kubernetes.io/name"},
		{"an update that leaves one missing", abi.Update, `"team": "b"`, `"team": "a"`, "", ""},
		{"a deletion", abi.Delete, "", `"x": "y"`, "", ""},
		{"another subresource", abi.Update, ``, `"app.kubernetes.io/name": "web", "team": "a"`, "status", ""},
	}
	each(t, "required-labels", abi.Admission, func(t *testing.T, g *example) {
		g.mustSet(t, `{"labels": ["team", "app.kubernetes.io/name"]}`)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				object, old := labelled(c.new), ""
				if c.operation != abi.Create {
					old = labelled(c.old)
				}
				if c.operation == abi.Delete {
					object = ""
				}
				r := write(t, c.operation, object, old)
				r.Subresource = c.sub
				r.Object, r.OldObject = nil, nil // labels alone cost no encoding
				if got := g.admit(t, r); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		}
	})
}

func pod(spec string) string {
	return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"n"},"spec":` + spec + `}`
}

func TestAllowedRegistries(t *testing.T) {
	refused := func(what, name, image string) string {
		return fmt.Sprintf("%s %q: image %q is not from an allowed registry", what, name, image)
	}
	one := func(image string) string { return pod(`{"containers": [{"name": "a", "image": "` + image + `"}]}`) }
	template := `"template": {"metadata": {}, "spec": {"initContainers": [{"name": "i", "image": "evil/x"}], "containers": []}}`
	cases := []struct{ name, object, old, want string }{
		{"a host", one("registry.example/a/b:1"), "", ""},
		{"a host with a port is another", one("registry.example:5000/a"), "", refused("container", "a", "registry.example:5000/a")},
		{"a longer host is another", one("registry.example.evil.io/a"), "", refused("container", "a", "registry.example.evil.io/a")},
		{"a folder", one("ghcr.io/acme/app@sha256:0123"), "", ""},
		{"beside a folder", one("ghcr.io/acme-evil/app"), "", refused("container", "a", "ghcr.io/acme-evil/app")},
		{"a short name", one("busybox"), "", ""},
		{"a short name with a tag", one("busybox:1.36"), "", ""},
		{"a short name by digest", one("busybox@sha256:0123"), "", ""},
		{"another short name", one("busybox-evil"), "", refused("container", "a", "busybox-evil")},
		{"a short name in a folder", one("acme/busybox"), "", refused("container", "a", "acme/busybox")},
		{"a host with its port", one("localhost:5000/x"), "", ""},
		{"no image", one(""), "", refused("container", "a", "")},
		{"escapes in a name", one(`registry.\u0065xample\/a`), "", ""},
		{"escapes in a key", pod(`{"c\u006fntainers": [{"name": "a\"\ud83d\ude00\n", "im\u0061ge": "x"}]}`), "", `container "a"😀` + "\n" + `": image "x" is not from an allowed registry`},
		{"braces in strings", pod(`{"x": "}]{\"", "containers": [{"env": [{"value": "[{\\"}], "name": "a", "image": "x"}]}`), "", refused("container", "a", "x")},
		{"an init container", pod(`{"initContainers": [{"name": "i", "image": "x"}], "containers": [{"name": "a", "image": "busybox"}]}`), "", refused("container", "i", "x")},
		{"an ephemeral container", pod(`{"containers": [{"name": "a", "image": "busybox"}], "ephemeralContainers": [{"name": "e", "image": "x"}]}`), "", refused("container", "e", "x")},
		{"an image volume", pod(`{"containers": [], "volumes": [{"name": "d", "emptyDir": {}}, {"name": "v", "image": {"reference": "x"}}]}`), "", refused("volume", "v", "x")},
		{"a Deployment", `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {` + template + `}}`, "", refused("container", "i", "evil/x")},
		{"a CronJob", `{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {}, "spec": {"jobTemplate": {"spec": {` + template + `}}}}`, "", refused("container", "i", "evil/x")},
		{"a PodTemplate", `{"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, ` + template + `}`, "", refused("container", "i", "evil/x")},
		{"no pods in it", `{"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {"type": "ClusterIP"}}`, "", ""},
		{"nulls", `{"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"initContainers": null, "containers": [{"name": null, "image": "busybox"}], "volumes": [ ]}}`, "", ""},
		{"what was there before", one("x"), one("x"), ""},
		{"what is changed", one("x"), one("y"), refused("container", "a", "x")},
	}
	each(t, "required-labels", abi.Admission, func(t *testing.T, g *example) {
		g.mustSet(t, `{"registries": ["registry.example", "ghcr.io/acme/", "docker.io/library/busybox", "localhost:5000"]}`)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				operation := abi.Create
				if c.old != "" {
					operation = abi.Update
				}
				if got := g.admit(t, write(t, operation, c.object, c.old)); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		}
	})
}

func TestRequiredLabelsSettings(t *testing.T) {
	each(t, "required-labels", abi.Admission, func(t *testing.T, g *example) {
		for settings, why := range map[string]string{
			``:                              "settings: name required labels, allowed registries, or both",
			`{}`:                            "settings: name required labels, allowed registries, or both",
			`{"labels": []}`:                "settings: name required labels, allowed registries, or both",
			`{"labels": "team"}`:            "settings.labels: want a list of label keys",
			`{"labels": ["team", 1]}`:       "settings.labels: want a list of label keys",
			`{"labels": [""]}`:              "settings.labels: want a list of label keys",
			`{"registries": {"a": "b"}}`:    "settings.registries: want a list of registries",
			`{"labels": ["a"], "label": 1}`: `settings: unknown field "label"`,
		} {
			g.refusesSettings(t, settings, why)
		}
	})
}
