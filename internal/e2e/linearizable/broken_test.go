//go:build raftstore_faults

package linearizable

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// A store with one rule broken does not pass: a child process runs the test above on it. (A write that
// is acknowledged before it is synced needs a loss of power to be noticed: package powerloss.)
func TestABrokenRuleIsNoticed(t *testing.T) {
	if os.Getenv("RAFTSTORE_BROKEN") != "" {
		t.Skip("this is the child")
	}
	for rule, noticed := range map[string]string{
		"read index": `when it began somebody knew of|is not linearizable`,
		"compare":    `is not linearizable`,
		"once":       `is written twice|is not linearizable`,
	} {
		t.Run(rule, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestHistoriesOfThreeMembersAreLinearizable$", "-test.timeout=10m")
			cmd.Env = append(os.Environ(), "RAFTSTORE_BROKEN="+rule, "PINTLE_LONG=300") // it ends at the first violation
			out, err := cmd.CombinedOutput()
			found := regexp.MustCompile(noticed).FindString(string(out))
			if err == nil || found == "" {
				t.Fatalf("not noticed: %v\n%.5000s", err, out)
			}
			t.Logf("noticed: %s", regexp.MustCompile(`.{0,300}(`+noticed+`).{0,200}`).FindString(string(out)))
		})
	}
}
