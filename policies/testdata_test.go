package policies

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

var update = flag.Bool("update", false, "write the modules of the examples anew")

// TestTheExamplesModulesAreWhatTheSourceSays: they are built from here.
func TestTheExamplesModulesAreWhatTheSourceSays(t *testing.T) {
	for file, wasm := range map[string][]byte{
		"testdata/freeze.wasm":  admits(abi.AdmissionResponse{Message: "nothing is created before Monday"}),
		"testdata/oddrows.wasm": schedules(abi.Configured{}, refuseOdd, "the row is odd"),
	} {
		if *update {
			if err := os.WriteFile(file, wasm, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, wasm) {
			t.Errorf("%s isn't what the tests build (%v): go test ./policies -run TheExamplesModules -update", file, err)
		}
	}
}
