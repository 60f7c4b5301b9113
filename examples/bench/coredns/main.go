// Command coredns is the peer of the DNS rows: CoreDNS with the plugins that the comparison needs and
// no others. It has a module of its own so that its requirements change nothing that is measured.
//
//	coredns -conf Corefile
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	// CoreDNS plugins register themselves; that is its way, kept to this peer.
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/file"
)

func main() {
	dnsserver.Directives = []string{"bind", "file"}
	coremain.Run()
}
