// Command largeguest is a policy in standard Go that allows every object and links about three megabytes: what a policy
// weighs that uses reflection, fmt and encoding/json. It is built with GOOS=wasip1 and -buildmode=c-shared.
package main

import (
	"encoding/json"
	"fmt"

	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/admission"
)

func init() {
	pintle.Configure(func(s *pintle.Settings) (pintle.Needs, error) { return pintle.Needs{}, nil })
	admission.Handle(func(r *admission.Request) admission.Response {
		var object map[string]any
		if err := json.Unmarshal(r.Object, &object); err != nil {
			return admission.Refuse(err.Error())
		}
		pintle.Log(pintle.Debug, fmt.Sprint(object["kind"]))
		return admission.Allow()
	})
}

func main() {}
