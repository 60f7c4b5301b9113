package examples

import (
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

func TestGPUQuota(t *testing.T) {
	asks := func(n string) string {
		return `{"containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": ` + n + `}}}]}`
	}
	there := func(phase, spec string) string {
		return `{"metadata": {"name": "x"}, "spec": ` + spec + `, "status": {"phase": "` + phase + `"}}`
	}
	const used = `namespace "quota" may have 8 of nvidia.com/gpu: its pods ask for 5, and this one for `
	each(t, "gpu-quota", abi.Admission, func(t *testing.T, g *example) {
		g.mustSet(t, `{"default": 1, "namespaces": {"quota": 8, "none": 0}}`, "read:/pods")
		objects.Store("/v1/pods/quota/", `{"items": [`+there("Running", asks(`"3"`))+`, `+there("Pending", asks(`"2"`))+`, `+
			there("Succeeded", asks(`"8"`))+`, `+there("Failed", asks(`"8"`))+`, `+there("Running", `{"containers": [{"name": "a"}]}`)+`]}`)
		for _, c := range []struct{ name, spec, want string }{
			{"as many as are left", asks(`"3"`), ""},
			{"one more", asks(`"4"`), used + "4"},
			{"as a number", asks(`4`), used + "4"},
			{"a part of one more", asks(`"3001m"`), used + "3001m"},
			{"none", asks(`"0"`), ""},
			{"no resources", `{"containers": [{"name": "a"}]}`, ""},
			{"requests count before limits", `{"containers": [{"name": "a", "resources": {"requests": {"nvidia.com/gpu": "3"}, "limits": {"nvidia.com/gpu": "4"}}}]}`, ""},
			{"containers together", `{"containers": [{"resources": {"limits": {"nvidia.com/gpu": "2"}}}, {"resources": {"limits": {"nvidia.com/gpu": "2"}}}]}`, used + "4"},
			{"an init container gives them back", `{"initContainers": [{"resources": {"limits": {"nvidia.com/gpu": "3"}}}], ` + asks(`"3"`)[1:], ""},
			{"an init container asks for more", `{"initContainers": [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}], ` + asks(`"3"`)[1:], used + "4"},
			{"a sidecar keeps them", `{"initContainers": [{"restartPolicy": "Always", "resources": {"limits": {"nvidia.com/gpu": "1"}}}], ` + asks(`"3"`)[1:], used + "4"},
			{"what can't be read", asks(`"4Qx"`), "this policy can't read what the pod asks for of nvidia.com/gpu"},
		} {
			r := write(t, abi.Create, pod(c.spec), "")
			r.Namespace = "quota"
			if got := g.admit(t, r); got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
		in := func(namespace, n string) string {
			r := write(t, abi.Create, pod(asks(n)), "")
			r.Namespace = namespace
			return g.admit(t, r)
		}
		if got, want := in("none", `"1"`), `namespace "none" may have 0 of nvidia.com/gpu: its pods ask for 0, and this one for 1`; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := in("other", `"1"`); got != "" {
			t.Errorf("the default of 1 refuses one: %q", got)
		}
		update := write(t, abi.Update, pod(asks(`"9"`)), pod(asks(`"9"`)))
		update.Namespace = "quota"
		if got := g.admit(t, update); got != "" {
			t.Errorf("an update is refused: %q", got)
		}
		g.mustSet(t, `{"namespaces": {"quota": 8}}`, "read:/pods")
		if got := in("other", `"100"`); got != "" {
			t.Errorf("without a default others have a limit: %q", got)
		}
		if err := g.set(`{"default": 1}`); err == nil {
			t.Error("it counts pods, and isn't granted to see them")
		}
		g.refusesSettings(t, ``, "settings: name a limit for namespaces, by default, or both")
		g.refusesSettings(t, `{"default": -1}`, "settings.default: want a whole number from 0 on")
		g.refusesSettings(t, `{"namespaces": {"a": "1"}}`, "settings.namespaces.a: want a whole number from 0 on")
		g.refusesSettings(t, `{"quota": 1}`, `settings: unknown field "quota"`)
	})
}
