package examples

import (
	"strings"
	"testing"

	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/sdk/sdktest"
)

func TestModulesAreSmallAndTakePartInWhatTheyShould(t *testing.T) {
	hooks := map[string]string{
		"required-labels": "pintle_admit", "pod-security-restricted": "pintle_admit", "gpu-quota": "pintle_admit",
		"gpu-binpack": "pintle_place pintle_region", "cost-carbon": "pintle_place pintle_region", "gang": "pintle_permit",
	}
	for policy, languages := range sdktest.Policies() {
		for _, language := range languages {
			t.Run(policy+"/"+string(language), func(t *testing.T) {
				wasm := sdktest.Need(t, policy, language)
				most := 64 << 10
				if language == sdktest.Go {
					most = 3 << 20
				}
				if len(wasm) > most {
					t.Errorf("the module has %d bytes, more than %d", len(wasm), most)
				}
				info, err := guest.Inspect(wasm)
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]bool{"pintle_abi": true, "pintle_alloc": true, "pintle_configure": true}
				for _, hook := range strings.Fields(hooks[policy]) {
					want[hook] = true
				}
				for _, e := range info.Exports {
					if strings.HasPrefix(e.Name, "pintle_") && !want[e.Name] {
						t.Errorf("it exports %s", e.Name)
					}
					delete(want, e.Name)
				}
				if len(want) > 0 {
					t.Errorf("it doesn't export %v", want)
				}
				for _, i := range info.Imports {
					if i.Module != "pintle" && (language != sdktest.Go || i.Module != "wasi_snapshot_preview1") {
						t.Errorf("it imports %s.%s", i.Module, i.Name)
					}
				}
			})
		}
	}
}
