package netproxy

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/netproxy/services"
)

func TestTheHostIsToldOfAnnouncedAddressesOnceEach(t *testing.T) {
	var told []string
	fail := true
	a := &announcements{log: slog.New(slog.DiscardHandler), by: map[services.Key][]netip.Addr{}, hold: func(want []netip.Addr) error {
		if fail {
			return errors.New("no")
		}
		told = append(told, fmt.Sprint(want))
		return nil
	}}
	svc := func(name string, ips ...string) *services.Service {
		s := &services.Service{Key: services.Key{Namespace: "n", Name: name}}
		for _, ip := range ips {
			s.Announced = append(s.Announced, netip.MustParseAddr(ip))
		}
		return s
	}
	a.apply(nil)
	fail = false
	a.apply(nil) // what an earlier proxy left goes
	one, two := svc("one", "10.0.0.2"), svc("two", "10.0.0.1")
	a.apply([]services.Change{{New: one}, {New: svc("other")}})
	a.apply([]services.Change{{Old: svc("other"), New: svc("other")}})
	a.apply([]services.Change{{New: two}})
	a.apply([]services.Change{{Old: one}})
	if got := strings.Join(told, " "); got != "[] [10.0.0.2] [10.0.0.1 10.0.0.2] [10.0.0.1]" {
		t.Errorf("told %s", got)
	}
	if l := addressLabel("a-very-long-name-of-a-cluster/and-of-a-node"); len(l) > 15 || addressLabel("a") == addressLabel("b") {
		t.Errorf("label %q", l)
	}
}

// TestAnAddressIsHeldAndAnnounced has two ends of a wire: one takes an address, and the other hears of it and is answered.
func TestAnAddressIsHeldAndAnnounced(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true but not root")
		}
		t.Skip("needs root for network namespaces")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- announceOnAWire()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func announceOnAWire() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	for _, args := range []string{"link set lo up", "link add wire0 type veth peer name wire1", "addr add 10.1.0.1/24 dev wire0", "link set wire0 up", "link set wire1 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	// The other end listens for ARP.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(unix.ETH_P_ARP>>8|unix.ETH_P_ARP<<8&0xff00))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	const label = "lo:lbtest"
	ip := netip.MustParseAddr("10.1.0.200")
	if err := holdAddresses(label, []netip.Addr{ip}); err != nil {
		return err
	}
	heard := false
	for deadline := time.Now().Add(5 * time.Second); !heard && time.Now().Before(deadline); {
		buf := make([]byte, 64)
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return fmt.Errorf("nothing is announced: %w", err)
		}
		heard = n >= 28 && bytes.Equal(buf[14:18], ip.AsSlice()) && bytes.Equal(buf[24:28], ip.AsSlice())
	}
	if !heard {
		return errors.New("the address is not announced")
	}
	has := func() bool {
		out, _ := exec.Command("ip", "-4", "addr", "show", "dev", "lo").Output()
		return bytes.Contains(out, []byte("10.1.0.200/32"))
	}
	if !has() {
		return errors.New("the address isn't held")
	}
	if err := holdAddresses("lo:lbother", nil); err != nil || !has() {
		return fmt.Errorf("another proxy's address was taken away: %v", err)
	}
	if err := holdAddresses(label, nil); err != nil || has() {
		return fmt.Errorf("the address isn't given up: %v", err)
	}
	return nil
}
