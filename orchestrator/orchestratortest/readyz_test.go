package orchestratortest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

func readyz(t *testing.T, c *orchestratortest.Cluster) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	text, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").Do(ctx).Raw()
	return string(text), err
}

func TestReadyzNamesTheParts(t *testing.T) {
	m := orchestratortest.StartMembers(t, 3)
	leader := m.Leader()
	for i := range 3 {
		name := m.Name(i)
		until(t, name+" is ready, and says what it runs", func() bool {
			text, err := readyz(t, m.Get(name))
			leads := strings.Contains(text, "[+]scheduler ok\n[+]controllers ok\n")
			return err == nil && strings.Contains(text, "[+]registry ok\n[+]store ok\n") && leads == (name == leader)
		})
	}
	// A member that is alone of three is alive and not ready.
	left := ""
	for i := range 3 {
		if name := m.Name(i); left == "" && name != leader {
			left = name
		} else {
			m.Kill(name)
		}
	}
	until(t, left+" misses a leader", func() bool {
		text, err := readyz(t, m.Get(left))
		return err != nil && strings.Contains(text, "[-]store failed: no leader is known")
	})
}
