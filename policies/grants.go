package policies

import (
	"fmt"
	"strings"
	"sync"
)

// grants is what a policy object grants to its module: "clock", and "read:group/resource" (core is the empty group).
type grants struct {
	clock bool
	read  map[string]bool // by "group/resource"
}

func parseGrants(capabilities []string) (grants, error) {
	g := grants{read: map[string]bool{}}
	for _, c := range capabilities {
		what, ok := strings.CutPrefix(c, "read:")
		switch {
		case c == "clock":
			g.clock = true
		case ok && strings.Count(what, "/") == 1 && !strings.HasSuffix(what, "/"):
			g.read[what] = true
		default:
			return g, fmt.Errorf("capability %q isn't known: there are clock and read:GROUP/RESOURCE (read:/pods)", c)
		}
	}
	return g, nil
}

// Guests may make up this many strings, by policy: what they intern beyond what nodes hold.
const (
	newStrings     = 10_000
	newStringBytes = 1 << 20
)

// budget bounds them. All instances of a policy share one: an instance that failed isn't given another.
type budget struct {
	mu      sync.Mutex
	strings int
	bytes   int
}

func newBudget() *budget { return &budget{strings: newStrings, bytes: newStringBytes} }

func (b *budget) take(size int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.strings == 0 || size > b.bytes {
		return fmt.Errorf("intern: a policy may intern %d strings of %d bytes in all that no node has", newStrings, newStringBytes)
	}
	b.strings--
	b.bytes -= size
	return nil
}
