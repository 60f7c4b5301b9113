// Command labeller is a policy for tests: it sets the labels of its settings, one with its own version, and refuses
// objects whose name its settings have.
package main

import (
	"strconv"
	"strings"

	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/admission"
)

// version is set by the linker, so that two versions are two modules.
var version = "1"

var (
	label, value, refused, warning string
)

func init() {
	pintle.Configure(func(s *pintle.Settings) (pintle.Needs, error) {
		text := func(key string) string { return strings.Clone(s.JSON.Get(key).String()) }
		label, value, refused, warning = text("label"), text("value"), text("refused"), text("warning")
		return pintle.Needs{Wants: pintle.Nothing}, nil
	})
	admission.Handle(func(r *admission.Request) admission.Response {
		if refused != "" && r.Name == refused {
			return admission.Refuse("the name " + refused + " is taken by version " + version)
		}
		out := admission.Allow()
		if warning != "" {
			out.Warnings = []string{warning}
		}
		if label != "" && r.Operation != admission.Delete {
			out.PatchType = admission.MergePatch
			out.Patch = []byte(`{"metadata":{"labels":{` + strconv.Quote(label) + `:` + strconv.Quote(value) + `,"version":` + strconv.Quote(version) + `}}}`)
		}
		return out
	})
}

func main() {}
