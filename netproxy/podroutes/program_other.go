//go:build !linux

package podroutes

import (
	"errors"
	"net/netip"
)

var errLinux = errors.New("podroutes: routes to other nodes' pods are kept on Linux alone")

func machineNetworks() ([]netip.Prefix, error) { return nil, errLinux }
func program(Config, []peer) error             { return errLinux }
func teardown(Config) error                    { return nil }
