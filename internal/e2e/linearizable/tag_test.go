//go:build !raftstore_faults

package linearizable

import (
	"os"
	"testing"
)

// The store must be built with faults to inject; in CI a run without them is no run.
func TestTheTagIsSet(t *testing.T) {
	const how = "run this package with -tags raftstore_faults"
	if os.Getenv("CI") != "" {
		t.Fatal(how)
	}
	t.Skip(how)
}
