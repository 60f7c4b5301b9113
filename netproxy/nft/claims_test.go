//go:build linux

package nft

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pintle/pintle/netproxy/services"
)

// Whatever happens, each claimed key is in the kernel once, with its owner's value, the owner is one
// that still claims it, and a claim passes on when its owner leaves.
func TestClaimsPassOnAndNeverClash(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	c := newClaims()
	want := map[services.Key][]claim{}
	kernel := map[string]string{}
	for round := range 3000 {
		var batch []changed
		for _, s := range rnd.Perm(5)[:1+rnd.IntN(3)] {
			key := services.Key{Name: fmt.Sprint("s", s)}
			ch := changed{key: key, was: want[key]}
			for _, k := range rnd.Perm(6)[:rnd.IntN(4)] {
				name := fmt.Sprintf("front-%06d", k)
				ch.is = append(ch.is, claim{name, []element{{set: setServices, key: name, val: fmt.Sprint(key.Name, round)}}})
			}
			if want[key] = ch.is; len(ch.is) == 0 {
				delete(want, key)
			}
			batch = append(batch, ch)
		}
		del, add := c.change(batch, func(k services.Key) []claim { return want[k] }, func(services.Key, *claim) {})
		for _, e := range del {
			if kernel[e.key] != e.val {
				t.Fatalf("round %d: %s=%s is deleted, but %s is there", round, e.key, e.val, kernel[e.key])
			}
			delete(kernel, e.key)
		}
		for _, e := range add {
			if have, ok := kernel[e.key]; ok {
				t.Fatalf("round %d: %s is added as %s, but %s is there", round, e.key, e.val, have)
			}
			kernel[e.key] = e.val
		}
		claimed := map[string]map[string]bool{}
		for _, list := range want {
			for _, cl := range list {
				if claimed[cl.key] == nil {
					claimed[cl.key] = map[string]bool{}
				}
				claimed[cl.key][cl.elements[0].val] = true
			}
		}
		if got, exp := slices.Sorted(maps.Keys(kernel)), slices.Sorted(maps.Keys(claimed)); !slices.Equal(got, exp) {
			t.Fatalf("round %d: programmed %v, claimed %v", round, got, exp)
		}
		for k, v := range kernel {
			if !claimed[k][v] {
				t.Fatalf("round %d: %s has %s, which nobody claims now", round, k, v)
			}
		}
	}
}
