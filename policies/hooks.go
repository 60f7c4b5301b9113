package policies

import (
	"fmt"
	"slices"

	"github.com/pintle/pintle/policies/guest"
)

// Hooks of a scheduling policy, as abi.Policy names them.
const (
	HookPlace      = "Place"
	HookQueueSort  = "QueueSort"
	HookPermit     = "Permit"
	HookPostFilter = "PostFilter"
)

// hooksOf are the hooks that a policy takes part in: those of wanted, all that it has if that is nil.
func hooksOf(p guest.Placer, wanted []string) ([]string, error) {
	var has []string
	if h, ok := p.(guest.Hooker); ok {
		has = h.Hooks() // the type has methods for all of them; the module says which it takes part in
	} else {
		has = []string{HookPlace}
		if _, ok := p.(guest.QueueKeyer); ok {
			has = append(has, HookQueueSort)
		}
		if _, ok := p.(guest.Permitter); ok {
			has = append(has, HookPermit)
		}
		if _, ok := p.(guest.PostFilterer); ok {
			has = append(has, HookPostFilter)
		}
	}
	if wanted == nil {
		return has, nil
	}
	for _, hook := range wanted {
		if !slices.Contains(has, hook) {
			return nil, fmt.Errorf("the module takes no part in %s: it has %q", hook, has)
		}
	}
	return wanted, nil
}
