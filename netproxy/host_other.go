//go:build !linux

package netproxy

func (p *Proxy) raiseHost() error { return nil }
func (p *Proxy) dropHost() error  { return nil }
