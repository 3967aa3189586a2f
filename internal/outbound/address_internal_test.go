package outbound

import (
	"errors"
	"net/netip"
	"testing"
)

func TestWhatIsInsideIsNotDialled(t *testing.T) {
	open := newGuard([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, true)
	closed := newGuard(nil, false)
	for address, evenIfAllowed := range map[string]bool{
		"0.0.0.0": true, "0.1.2.3": true, "::": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true,
		"169.254.169.254": true, "169.254.0.1": true, "fe80::1": true, "fd00:ec2::254": true, "168.63.129.16": true,
		"100.100.100.200": true, "192.0.0.192": true, "224.0.0.1": true, "239.1.1.1": true, "ff02::1": true, "255.255.255.255": true,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "100.64.0.1": false, "fd12::1": false,
		"fc00::1": false, "fec0::1": false, "198.18.0.1": false, "192.0.2.1": false, "203.0.113.9": false, "240.0.0.1": false,
		"2001:db8::1": false, "2001::1": false, "64:ff9b:1::7f00:1": false, "100::1": false, "192.0.0.1": false,
		// The same in other clothes.
		"::ffff:127.0.0.1": true, "::ffff:169.254.169.254": true, "::ffff:10.0.0.1": false, "64:ff9b::127.0.0.1": true,
		"64:ff9b::a9fe:a9fe": true, "64:ff9b::10.0.0.1": false, "2002:7f00:1::": true, "2002:a9fe:a9fe::1": true, "2002:a00:1::1": false,
		"::127.0.0.1": true, "::10.0.0.1": false, "64:ff9b::": true,
	} {
		addr := netip.MustParseAddr(address)
		if err := closed.check("host.example", addr); !errors.Is(err, ErrRefused) {
			t.Errorf("%s may be dialled: %v", address, err)
		}
		if err := open.check("host.example", addr); errors.Is(err, ErrRefused) != evenIfAllowed {
			t.Errorf("%s with every network allowed: %v", address, err)
		}
	}
	for _, address := range []string{"8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:8.8.8.8", "172.32.0.1", "100.128.0.1"} {
		if err := closed.check("host.example", netip.MustParseAddr(address)); err != nil {
			t.Errorf("%s may not be dialled: %v", address, err)
		}
	}
	if err := open.check("h", netip.MustParseAddr("fe80::1%eth0")); !errors.Is(err, ErrRefused) {
		t.Errorf("an address with a zone: %v", err)
	}
	if err := open.check("h", netip.Addr{}); !errors.Is(err, ErrRefused) {
		t.Errorf("no address: %v", err)
	}
}

func TestOnlyTheAllowedNetworkIsOpen(t *testing.T) {
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("10.1.2.3/16")}, false)
	for address, want := range map[string]bool{"10.1.255.1": true, "::ffff:10.1.0.1": true, "10.2.0.1": false, "192.168.0.1": false, "127.0.0.1": false} {
		if err := g.check("h", netip.MustParseAddr(address)); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestLoopbackIsForURLsThatSayIt(t *testing.T) {
	g := newGuard(nil, true)
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true, "::ffff:127.0.0.1": true,
		"evil.example": false, "localhost.evil.example": false, "127.0.0.1.nip.example": false, "10.0.0.1": false,
	} {
		if err := g.check(host, netip.MustParseAddr("127.0.0.1")); (err == nil) != want {
			t.Errorf("%s at 127.0.0.1: %v", host, err)
		}
	}
	if err := g.check("localhost", netip.MustParseAddr("10.0.0.1")); err == nil {
		t.Error("localhost at 10.0.0.1 may be dialled")
	}
}
