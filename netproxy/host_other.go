//go:build !linux

package netproxy

import "net/netip"

func (p *Proxy) raiseHost() error { return nil }
func (p *Proxy) dropHost() error  { return nil }

func holdAddresses(string, []netip.Addr) error { return nil }
