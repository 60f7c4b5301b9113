//go:build linux

package nft

import (
	"slices"

	"github.com/pintle/pintle/netproxy/services"
)

// claims says which Service has an address, protocol and port: the first that asked. Others wait,
// and the next one gets it when it becomes free.
type claims struct {
	owner   map[string]services.Key
	waiting map[string][]services.Key
}

func newClaims() claims {
	return claims{owner: map[string]services.Key{}, waiting: map[string][]services.Key{}}
}

// change moves claims from what a batch's Services were to what they are, and returns the elements
// that go and those that come. now returns the claims of any Service as of now, lost hears of a
// claim that must wait. The work is proportional to the changed Services.
func (c *claims) change(batch []changed, now func(services.Key) []claim, lost func(services.Key, *claim)) (del, add []element) {
	var free []string
	for _, ch := range batch {
		keep := make(map[string]bool, len(ch.is))
		for i := range ch.is {
			keep[ch.is[i].key] = true
		}
		for i := range ch.was {
			cl := &ch.was[i]
			if c.owner[cl.key] == ch.key {
				del = append(del, cl.elements...)
				if !keep[cl.key] {
					delete(c.owner, cl.key)
					free = append(free, cl.key)
				}
			} else if list := c.waiting[cl.key]; !keep[cl.key] && list != nil {
				if list = slices.DeleteFunc(list, func(k services.Key) bool { return k == ch.key }); len(list) == 0 {
					delete(c.waiting, cl.key)
				} else {
					c.waiting[cl.key] = list
				}
			}
		}
	}
	for _, key := range free { // whoever waits was there before this batch's newcomers
		list := c.waiting[key]
		if len(list) == 0 {
			continue
		}
		c.owner[key] = list[0]
		if c.waiting[key] = list[1:]; len(list) == 1 {
			delete(c.waiting, key)
		}
		inBatch := slices.ContainsFunc(batch, func(ch changed) bool { return ch.key == list[0] })
		if inBatch {
			continue // added below
		}
		for _, cl := range now(list[0]) {
			if cl.key == key {
				add = append(add, cl.elements...)
			}
		}
	}
	for _, ch := range batch {
		for i := range ch.is {
			cl := &ch.is[i]
			switch owner, taken := c.owner[cl.key]; {
			case !taken:
				c.owner[cl.key] = ch.key
				add = append(add, cl.elements...)
			case owner == ch.key:
				add = append(add, cl.elements...)
			case !slices.Contains(c.waiting[cl.key], ch.key):
				c.waiting[cl.key] = append(c.waiting[cl.key], ch.key)
				lost(ch.key, cl)
			}
		}
	}
	return del, add
}

// changed is one Service's claims before and after.
type changed struct {
	key     services.Key
	was, is []claim
}
