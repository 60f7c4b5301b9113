package appliance

import (
	"net/netip"
	"testing"
)

// The ports are opened by Run, after the proxy has been told where they are.
func TestAPortThatIsNotOpenYetIsPublished(t *testing.T) {
	if got := published(newPort("127.0.0.1:443")); len(got) != 1 || got[0] != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("a port with an address: %v", got)
	}
	everywhere := published(newPort("0.0.0.0:443"))
	if got := published(newPort(":443")); len(got) != len(everywhere) || len(got) > 0 && got[0] != everywhere[0] {
		t.Errorf("the default port: %v, want %v", got, everywhere)
	}
}
