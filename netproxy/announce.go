package netproxy

import (
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"

	"github.com/pintle/pintle/netproxy/services"
)

// announcements are the load balancer addresses that this node answers for on its network: those of the Services whose
// annotation names it. One goroutine uses it.
type announcements struct {
	log  *slog.Logger
	by   map[services.Key][]netip.Addr
	held []netip.Addr // as the host was last told; nil: never
	told bool
	// hold makes the host have these addresses and no others that a proxy of this name gave it.
	hold func(want []netip.Addr) error
}

func (a *announcements) apply(changes []services.Change) {
	if a == nil {
		return
	}
	for _, c := range changes {
		if c.Old != nil {
			delete(a.by, c.Old.Key)
		}
		if c.New != nil && len(c.New.Announced) > 0 {
			a.by[c.New.Key] = c.New.Announced
		}
	}
	var want []netip.Addr
	for _, list := range a.by {
		want = append(want, list...)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	want = slices.Compact(want)
	if a.told && slices.Equal(want, a.held) {
		return
	}
	if err := a.hold(want); err != nil {
		a.log.Error("could not take the load balancers' addresses; trying again with the next change", "err", err)
		a.told = false
		return
	}
	if len(want) > 0 || len(a.held) > 0 {
		a.log.Info("this node answers for load balancers' addresses", "addresses", want)
	}
	a.held, a.told = want, true
}

// addressLabel marks the addresses on the loopback interface that a proxy of this name has put there. The kernel bounds
// it to 15 bytes, the interface's name first.
func addressLabel(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return "lo:lb" + strconv.FormatUint(uint64(h.Sum32()), 36)
}
