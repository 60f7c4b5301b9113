// Command dns serves the DNS of a cluster of 1,000 Services over UDP on a loopback port and prints
// its address.
package main

import (
	"fmt"
	"log"
	"net"
	"net/netip"

	"github.com/pintle/pintle/examples/bench/subject/parent"
	"github.com/pintle/pintle/netproxy/dns"
	"github.com/pintle/pintle/netproxy/services"
)

func main() {
	zone := dns.NewZone("cluster.local")
	var changes []services.Change
	for i := range 1000 {
		changes = append(changes, services.Change{New: &services.Service{
			Key:        services.Key{Namespace: "default", Name: fmt.Sprint("s", i)},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(1 + i>>8), byte(i)})},
		}})
	}
	zone.Apply(changes)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	s, err := dns.New(dns.Config{Zone: zone, UDP: []*net.UDPConn{conn}, Upstreams: []netip.AddrPort{}})
	if err != nil {
		log.Fatal(err)
	}
	if err := parent.Serve(s.Run, s.Ready(), func() string { return conn.LocalAddr().String() }); err != nil {
		log.Fatal(err)
	}
}
