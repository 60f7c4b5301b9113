package appliance

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pintle/pintle/orchestrator"
)

func TestTheThingsOfANodeThatJoinedHaveANameOfTheirOwn(t *testing.T) {
	long := strings.Repeat("c", 48)
	seen := map[string]string{}
	for _, c := range [][2]string{{"shop", "a"}, {"shop", "b"}, {"shop", "a.example.com"}, {"shop", "b.example.com"}, {long, "a"}, {long, "b"}, {"shop", strings.Repeat("n", 200)}} {
		name := hostName(c[0], c[1])
		if len(name) > 48 || len(validation.IsDNS1123Label(name)) > 0 {
			t.Errorf("%v: %q is no DNS label of 48 characters", c, name)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%v and %s are both called %q", c, other, name)
		}
		seen[name] = strings.Join(c[:], "/")
	}
	if got := hostName("shop", "a"); got != "shop-node-a" {
		t.Errorf("a short one is called %q", got)
	}
}

// Containers that run are found by the name: it stays with the data folder.
func TestTheNameOnTheMachineStaysWithTheFolder(t *testing.T) {
	dir := t.TempDir()
	choose := func(join *orchestrator.Join) string {
		cfg, err := chooseNetworks(Config{Name: "shop", Node: "a", DataDir: dir, Join: join})
		if err != nil {
			t.Fatal(err)
		}
		return cfg.host
	}
	if got := choose(&orchestrator.Join{}); got != "shop-node-a" {
		t.Errorf("a node that joins is called %q", got)
	}
	if got := choose(nil); got != "shop-node-a" {
		t.Errorf("started again without Join it is called %q", got)
	}
	dir = t.TempDir()
	if got := choose(nil); got != "shop" {
		t.Errorf("the first node is called %q", got)
	}
	if got := choose(&orchestrator.Join{}); got != "shop" {
		t.Errorf("started again with Join it is called %q", got)
	}
}
